"""What members say to each other: the forms of all messages, encoded with msgpack.

Each message carries its sender's term and membership epoch. Decoding is strict: a message is of exactly one of these
forms with every number in range, or it is an error of the peer's; nothing received can raise anything else.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from stackd.base.errors import StackdError
from stackd.base.records import Record, encode
from stackd.raft.frame import Kind

_Count = Annotated[int, Meta(ge=0, lt=1 << 62)]


class LogEntry(NamedTuple):
    """An entry of the log, as it lies in memory and goes to other members. The library knows the first three as command,
    index and term, in this order. `kind` is Kind.ENTRY or Kind.MEMBERS."""

    data: bytes
    index: _Count  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    term: _Count
    kind: _Count = int(Kind.ENTRY)


class Message(Record):
    """Base of all messages."""

    epoch: _Count
    term: _Count


class AskPreVote(Message, tag=1):
    """Would you vote for me in `next_term`? Changes nothing in either of the two."""

    next_term: _Count
    last_index: _Count
    last_term: _Count


class PreVote(Message, tag=2):
    """I would, as far as I know."""

    next_term: _Count


class AskVote(Message, tag=3):
    """Vote for me in this term. `forced`: my leader has asked me to take over, so don't protect it."""

    last_index: _Count
    last_term: _Count
    forced: bool = False


class Vote(Message, tag=4):
    """You have my vote in this term."""


class Append(Message, tag=5):
    """The leader's entries after the one at `previous_index`, or just its word that it leads. `round` comes back with the
    answer: it tells the leader that it still led when the round began."""

    previous_index: _Count
    previous_term: _Count
    commit: _Count
    round: _Count
    entries: tuple[LogEntry, ...] = ()


class Appended(Message, tag=6):
    """The answer. `success`: my log is yours up to `next_index`, exclusive. `reset`: it is not; go on from there."""

    next_index: _Count
    round: _Count
    success: bool
    reset: bool


class Piece(Message, tag=7):
    """Piece `number` of the leader's snapshot at `index`, whose entry was of `snapshot_term`."""

    index: _Count
    snapshot_term: _Count
    membership: bytes
    number: _Count
    data: bytes
    is_last: bool
    round: _Count


class PieceTaken(Message, tag=8):
    """The answer: of the snapshot at `index` I want piece `next_number` next."""

    index: _Count
    next_number: _Count
    round: _Count


class Behind(Message, tag=9):
    """Your term is behind mine, which this message carries."""


class TakeOver(Message, tag=10):
    """From the leader to a member that has its whole log: campaign at once."""


AnyMessage = AskPreVote | PreVote | AskVote | Vote | Append | Appended | Piece | PieceTaken | Behind | TakeOver

_decode = msgspec.msgpack.Decoder(AnyMessage).decode


def encode_message(message: AnyMessage) -> bytes:
    return encode(message)


def decode_message(data: bytes) -> AnyMessage:
    """Raises StackdError("raft.message.malformed")."""
    try:
        message: AnyMessage = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise StackdError("raft.message.malformed", f"a message of {len(data)} bytes can't be read: {exc}") from exc
    if isinstance(message, Append):
        _check_entries(message)
    return message


def _check_entries(message: Append) -> None:
    """Entries follow each other, and the one before; their terms rise up to the sender's."""
    index, term = message.previous_index, message.previous_term
    for entry in message.entries:
        index += 1
        if entry.index != index or entry.term < term or entry.kind not in (Kind.ENTRY, Kind.MEMBERS):
            raise StackdError("raft.message.malformed", f"entry {entry.index} is out of its place in a batch")
        term = entry.term
    if term > message.term:
        raise StackdError("raft.message.malformed", "a batch holds entries of a term that has not begun")
