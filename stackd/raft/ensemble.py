"""The reference model of consensus among several members: one list of committed entries, and members that see it late.

It plays what a client of consensus can see of elections, crashes, lagging followers and a leader that is cut off from the
majority, and none of how members agree: the committed entries are one Python list. Time passes only through the running
loop and chance comes from a generator that is handed in, so a history is repeatable under a virtual clock.

The invariant: what was acknowledged is in the list and stays there. A proposal whose leader goes away before it is
acknowledged ends with OutcomeUnknown; the next leader finds it in the log or doesn't.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from stackd.base.errors import Unavailable
from stackd.raft.channel import Announcements, Channel
from stackd.raft.consensus import Entry, Leadership, NotLeader, OutcomeUnknown, SnapshotView, StorageFailed, check_size


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take, in seconds. Pairs are the bounds of a random choice: `lag` until a follower hears of a commit,
    `election` until the others notice that their leader is gone, and until a leader notices that it is alone."""

    commit_seconds: float = 0.0
    lag_seconds: tuple[float, float] = (0.0, 0.0)
    election_seconds: tuple[float, float] = (0.4, 0.9)
    snapshot_entries: int = 10_000


@dataclass(slots=True)
class MemberDisk:
    """What survives a member's restart: the log up to `position`. `full` makes every write fail."""

    snapshot_index: int = 0
    snapshot: bytes | None = None
    position: int = 0
    full: bool = False


@dataclass(slots=True)
class _Proposal:
    """An entry on its way to a majority. `may_survive`: others may have it though its proposer will never know."""

    by: EnsembleMember
    term: int
    data: bytes
    due: float
    may_survive: bool
    outcome: asyncio.Future[int]


