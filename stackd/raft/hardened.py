"""pysyncobj, made safe: the only module that knows the library's private parts.

What runs is the library's: terms and votes, elections, taking in a leader's entries, counting what a majority has,
committing, applying. What is replaced or wrapped stands below, the reason beside each; the defects are proved in
`tests/unit/raft/test_audit_*.py`. A test compares a digest of the library's source with the one this was written for.

Python compiles the library's `self.__name` to `self._SyncObj__name`, looked up as usual, so a method of that name in a
subclass takes its place. (What is changed around the library stands in `library.py`.)

Everything happens inside the calls of one node, in its thread. Nothing sent from here leaves before the node lets it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from stackd.raft.library import Idle, Name, Post, Surroundings, SyncObj, SyncObjConf, drive
from stackd.raft.message import (
    AnyMessage,
    Append,
    Appended,
    AskPreVote,
    AskVote,
    Behind,
    LogEntry,
    PreVote,
    TakeOver,
    Vote,
)

_FOLLOWER, _CANDIDATE, _LEADER = 0, 1, 2
_AT_ONCE = -math.inf


class Hardened(SyncObj):  # type: ignore[misc]
    """The consensus of one member. It has no state machine: what is applied goes to `Surroundings.apply`."""

    _SyncObj__raftLeader: Any
    _SyncObj__raftElectionDeadline: Any

    def __init__(self, around: Surroundings, *, applied: int) -> None:
        """`applied` is the last index that has been applied already."""
        self._around = around
        self._journal = around.journal
        self.restart(applied)

    def restart(self, applied: int) -> None:
        """Begin, or begin again, with what the journal says."""
        self._pre_votes: set[str] | None = None
        self._may_campaign = False
        self._forced = False
        self._voted: tuple[int, set[str]] = (0, set())
        self._heard_leader_at = _AT_ONCE
        self._answered_round = 0
        self.drive()
        super().__init__(Name.of(self._around.me), [], self._configuration(), transport=Post(self.say))
        self._poller = Idle()
        # The library starts at 1, its first entry: it takes what lies before for applied.
        self._SyncObj__raftLastApplied = applied
        self._SyncObj__raftCommitIndex = max(applied, self._journal.getRaftCommitIndex())
        self.follow_membership()

    def _configuration(self) -> Any:
        settings = self._around.settings
        return SyncObjConf(
            autoTick=False,
            journalFile=self._journal,
            dynamicMembershipChange=False,  # membership is the journal's: see `follow_membership`
            appendEntriesPeriod=settings.heartbeat_seconds,
            raftMinTimeout=settings.election_min_seconds,
            raftMaxTimeout=settings.election_max_seconds,
            # The library's 30 s let a leader that nobody hears take orders for half a minute.
            leaderFallbackTimeout=settings.election_max_seconds,
            connectionTimeout=math.inf,
        )

    def drive(self) -> None:
        """To be called before anything else is, whenever another node may have been driven in this thread meanwhile."""
        drive(self._around.clock)

    # -- what the node asks

    def is_leading(self) -> bool:
        return bool(self._SyncObj__raftState == _LEADER)

    def term(self) -> int:
        return int(self._SyncObj__raftCurrentTerm)

    def leader(self) -> str:
        """The leader as far as it is known; "" if not."""
        leader = self._SyncObj__raftLeader
        return str(leader.id) if leader is not None else ""

    def commit_index(self) -> int:
        return int(self._SyncObj__raftCommitIndex)

    def applied_index(self) -> int:
        return int(self._SyncObj__raftLastApplied)

    def opened_at(self) -> int:
        """The index of the entry that opened the term this member leads."""
        return int(self._SyncObj__noopIDx or 0)

    def is_voter(self) -> bool:
        return self._around.me in self._journal.membership.voter_ids

    def due_at(self) -> float:
        """When `advance` has something to do though nothing has happened."""
        if self.is_leading():
            return float(self._SyncObj__newAppendEntriesTime) if self.followers() else math.inf
        return float(self._SyncObj__raftElectionDeadline) if self.is_voter() else math.inf

    def recently_heard(self) -> set[str]:
        """Whom a leader has heard from within an election timeout, itself included."""
        since = self._around.clock() - self._around.settings.election_min_seconds
        heard = {node.id for node, at in self._SyncObj__lastResponseTime.items() if at >= since}
        return heard | {self._around.me}

    # -- for the sending half (`replication.py`)

    def followers(self) -> list[str]:
        return self._followers

    def next_index(self, peer: str) -> int:
        return int(self._SyncObj__raftNextIndex[Name.of(peer)])

    def set_next_index(self, peer: str, index: int) -> None:
        self._SyncObj__raftNextIndex[Name.of(peer)] = index

    def match_index(self, peer: str) -> int:
        return int(self._SyncObj__raftMatchIndex.get(Name.of(peer), 0))

    def heard_from(self, peer: str) -> None:
        """A follower has answered something that the library doesn't know."""
        self._SyncObj__lastResponseTime[Name.of(peer)] = self._around.clock()

    # -- what the node does

    def append(self, data: bytes, kind: int) -> LogEntry:
        """Add an entry of this leader's. The library's queue would tell neither its index nor its term."""
        entry = LogEntry(data, self._journal.last.index + 1, self.term(), kind)
        self._journal.add(*entry)
        return entry

    def follow_membership(self, departing: Collection[str] = ()) -> None:
        """Take who the members are from the log. Those `departing` get entries as if they were learners.

        Replaces the library's membership changes: it never refuses a second one while the first is uncommitted, replays
        old ones at each start, counts a new member's vote at once, and reads them with pickle."""
        membership, me = self._journal.membership, self._around.me
        others = {Name.of(member) for member in sorted(membership.voter_ids) if member != me}
        learners = {Name.of(member) for member in sorted(membership.learner_ids | set(departing)) if member != me} - others
        for left in set(self._SyncObj__raftNextIndex) - others - learners:
            for known in (self._SyncObj__raftNextIndex, self._SyncObj__raftMatchIndex, self._SyncObj__lastResponseTime):
                known.pop(left, None)
        for new in (others | learners) - set(self._SyncObj__raftNextIndex):
            self._SyncObj__raftNextIndex[new] = self._journal.last.index + 1
            self._SyncObj__raftMatchIndex[new] = 0
            self._SyncObj__lastResponseTime[new] = self._around.clock()
        self._SyncObj__otherNodes, self._SyncObj__readonlyNodes = others, learners
        self._followers = sorted(node.id for node in others | learners)

    def connected(self, peer: str) -> None:
        self._SyncObj__connectedNodes.add(Name.of(peer))

    def disconnected(self, peer: str) -> None:
        self._SyncObj__connectedNodes.discard(Name.of(peer))
        if self.leader() == peer and not self.is_leading():
            # A leader whose process died is known to be gone long before its heartbeats are missed. If it isn't, the
            # others still hear it, and there are no votes.
            self._heard_leader_at = _AT_ONCE
            soon = self._around.clock() + self._around.random.uniform(0, self._around.settings.election_min_seconds / 2)
            self._SyncObj__raftElectionDeadline = min(soon, self._SyncObj__raftElectionDeadline)

    def send_heartbeats(self) -> None:
        """Don't wait until they are due: there is something to tell."""
        self._around.replicate(True)

    def advance(self) -> None:
        """The library's tick: campaign, commit, apply, send heartbeats, each if it is time."""
        self._onTick(0.0)

    def campaign(self) -> None:
        """Don't wait for the election timeout."""
        self._SyncObj__raftElectionDeadline = _AT_ONCE

    def hand_over(self, peer: str) -> None:
        """Ask a member that has the whole log to take over."""
        self._around.send(peer, TakeOver(epoch=self._epoch(), term=self.term()))

    def step_down(self) -> None:
        """Lead no longer, and let others campaign first."""
        self._SyncObj__setState(_FOLLOWER)
        self._SyncObj__raftLeader = None
        self._SyncObj__raftElectionDeadline = self._around.clock() + 2 * self._around.settings.election_max_seconds

    def installed(self, index: int) -> None:
        """A snapshot has replaced the log up to `index`."""
        self._SyncObj__raftLastApplied = index
        self._SyncObj__raftCommitIndex = max(index, self._SyncObj__raftCommitIndex)

    # -- messages

    def receive(self, peer: str, message: AnyMessage) -> None:
        """Take in a message about elections or entries."""
        if message.term < self.term() and not isinstance(message, AskPreVote | PreVote | Behind):
            # The library answers none of these, so a leader that was cut off for a while would never learn that it is one
            # no longer: its followers, who don't vote while they hear a leader, could not elect another.
            self.tell_behind(peer)
            return
        match message:
            case AskPreVote():
                self._answer_pre_vote(peer, message)
            case PreVote():
                self._count_pre_vote(peer, message)
            case AskVote():
                # Stickiness: a member that can't hear the leader must not depose it for those who can.
                if message.forced or not self._is_led():
                    self._library_receives(
                        peer,
                        {
                            "type": "request_vote",
                            "term": message.term,
                            "last_log_index": message.last_index,
                            "last_log_term": message.last_term,
                        },
                    )
            case Vote():
                self._count_vote(peer, message)
            case Append():
                self._take_entries(peer, message)
            case Appended():
                self._count_entries(peer, message)
            case Behind():
                if message.term > self.term():
                    self._SyncObj__setCurrentTerm(message.term, None)
                    self._SyncObj__setState(_FOLLOWER)
                    self._SyncObj__raftLeader = None
            case TakeOver():
                if self.is_voter() and self.leader() == peer:
                    self._library_receives(peer, {"type": "timeout_now", "term": message.term})
                    self._SyncObj__raftElectionDeadline = _AT_ONCE  # 0, in the library: not the past for every clock
            case _:
                raise ValueError(f"{type(message).__name__} is not for the library")

    def tell_behind(self, peer: str) -> None:
        self._around.send(peer, Behind(epoch=self._epoch(), term=self.term()))

    def answer_entries(self, peer: str, next_index: int, round_number: int) -> None:
        """Tell the leader that this log is its own up to `next_index`, exclusive: all of that is committed."""
        self._answered_round = round_number
        self._answer_entries(peer, next_index, success=True)

    def acknowledge_leader(self, peer: str, term: int, commit: int) -> None:
        """`peer` leads `term`. `commit` must not be above what is known to be the leader's entry too: the library applies
        up to it, though it has verified nothing."""
        self._heard_leader_at = self._around.clock()
        self._pre_votes, self._may_campaign = None, False
        self._library_receives(peer, {"type": "append_entries", "term": term, "commit_index": commit})

    def _library_receives(self, peer: str, message: dict[str, Any]) -> None:
        self._SyncObj__onMessageReceived(Name.of(peer), message)

    def say(self, peer: str, message: dict[str, Any]) -> None:
        """Send what the library sends. Every message gets its sender's term: the library's acknowledgements carry none, so
        one from an old term was counted in a later one."""
        epoch, term = self._epoch(), self.term()
        match message["type"]:
            case "request_vote":
                last = self._journal.last
                say: AnyMessage = AskVote(
                    epoch=epoch, term=term, last_index=last.index, last_term=last.term, forced=self._forced
                )
            case "response_vote":
                say = Vote(epoch=epoch, term=term)
            case "next_node_idx":
                say = Appended(
                    epoch=epoch,
                    term=term,
                    next_index=message["next_node_idx"],
                    round=self._answered_round,
                    success=message["success"],
                    reset=message["reset"],
                )
            case other:
                raise ValueError(f"the library says {other}, which nobody should have asked for")
        self._around.send(peer, say)

    # -- entries

    def _take_entries(self, peer: str, message: Append) -> None:
        """Take a leader's entries.

        The library cuts its log behind the entry before the batch, whatever follows: a late or repeated batch, or a mere
        heartbeat, removed entries that were acknowledged. So entries that are there already are skipped here, and the
        library sees only batches whose first entry is new or contradicts its own."""
        self._answered_round = message.round
        journal, entries = self._journal, message.entries
        previous, term = message.previous_index, message.previous_term
        if previous < journal.anchor.index:  # our snapshot has these: they are committed, so the leader's are the same
            entries = entries[journal.anchor.index - previous :]
            previous, term = journal.anchor.index, journal.anchor.term
        known = journal.term_at(previous)
        if known is not None and known != term:
            # The library goes back one entry at each round trip.
            self._refuse_entries(peer, message, journal.first_of_term(previous))
            return
        if known is None:
            self._refuse_entries(peer, message, journal.last.index + 1)
            return
        same = 0
        while same < len(entries) and journal.term_at(entries[same].index) == entries[same].term:
            same += 1
        if same:
            previous, term = entries[same - 1].index, entries[same - 1].term
        if same == len(entries):
            self.acknowledge_leader(peer, message.term, min(message.commit, previous))
            self._answer_entries(peer, previous + 1, success=True)
            return
        self._heard_leader_at = self._around.clock()
        self._pre_votes, self._may_campaign = None, False
        self._library_receives(
            peer,
            {
                "type": "append_entries",
                "term": message.term,
                "commit_index": message.commit,
                "prevLogIdx": previous,
                "prevLogTerm": term,
                "entries": entries[same:],
            },
        )

    def _refuse_entries(self, peer: str, message: Append, next_index: int) -> None:
        self.acknowledge_leader(peer, message.term, self.commit_index())
        self._answer_entries(peer, next_index, success=False)

    def _answer_entries(self, peer: str, next_index: int, *, success: bool) -> None:
        self.say(peer, {"type": "next_node_idx", "next_node_idx": next_index, "success": success, "reset": not success})

    def _count_entries(self, peer: str, message: Appended) -> None:
        """Only answers of this term, from members, about entries that exist: the library counts whatever comes."""
        if not self.is_leading() or message.term != self.term() or Name.of(peer) not in self._SyncObj__raftNextIndex:
            return
        if not 1 <= message.next_index <= self._journal.last.index + 1:
            return
        next_index = self.next_index(peer)
        self._library_receives(
            peer,
            {
                "type": "next_node_idx",
                "next_node_idx": message.next_index,
                "reset": message.reset,
                "success": message.success,
            },
        )
        if message.success:
            # The library goes back to what was answered, and so sends all that is under way behind it once more.
            self.set_next_index(peer, max(next_index, message.next_index))

    # -- elections

    def _onTick(self, timeToWait: float = 0.0) -> None:
        """PreVote: the library raises its term whenever it hears nobody, and so deposes the leader on coming back."""
        is_due = not self.is_leading() and self._SyncObj__raftElectionDeadline < self._around.clock()
        if not self.is_voter():
            self._SyncObj__raftElectionDeadline = math.inf  # the library knows no member without a vote
        elif is_due and not self._may_campaign and not self._SyncObj__transferInProgress:
            self._ask_pre_votes()
        self._forced = self._SyncObj__transferInProgress
        super()._onTick(timeToWait)
        if self.is_leading() or self._SyncObj__raftState == _CANDIDATE:
            self._may_campaign = False

    def _ask_pre_votes(self) -> None:
        last, next_term = self._journal.last, self.term() + 1
        self._SyncObj__raftElectionDeadline = self._around.clock() + self._SyncObj__generateRaftTimeout()
        self._pre_votes = {self._around.me}
        ask = AskPreVote(epoch=self._epoch(), term=self.term(), next_term=next_term, last_index=last.index, last_term=last.term)
        for node in self._SyncObj__otherNodes:
            self._around.send(node.id, ask)
        self._campaign_if_wanted()

    def _answer_pre_vote(self, peer: str, message: AskPreVote) -> None:
        last = self._journal.last
        if message.next_term <= self.term():
            self.tell_behind(peer)
        elif not self._is_led() and (message.last_term, message.last_index) >= (last.term, last.index):
            self._around.send(peer, PreVote(epoch=self._epoch(), term=self.term(), next_term=message.next_term))

    def _count_pre_vote(self, peer: str, message: PreVote) -> None:
        if self._pre_votes is not None and message.next_term == self.term() + 1:
            self._pre_votes.add(peer)
            self._campaign_if_wanted()

    def _campaign_if_wanted(self) -> None:
        if self._pre_votes is not None and self._journal.membership.is_quorum(self._pre_votes):
            self._pre_votes, self._may_campaign = None, True
            self._SyncObj__raftElectionDeadline = _AT_ONCE

    def _count_vote(self, peer: str, message: Vote) -> None:
        """Each voter counts once: the library counts messages."""
        if message.term != self.term() or peer not in self._journal.membership.voter_ids:
            return
        if self._voted[0] != message.term:
            self._voted = (message.term, set())
        if peer not in self._voted[1]:
            self._voted[1].add(peer)
            self._library_receives(peer, {"type": "response_vote", "term": message.term})

    def _is_led(self) -> bool:
        """Whether there is a leader that is in touch: then nobody else gets a vote."""
        if self.is_leading():
            return self._journal.membership.is_quorum(self.recently_heard())
        return bool(self.leader()) and self._around.clock() - self._heard_leader_at < self._around.settings.election_min_seconds

    def _epoch(self) -> int:
        return self._journal.membership.epoch

    # -- the library's own parts, replaced

    def _SyncObj__generateRaftTimeout(self) -> float:
        """From the node's randomness, not the process's."""
        return self._around.random.uniform(
            self._around.settings.election_min_seconds, self._around.settings.election_max_seconds
        )

    def _SyncObj__doApplyCommand(self, data: bytes) -> None:
        """The library unpickles a call and makes it; if that raises, it does so again at each tick, and sends no
        heartbeats. Here applying is handing on, and can't fail."""
        self._around.apply(self._journal.entry(self.applied_index() + 1))

    def _SyncObj__sendAppendEntries(self) -> None:
        """The sending half is `replication.py`: the library's floods a follower that waits for a snapshot, splits large
        entries in a way that its receiver can't always join (with pickle), copies the rest of the log for each batch, and
        knows no limit to what is under way."""
        self._SyncObj__newAppendEntriesTime = self._around.clock() + self._around.settings.heartbeat_seconds
        self._around.replicate(True)

    def _checkCommandsToApply(self) -> None:
        """Entries come in through `append`."""

    def _SyncObj__tryLogCompaction(self) -> None:
        """The library forks the process, or pickles everything in the tick. The node writes snapshots in the background."""

    def _SyncObj__setState(self, state: int) -> None:
        """A leader that steps down has an election deadline from before it led."""
        if self.is_leading() and state != _LEADER:
            self._SyncObj__raftElectionDeadline = self._around.clock() + self._SyncObj__generateRaftTimeout()
        super()._SyncObj__setState(state)
