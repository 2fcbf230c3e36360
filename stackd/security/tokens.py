"""Join tokens: what a new node needs to find out that it talks to the right cluster, and to be let in.

    STKN-1-<digest of the root certificate, 50 characters>-<secret, 25 characters>

Both parts are base 36, so a token survives a double click. The digest lets the joiner check the cluster before it says
anything; the secret says which role it may have. Swarm's tokens have the same parts (semantics 20). Pure but for the source
of randomness; nothing here is logged, and a token's repr hides the secret.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass

from stackd.base.errors import StackdError
from stackd.engine.parts import Role

_PREFIX = "STKN"
_VERSION = "1"
_DIGEST_LENGTH = 50
_SECRET_LENGTH = 25
_SECRET_BYTES = 16
_FORM = re.compile(rf"{_PREFIX}-(\d+)-([0-9a-z]{{{_DIGEST_LENGTH}}})-([0-9a-z]{{{_SECRET_LENGTH}}})")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A token as it is given to people. `digest` is `base36_digest` of the root certificate's SHA-256."""

    digest: str
    secret: str

    def __str__(self) -> str:
        return f"{_PREFIX}-{_VERSION}-{self.digest}-{self.secret}"

    def __repr__(self) -> str:
        return f"JoinToken({self.digest[:8]}…)"

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """Raises StackdError("security.token.bad") for what is no token, and .newer_version."""
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise StackdError(
                "security.token.bad",
                "this is not a whole join token",
                hint="print it again on a manager: stackd cluster join-token worker",
            )
        if found[1] != _VERSION:
            raise StackdError("security.token.newer_version", "the token is of a newer stackd", hint="upgrade stackd here")
        return cls(found[2], found[3])


@dataclass(frozen=True, slots=True)
class JoinSecrets:
    """The secrets of both roles, as the cluster keeps them."""

    worker: str
    manager: str

    def __repr__(self) -> str:
        return "JoinSecrets()"

    def role_of(self, secret: str) -> Role | None:
        """The role that `secret` gives, None for an unknown one. Takes equally long whatever is given."""
        given = secret.encode()
        is_worker = hmac.compare_digest(given, self.worker.encode())
        is_manager = hmac.compare_digest(given, self.manager.encode())
        return Role.MANAGER if is_manager else Role.WORKER if is_worker else None


def new_secret() -> str:
    """128 random bits."""
    return base36(int.from_bytes(secrets.token_bytes(_SECRET_BYTES)), _SECRET_LENGTH)


def base36_digest(sha256: bytes) -> str:
    """A digest of 32 bytes as a token holds it."""
    return base36(int.from_bytes(sha256), _DIGEST_LENGTH)


def base36(number: int, width: int) -> str:
    """`number` in base 36, with zeros in front up to `width` characters."""
    digits = []
    while number:
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits)).rjust(width, "0")
