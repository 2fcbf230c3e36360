"""Identifiers: 25 characters of base 36, as SwarmKit makes them.

Randomness is handed in as an `Entropy`, so decisions stay reproducible from a seed.
"""

from __future__ import annotations

from typing import NewType, Protocol

NodeId = NewType("NodeId", str)
ServiceId = NewType("ServiceId", str)
TaskId = NewType("TaskId", str)
SpecDigest = NewType("SpecDigest", str)
BlobDigest = NewType("BlobDigest", str)
RevisionId = NewType("RevisionId", str)
NetworkId = NewType("NetworkId", str)

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_LENGTH = 25


class Entropy(Protocol):
    """A source of random bits: `random.Random`, `random.SystemRandom` and a recorded list all fit."""

    def getrandbits(self, k: int, /) -> int: ...


def new_id(entropy: Entropy) -> str:
    """A fresh identifier: 17 random bytes with the top bit set, in base 36, without its first character."""
    number = entropy.getrandbits(136) | (1 << 135)
    digits: list[str] = []
    while number:
        number, digit = divmod(number, 36)
        digits.append(_ALPHABET[digit])
    digits.reverse()
    return "".join(digits[1 : _LENGTH + 1])
