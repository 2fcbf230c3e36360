"""Whatever was written and wherever the machine died: a log reads back as what it acknowledged, and maybe a little more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from stackd.base.errors import StackdError
from stackd.raft.consensus import Entry
from stackd.raft.frame import Kind, Record
from stackd.raft.memory_disk import Crash, MemoryDisk, Step
from stackd.raft.recovery import Recovered

from raft_builders import a_disk_with_a_log, open_log, read

SEGMENT_BYTES = 600
"""Small, so that histories cross segments."""

NO_EXPLAIN = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
"""Explaining a failure traces every line, which takes minutes here."""

Facts = tuple[tuple[Entry, ...], int, int, str, int]
"""Entries after the snapshot, snapshot index, term, vote, commit index."""


@dataclass
class Model:
    """What a log is, in the plainest words."""

    entries: list[Entry] = field(default_factory=list)
    snapshot: int = 0
    last: int = 0
    last_term: int = 0
    term: int = 0
    vote: str = ""
    commit: int = 0

    def facts(self) -> Facts:
        return tuple(self.entries), self.snapshot, self.term, self.vote, self.commit

    def note(self, record: Record) -> None:
        if record.kind is Kind.ENTRY:
            self.entries.append(Entry(record.index, record.term, record.body))
            self.last, self.last_term = record.index, record.term
        elif record.kind is Kind.TRUNCATE:
            self.entries = [entry for entry in self.entries if entry.index < record.index]
            self.last = record.index - 1
        elif record.kind is Kind.VOTE:
            self.term, self.vote = record.term, record.body.decode()
        elif record.kind is Kind.COMMIT:
            self.commit = record.index
        elif record.kind is Kind.SNAPSHOT:
            self.entries = [entry for entry in self.entries if entry.index > record.index]
            self.snapshot, self.commit = record.index, max(self.commit, record.index)


@dataclass
class History:
    """A log's life: its disk, and after each acknowledged step the journal's length and the facts then."""

    disk: MemoryDisk
    acknowledged: list[tuple[int, Facts]]
    between: list[list[Facts]]
    """The facts after each single record of the step that follows the acknowledged one of the same place."""

    def allowed_after(self, operations: int) -> list[Facts]:
        """What a crash after so many operations of the disk may leave."""
        at = max(number for number, (length, _) in enumerate(self.acknowledged) if length <= operations)
        return [self.acknowledged[at][1], *self.between[at]]


@st.composite
def histories(draw: st.DrawFn) -> History:
    disk = a_disk_with_a_log()
    log = open_log(disk, SEGMENT_BYTES)
    model = Model()
    history = History(disk, [(len(disk.journal), model.facts())], [])
    for _ in range(draw(st.integers(1, 8))):
        records = draw(steps(model))
        facts = []
        for record in records:
            model.note(record)
            facts.append(model.facts())
        if records[0].kind is Kind.SNAPSHOT:
            log.drop_through(records[0].index)
        else:
            log.append(records)
        history.between.append(facts)
        history.acknowledged.append((len(disk.journal), model.facts()))
    history.between.append([])
    return history


@st.composite
def steps(draw: st.DrawFn, model: Model) -> list[Record]:
    choices = ["append"] * 3 + ["vote"]
    if model.last > max(model.commit, model.snapshot):
        choices += ["truncate", "commit"]
    if model.commit > model.snapshot:
        choices.append("snapshot")
    match draw(st.sampled_from(choices)):
        case "append":
            term = max(model.term, model.last_term)
            sizes = draw(st.lists(st.integers(0, 250), min_size=1, max_size=4))
            return [Record(Kind.ENTRY, model.last + n, term, b"x" * size) for n, size in enumerate(sizes, 1)]
        case "vote":
            return [Record(Kind.VOTE, term=model.term + 1, body=b"member2")]
        case "truncate":
            return [Record(Kind.TRUNCATE, draw(st.integers(max(model.commit, model.snapshot) + 1, model.last)))]
        case "commit":
            return [Record(Kind.COMMIT, draw(st.integers(model.commit + 1, model.last)))]
        case _:
            index = draw(st.integers(model.snapshot + 1, model.commit))
            return [Record(Kind.SNAPSHOT, index, next(entry.term for entry in model.entries if entry.index == index))]


def crashes(disk: MemoryDisk, operations: int) -> Iterator[MemoryDisk]:
    """What may be found after a crash at that point."""
    journal = disk.journal[:operations]
    yield MemoryDisk.after_crash(journal, Crash(keep_unsynced=True))
    yield MemoryDisk.after_crash(journal, Crash(keep_unsynced=False))
    if journal[-1].step is Step.WRITE:
        size = len(journal[-1].data)
        for torn in {0, 1, 8, 36, size // 3, size // 2, size - 1}:
            for tail in (b"", bytes(size - torn), b"\xa5" * 40):
                yield MemoryDisk.after_crash(journal, Crash(torn=min(torn, size), tail=tail))


def facts_of(recovered: Recovered) -> Facts:
    state = recovered.state
    return tuple(recovered.entries), state.snapshot.index, state.term, state.vote, state.commit


@settings(
    max_examples=40, deadline=None, phases=NO_EXPLAIN, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(histories())
def test_a_crash_at_any_write_loses_nothing_acknowledged_and_the_log_goes_on(history: History) -> None:
    created = history.acknowledged[0][0]
    for operations in range(created, len(history.disk.journal) + 1):
        allowed = history.allowed_after(operations)
        for crashed in crashes(history.disk, operations):
            found = read(crashed)
            assert facts_of(found) in allowed
            log = open_log(crashed)
            last = log.state.last
            log.append([Record(Kind.ENTRY, last.index + 1, last.term, b"next")])
            assert read(crashed).entries == [*found.entries, Entry(last.index + 1, last.term, b"next")]


@settings(
    max_examples=8, deadline=None, phases=NO_EXPLAIN, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(histories(), st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_takes_only_the_last_write(history: History, bit: int) -> None:
    disk = history.disk
    allowed = history.acknowledged[-1][1]
    before_last = [history.acknowledged[-2][1], *history.between[-2]]
    for name in disk.names():
        whole = disk.read(name)
        for at in range(0, len(whole), 3):
            disk.overwrite(name, whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
            try:
                found = facts_of(read(disk))
            except StackdError:
                continue
            assert found == allowed or found in before_last
        disk.overwrite(name, whole)
