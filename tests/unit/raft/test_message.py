"""Messages come back as they were sent, and nothing else comes back as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stackd.base.errors import StackdError
from stackd.raft.frame import Kind
from stackd.raft.message import (
    AnyMessage,
    Append,
    Appended,
    AskPreVote,
    AskVote,
    Behind,
    LogEntry,
    Piece,
    PieceTaken,
    PreVote,
    TakeOver,
    Vote,
    decode_message,
    encode_message,
)

ENTRIES = (LogEntry(b"a", 5, 2), LogEntry(b"b", 6, 3, int(Kind.MEMBERS)))

MESSAGES: list[AnyMessage] = [
    AskPreVote(epoch=0, term=3, next_term=4, last_index=9, last_term=3),
    PreVote(epoch=0, term=3, next_term=4),
    AskVote(epoch=0, term=3, last_index=9, last_term=3, forced=True),
    Vote(epoch=0, term=3),
    Append(epoch=1, term=3, previous_index=4, previous_term=2, commit=4, round=8, entries=ENTRIES),
    Appended(epoch=1, term=3, next_index=7, round=8, success=True, reset=False),
    Piece(epoch=1, term=3, index=9, snapshot_term=2, membership=b"m", number=0, data=b"d", is_last=False, round=8),
    PieceTaken(epoch=1, term=3, index=9, next_number=1, round=8),
    Behind(epoch=1, term=3),
    TakeOver(epoch=1, term=3),
]


def an_append(*entries: LogEntry, previous_index: int = 4, previous_term: int = 2, term: int = 3) -> bytes:
    return encode_message(
        Append(
            epoch=0,
            term=term,
            previous_index=previous_index,
            previous_term=previous_term,
            commit=0,
            round=0,
            entries=entries,
        )
    )


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_was_sent(message: AnyMessage) -> None:
    assert decode_message(encode_message(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_that_is_cut_short_or_too_long_is_refused(message: AnyMessage) -> None:
    whole = encode_message(message)
    for broken in [whole[:size] for size in range(len(whole))] + [whole + b"\0"]:
        with pytest.raises(StackdError):
            decode_message(broken)


BAD_BATCHES = {
    "a gap": an_append(LogEntry(b"a", 6, 3)),
    "an entry twice": an_append(LogEntry(b"a", 5, 3), LogEntry(b"a", 5, 3)),
    "a term that goes back": an_append(LogEntry(b"a", 5, 3), LogEntry(b"a", 6, 2)),
    "a term below the one before": an_append(LogEntry(b"a", 5, 1)),
    "a term that has not begun": an_append(LogEntry(b"a", 5, 4)),
    "an unknown kind": an_append(LogEntry(b"a", 5, 3, 4)),
    "a negative number": encode_message(Behind(epoch=0, term=-1)),
    "a number beyond all counting": encode_message(Behind(epoch=0, term=1 << 62)),
}


@pytest.mark.parametrize("data", BAD_BATCHES.values(), ids=BAD_BATCHES.keys())
def test_what_no_member_would_say_is_refused(data: bytes) -> None:
    with pytest.raises(StackdError) as refused:
        decode_message(data)
    assert refused.value.code == "raft.message.malformed"


def read_or_refused(data: bytes) -> bool:
    """Whether one of the two comes of it; any other exception is the test's failure."""
    try:
        decode_message(data)
    except StackdError as error:
        return error.code == "raft.message.malformed"
    return True


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_raises_nothing_else(data: bytes) -> None:
    assert read_or_refused(data)


@given(st.sampled_from(MESSAGES), st.data())
def test_a_changed_byte_is_refused_or_makes_another_message(message: AnyMessage, data: st.DataObject) -> None:
    whole = bytearray(encode_message(message))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert read_or_refused(bytes(whole))