@dataclass(slots=True)
class Ensemble:
    """All members. `entries` is every committed entry, entry N at N - 1; `leader` the latest one to be elected."""

    names: Sequence[str]
    chance: random.Random
    pace: Pace = Pace()
    entries: list[Entry] = field(default_factory=list)
    term: int = 0
    leader: str = ""
    disks: dict[str, MemberDisk] = field(init=False)
    _members: dict[str, EnsembleMember] = field(default_factory=dict)
    _cut: set[str] = field(default_factory=set)
    _under_way: list[_Proposal] = field(default_factory=list)
    _election: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.disks = {name: MemberDisk() for name in self.names}

    @property
    def last_index(self) -> int:
        return len(self.entries)

    def member(self, name: str) -> EnsembleMember:
        """The next life of a member, from what the one before left on its disk."""
        member = self._members[name] = EnsembleMember(self, name)
        return member

    # What goes wrong.

    def cut(self, name: str) -> None:
        """Separate a member from all others."""
        self._cut.add(name)
        self.look()

    def join(self, name: str) -> None:
        """End the separation. The member hears at once what has happened since."""
        self._cut.discard(name)
        if (member := self._open(name)) and member.leads and member.term < self.term:
            member.step_down()
        self.look()

    def is_cut(self, name: str) -> bool:
        return name in self._cut

    def leader_of(self, name: str) -> str:
        """The leader that a member is in touch with; "" if there is none."""
        leader = self._open(self.leader)
        is_there = leader is not None and leader.leads and not {name, self.leader} & self._cut
        return self.leader if is_there else ""

    def set_full(self, name: str, full: bool) -> None:
        """Make a member's disk refuse every write, or take them again."""
        self.disks[name].full = full
        self.look()

    def depose(self, successor: str = "") -> None:
        """Elect another leader (the same one, if it is alone) while nothing is wrong with the present one."""
        candidates = self._candidates()
        others = [name for name in candidates if name != self.leader] or candidates
        if len(candidates) >= self._majority:
            self._crown(successor if successor in candidates else self.chance.choice(others))

    # Elections.

    @property
    def _majority(self) -> int:
        return len(self.names) // 2 + 1

    def _open(self, name: str) -> EnsembleMember | None:
        member = self._members.get(name)
        return member if member is not None and member.is_open else None

    def _candidates(self) -> list[str]:
        """Who can be reached and can write."""
        return [name for name in self.names if self._open(name) and name not in self._cut and not self.disks[name].full]

    def has_quorum(self, name: str) -> bool:
        """Whether the member is in touch with a majority, itself included; its own disk doesn't count, it notices by
        itself that it can't write."""
        if self._open(name) is None or (name in self._cut and len(self.names) > 1):
            return False
        return len({*self._candidates(), name}) >= self._majority

    @property
    def is_led(self) -> bool:
        """Whether the latest leader leads, and can commit."""
        leader = self._open(self.leader)
        return leader is not None and leader.leads and self.has_quorum(self.leader)

    def look(self) -> None:
        """Something has changed: pass on what can be passed on, and get an election under way if one is needed."""
        for name in self.names:
            if member := self._open(name):
                self._tell_later(member)
                if member.leads and not self.has_quorum(name):
                    self._later(self.pace.election_seconds, member.step_down_if_alone)
        self._commit_due(asyncio.get_running_loop().time())
        if self.is_led:
            self._members[self.leader].answer_barriers()
        elif self._election is None and len(self._candidates()) >= self._majority:
            self._election = self._later(self.pace.election_seconds, self._elect)

    def _later(self, bounds: tuple[float, float], action: object) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self.chance.uniform(*bounds), action)  # type: ignore[arg-type]

    def _elect(self) -> None:
        self._election = None
        if self.is_led:
            return
        if len(candidates := self._candidates()) >= self._majority:
            self._crown(self.chance.choice(candidates))

    def _crown(self, name: str) -> None:
        """A member is elected: a new term opens with its empty entry, after what the log holds of the terms before."""
        former = self._open(self.leader)
        self._resolve_under_way()
        self.term += 1
        self.leader = name
        if former is not None and former.leads and not self.is_cut(former.name):
            former.step_down()
        self._append(self.term, b"")
        self._members[name].lead(self.term)
        self.look()

    def _resolve_under_way(self) -> None:
        """What former leaders proposed and nobody acknowledged: the first few reached the new leader, the rest is lost."""
        candidates = [one for one in self._under_way if one.may_survive]
        for proposal in candidates[: self.chance.randint(0, len(candidates))]:
            self._append(proposal.term, proposal.data)
        self._under_way.clear()

    # Entries.

    def propose(self, member: EnsembleMember, data: bytes) -> asyncio.Future[int]:
        """Send an entry of the leader on its way; its index comes once it is committed."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self.pace.commit_seconds
        proposal = _Proposal(member, member.term, data, due, self.has_quorum(member.name), loop.create_future())
        member.unanswered.append(proposal.outcome)
        if member.term == self.term:  # else there is another leader already, and the member will hear of it
            self._under_way.append(proposal)
            loop.call_at(due, self._commit_due, due)
        return proposal.outcome

    def _commit_due(self, now: float) -> None:
        """Commit what is due at `now`. A timer says itself when that is: a loop may fire it a little early."""
        while self._under_way and self._under_way[0].due <= now:
            proposal = self._under_way[0]
            if proposal.term != self.term or not proposal.by.leads or not self.has_quorum(proposal.by.name):
                return
            del self._under_way[0]
            if self.disks[proposal.by.name].full:
                settle([proposal.outcome], StorageFailed("the log is full"))
            else:
                settle([proposal.outcome], self._append(proposal.term, proposal.data))

    def _append(self, term: int, data: bytes) -> int:
        self.entries.append(Entry(self.last_index + 1, term, data))
        for name in self.names:
            if (member := self._open(name)) is None:
                continue
            if name == self.leader and not self.disks[name].full:
                member.catch_up()
            else:
                self._tell_later(member)
        return self.last_index

    def _tell_later(self, member: EnsembleMember) -> None:
        """Let a follower know, after a while, of what is committed by now."""
        if member.delivered < self.last_index and not member.is_told:
            member.is_told = True
            self._later(self.pace.lag_seconds, member.hear)


class EnsembleMember:
    """One life of one member: the `Consensus` port. `crash` is a kill."""

    def __init__(self, ensemble: Ensemble, name: str) -> None:
        self.name = name
        self.term = 0
        self.is_open = False
        self.delivered = 0
        self.is_told = False
        self._ensemble = ensemble
        self._disk = ensemble.disks[name]
        self._committed: Channel[Entry] = Channel()
        self._role = Announcements(Leadership(0, is_leader=False))
        self.unanswered: list[asyncio.Future[int]] = []
        self._barriers: list[asyncio.Future[int]] = []

    @property
    def leads(self) -> bool:
        """Whether the member believes that it leads."""
        return self.is_open and self._role.present.is_leader

    @property
    def known_leader(self) -> str:
        """The name of the leader, as far as this member knows; "" if it knows of none or is not in touch with it."""
        return self._ensemble.leader_of(self.name) if self.is_open else ""

    async def start(self) -> bytes | None:
        self.delivered = self._disk.snapshot_index
        self._deliver(self._disk.position)
        self.is_open = True
        if len(self._ensemble.names) == 1:
            self._ensemble.depose()
        else:
            self._ensemble.look()
        return self._disk.snapshot

    async def propose(self, data: bytes, term: int) -> int:
        check_size(data)
        self._check_leads(term)
        self.unanswered = [one for one in self.unanswered if not one.done()]
        return await self._ensemble.propose(self, data)

    async def read_barrier(self) -> int:
        self._check_leads(self.term)
        if self._ensemble.has_quorum(self.name):
            return self._ensemble.last_index
        barrier: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._barriers.append(barrier)
        return await barrier

    def leadership(self) -> AsyncIterator[Leadership]:
        return self._role.follow()

    def committed(self) -> AsyncIterator[Entry]:
        return self._committed.items()

    def snapshot_due(self) -> bool:
        return self.delivered - self._disk.snapshot_index >= self._ensemble.pace.snapshot_entries

    async def take_snapshot(self, view: SnapshotView) -> None:
        if view.index <= self._disk.snapshot_index:
            return
        if self._disk.full:
            raise StorageFailed("the log is full")
        self._disk.snapshot, self._disk.snapshot_index = b"".join(view.chunks()), view.index

    async def close(self) -> None:
        self.crash()

    def crash(self) -> None:
        """Stop at once, as a killed process does."""
        if not self.is_open:
            return
        self.is_open = False
        settle(self.unanswered, OutcomeUnknown("the member stopped while the entry was being written"))
        settle(self._barriers, Unavailable("raft.closed", "the member is not running"))
        self._committed.end()
        self._role.end()
        self._ensemble.look()

    # What the ensemble tells the member.

    def lead(self, term: int) -> None:
        self.term = term
        self.catch_up()
        self._role.announce(Leadership(term, is_leader=True))

    def step_down(self) -> None:
        """Lead no longer; nobody will say what became of what was proposed."""
        if self.leads:
            self._role.announce(Leadership(self.term, is_leader=False))
            settle(self.unanswered, OutcomeUnknown("leadership was lost while the entry was being written"))
            settle(self._barriers, NotLeader())

    def step_down_if_alone(self) -> None:
        """The time is over within which a leader has to hear from a majority."""
        if self.leads and not self._ensemble.has_quorum(self.name):
            self.step_down()
            self._ensemble.look()

    def hear(self) -> None:
        """A message about commits has come, if it can."""
        self.is_told = False
        if self.is_open and not self._ensemble.is_cut(self.name) and not self._disk.full:
            self.catch_up()

    def catch_up(self) -> None:
        """Take over everything committed."""
        self._disk.position = self._ensemble.last_index
        self._deliver(self._disk.position)

    def answer_barriers(self) -> None:
        """A majority can be reached again."""
        settle(self._barriers, self._ensemble.last_index)

    def _deliver(self, to: int) -> None:
        for entry in self._ensemble.entries[self.delivered : to]:
            self._committed.put(entry)
        self.delivered = max(self.delivered, to)

    def _check_leads(self, term: int) -> None:
        if not self.is_open:
            raise Unavailable("raft.closed", "the member is not running")
        if not self.leads or self.term != term:
            if self._disk.full and not self.leads and not self._ensemble.is_led:
                raise StorageFailed("the log is full")
            raise NotLeader(self.known_leader)


def settle(questions: list[asyncio.Future[int]], answer: int | Exception) -> None:
    """Answer everyone who still waits, and forget them all."""
    for question in questions:
        if not question.done():
            if isinstance(answer, int):
                question.set_result(answer)
            else:
                question.set_exception(answer)
    questions.clear()
