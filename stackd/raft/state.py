"""What a sequence of log records amounts to: position, term and vote, commit index, snapshot. Pure.

Writer and recovery note the same records in the same object, so a record that recovery would refuse is refused before it
is written.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import assert_never

from stackd.base.records import Record as StoredRecord
from stackd.base.records import decoder, encode
from stackd.raft.frame import Kind, Record


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the log: an entry's index and term. The place before the first entry is (0, 0)."""

    index: int = 0
    term: int = 0


class _Opening(StoredRecord):
    """The body of a segment's START record: all that the segments before it would have told."""

    term: int
    vote: str
    commit: int
    terms: tuple[tuple[int, int], ...]
    """The snapshot's index and term, then the index and term of each entry that began a term since."""


_decode_opening = decoder(_Opening).decode


@dataclass(slots=True)
class LogState:
    """The log's state after the records noted so far. `term` and `vote` are the member's, not an entry's."""

    last: Position = Position()
    snapshot: Position = Position()
    term: int = 0
    vote: str = ""
    commit: int = 0
    _terms: list[Position] = field(default_factory=lambda: [Position()])
    """The snapshot, then the first entry of each term since. Short: it grows with elections, not with entries."""

    @classmethod
    def opened_by(cls, start: Record) -> LogState:
        """The state that a segment's START record describes."""
        opening = _decode_opening(start.body)
        terms = [Position(index, term) for index, term in opening.terms]
        if not terms:
            raise ValueError("the opening record names no snapshot")
        return cls(Position(start.index, start.term), terms[0], opening.term, opening.vote, opening.commit, terms)

    def opening(self) -> Record:
        """The START record of a segment that follows."""
        terms = tuple((start.index, start.term) for start in self._terms)
        body = _Opening(term=self.term, vote=self.vote, commit=self.commit, terms=terms)
        return Record(Kind.START, self.last.index, self.last.term, encode(body))

    def copy(self) -> LogState:
        return LogState(self.last, self.snapshot, self.term, self.vote, self.commit, self._terms.copy())

    def term_of(self, index: int) -> int:
        """The term of the entry at `index`. Raises ValueError if the log doesn't reach there."""
        if not self._terms[0].index <= index <= self.last.index:
            raise ValueError(f"the log doesn't hold entry {index}")
        return self._terms[bisect_right(self._terms, index, key=lambda start: start.index) - 1].term

    def note(self, record: Record) -> None:
        """Take `record` as the next one. Raises ValueError, saying why, if it can't follow."""
        match record.kind:
            case Kind.ENTRY | Kind.MEMBERS:
                self._note_entry(record.index, record.term)
            case Kind.TRUNCATE:
                self._note_truncation(record.index)
            case Kind.VOTE:
                if record.term < self.term:
                    raise ValueError(f"term {record.term} follows term {self.term}")
                self.term, self.vote = record.term, record.body.decode()
            case Kind.COMMIT:
                if record.index > self.last.index:
                    raise ValueError(f"entry {record.index} is committed, but the log ends at {self.last.index}")
                self.commit = max(self.commit, record.index)
            case Kind.SNAPSHOT:
                self._note_snapshot(Position(record.index, record.term))
            case Kind.START:
                if record != self.opening():
                    raise ValueError("the segment doesn't follow the one before it")
            case Kind.CHUNK | Kind.END:
                raise ValueError("a snapshot's record has no place in a log")
            case _:
                assert_never(record.kind)

    def _note_entry(self, index: int, term: int) -> None:
        if index != self.last.index + 1 or term < self.last.term:
            raise ValueError(f"entry {index} of term {term} follows entry {self.last.index} of term {self.last.term}")
        if term != self.last.term:
            self._terms.append(Position(index, term))
        self.last = Position(index, term)

    def _note_truncation(self, index: int) -> None:
        if not self.commit < index <= self.last.index:
            raise ValueError(f"entries from {index} on are void, but {self.commit} is committed and {self.last.index} the last")
        self.last = Position(index - 1, self.term_of(index - 1))
        while self._terms[-1].index > self.last.index:
            self._terms.pop()

    def _note_snapshot(self, position: Position) -> None:
        if position.index < self.snapshot.index:
            raise ValueError(f"a snapshot at {position.index} follows one at {self.snapshot.index}")
        if position.index <= self.last.index and self.term_of(position.index) != position.term:
            raise ValueError(f"a snapshot of term {position.term} replaces entry {position.index} of another term")
        if position.index > self.last.index:  # installed from another member: it replaces the whole log
            self.last = position
        self.snapshot = position
        self.commit = max(self.commit, position.index)
        self._terms = [position, *(start for start in self._terms if start.index > position.index)]
