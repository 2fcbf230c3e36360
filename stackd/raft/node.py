"""One member of the cluster as a driven object: no thread, no socket, no clock and no randomness of its own.

Everything comes in through arguments and calls, and happens inside `tick`; what has come of it is fetched with `take`. The
daemon drives it with a thread (`member.py`), the simulator with virtual time: it is the same class.

The order within a tick is what makes it safe. Messages are taken in and requests appended, in memory; what changed is
written; a leader sends its entries; one sync; only then do votes and acknowledgements leave. Then comes what follows from
the passing of time and from what others acknowledged: campaigns, commits, applying. Results are published when all of that
is on the medium too.

A write that fails, as on a full disk, is undone: the node goes on from what is on the medium, as after a crash. A sync that
fails ends it, and so does everything else that must not be: then `failure` says why, and nothing happens any more.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from random import Random
from typing import assert_never

from stackd.base.errors import StackdError, Unavailable
from stackd.raft.backup import Content
from stackd.raft.changes import Changes
from stackd.raft.compaction import Compaction
from stackd.raft.consensus import (
    Entry,
    Installed,
    Keyring,
    NotLeader,
    SnapshotView,
    StorageFailed,
    check_size,
)
from stackd.raft.contacts import Contacts
from stackd.raft.disk import Disk
from stackd.raft.frame import Identity, Kind
from stackd.raft.hardened import Hardened
from stackd.raft.installation import Installation
from stackd.raft.journal import Journal
from stackd.raft.library import Surroundings
from stackd.raft.membership import Membership
from stackd.raft.message import AnyMessage, Appended, LogEntry, Piece, PieceTaken, decode_message, encode_message
from stackd.raft.peers import Connected, Disconnected, PeerEvent, Peers, Received
from stackd.raft.replication import Replication
from stackd.raft.settings import DEFAULT_SETTINGS, Settings
from stackd.raft.snapshot import SnapshotJob
from stackd.raft.state import Position
from stackd.raft.storage import open_storage
from stackd.raft.tenure import Tenure
from stackd.raft.ticket import Output, Ticket
from stackd.raft.transfer import Transfer
from stackd.raft.wal import LogUnusable

log = logging.getLogger(__name__)

_A_MOMENT = 0.001
"""Added to a deadline: the library acts when it has passed, not when it is reached."""


class Node:
    """One member. All methods are for one thread, and none of them waits, but `tick` for as long as it is told."""

    def __init__(
        self,
        disk: Disk,
        keys: Keyring,
        identity: Identity,
        peers: Peers,
        *,
        initial: Membership,
        clock: Callable[[], float],
        random: Random,
        settings: Settings = DEFAULT_SETTINGS,
    ) -> None:
        """`initial` is who the members are as long as neither log nor snapshot says so: in a new directory, a cluster of one
        for who founds it, and what the leader told for who joins."""
        self.failure: StackdError | None = None
        """Why this node has ended; None while it runs."""
        self.storage_error: StorageFailed | None = None
        """Why the last write failed; None when it didn't."""
        self._disk = disk
        self._keys = keys
        self._me = identity.member
        self._identity = identity
        self._peers = peers
        self._initial = initial
        self._clock = clock
        self._random = random
        self._settings = settings
        self._is_open = False
        self._held: list[tuple[str, AnyMessage]] = []
        """Messages that leave after the next sync."""
        self._tenure = Tenure()
        self._staged: list[Entry | Installed] = []
        """Applied, but perhaps not on the medium."""
        self._published: list[Entry | Installed] = []
        self._published_index = 0
        self._synced_term = 0
        self._led_term = 0

    def open(self) -> bytes | None:
        """Read the directory; returns the snapshot's content, if there is one. Raises as `open_storage` does."""
        opened = open_storage(self._disk, self._keys, self._identity, self._initial, self._settings)
        self._journal: Journal = opened.journal
        self._snapshots = opened.snapshots
        self._published_index = self._journal.snapshot.index
        self._synced_term = self._journal.getCurrentTerm()
        if self.is_sole_voter:
            # What is on its medium is on a majority's. So it is known also while the disk is too full to open a term.
            self._journal.setRaftCommitIndex(self._journal.last.index)
        self._make_parts()
        self._changes.follow()
        self._is_open = True
        if self.is_sole_voter:
            self._raft.campaign()
        return opened.content

    def _make_parts(self) -> None:
        me, journal, clock, settings = self._me, self._journal, self._clock, self._settings
        around = Surroundings(
            me=me,
            journal=journal,
            settings=settings,
            clock=clock,
            random=self._random,
            send=self._hold,
            apply=self._apply,
            replicate=self._replicate,
        )
        self._raft = Hardened(around, applied=self._published_index)
        self._replication = Replication(self._raft, journal, self._snapshots, clock, self._peers.send)
        self._contacts = Contacts(self._raft, journal, self._replication)
        self._compaction = Compaction(journal, self._snapshots, settings)
        self._installation = Installation(self._raft, journal, self._snapshots, settings.feature_level, self._hold)
        self._transfer = Transfer(me, self._raft, journal, self._tenure, clock, settings)
        self._changes = Changes(me, self._raft, journal, self._tenure, self._peers, self._contacts, clock, settings)

    # -- to look at

    @property
    def term(self) -> int:
        return self._raft.term()

    @property
    def leads(self) -> bool:
        """Whether this member leads, and everything committed before its term is applied."""
        return self._tenure.is_deciding

    @property
    def leader(self) -> str:
        """Who leads, as far as this member knows; "" if it knows nobody."""
        return self._raft.leader()

    @property
    def last(self) -> Position:
        return self._journal.last

    @property
    def commit_index(self) -> int:
        return self._raft.commit_index()

    @property
    def applied_index(self) -> int:
        """The last entry that was published."""
        return self._published_index

    @property
    def membership(self) -> Membership:
        return self._journal.membership

    @property
    def is_sole_voter(self) -> bool:
        """Whether this member needs nobody to agree with."""
        return self.membership.voter_ids == {self._me}

    @property
    def connected(self) -> frozenset[str]:
        return frozenset(self._contacts.levels)

    @property
    def snapshot_index(self) -> int:
        return self._journal.snapshot.index

    # -- being driven

    def tick(self, timeout: float | None = 0.0, gather: Callable[[], None] | None = None) -> None:
        """Do what is to be done now, having waited up to `timeout` seconds for something to happen (None: as long as it
        takes). What `gather` asks of this node, once the wait is over, is done in the same tick. Never raises."""
        try:
            events = self._peers.poll(timeout)
            self._raft.drive()
            if gather is not None:
                gather()
            if self.failure is not None:
                return
            for event in events:
                self._handle(event)
            self._flush()
            self._raft.advance()
            self._changes.tend()
            self._transfer.go_on()
            if self._journal.changes or self._held:
                self._flush()
            self._publish()
        except StackdError as error:
            self._fail(error)
        except Exception as error:  # whatever it is, going on from a state nobody has thought of is worse
            log.exception("raft node ended by a defect")
            self._fail(StackdError("raft.node.broken", f"consensus has ended by a defect: {error!r}"))

    def due_in(self) -> float | None:
        """Seconds until there is something to do though nothing happens; None if never."""
        if self.failure is not None:
            return None
        at = min(self._raft.due_at(), self._changes.due_at(), self._transfer.due_at())
        return None if at == math.inf else max(0.0, at - self._clock()) + _A_MOMENT

    @property
    def awaits_nothing(self) -> bool:
        """Whether this member leads, everyone it speaks with has all that there is, and nobody is owed an answer: then what the
        others say can wait until it says something itself, which it does with every heartbeat."""
        last, contacts = self._journal.last.index, self._contacts.levels
        if not self._raft.is_leading() or self._published_index != last or self._tenure.reads.are_waiting:
            return False
        followers = [peer for peer in self._raft.followers() if peer in contacts]
        return self._transfer.due_at() == math.inf and all(self._raft.match_index(peer) == last for peer in followers)

    def take(self) -> Output:
        """What has been published since the last call."""
        taken = Output(self._published, self._tenure.roles, self._tenure.done)
        self._published, self._tenure.roles, self._tenure.done = [], [], []
        return taken

    def close(self) -> None:
        """Give up what is under way, and close the log. Nothing is lost that was acknowledged."""
        if self._is_open:
            if self.failure is None:
                self._fail(Unavailable("raft.closed", "the member is not running"))
            self._is_open = False
            self._journal.close()
        self._peers.close()

    # -- requests

    def propose(self, data: bytes, term: int) -> Ticket:
        """Commit `data` as an entry of `term`. The ticket has its index once it is on a majority's media and published, or
        the error NotLeader, StorageFailed, OutcomeUnknown, or raft.entry.too_large."""

        def append() -> Ticket:
            check_size(data)
            if term != self.term:
                raise NotLeader
            return self._tenure.expect(self._raft.append(data, Kind.ENTRY).index)

        return self._if_leading(append)

    def read(self) -> Ticket:
        """The ticket gets an index that is published by then, and covers every entry acknowledged before this call. Errors:
        NotLeader, also when it turns out only later that this member leads no longer."""
        return self._if_leading(self._tenure.reads.ask)

    def add(self, member: str, address: str) -> Ticket:
        """Make `member` a learner; it gets its vote by itself once it has what is committed. A member that is there already
        gets another address. Errors as for `propose`, and raft.member.change_pending."""
        return self._if_leading(lambda: self._changes.add(member, address))

    def remove(self, member: str) -> Ticket:
        """Errors as for `add`; raft.member.unknown; raft.member.leads for the leader itself; raft.member.last;
        raft.member.quorum if what remains could not agree on anything."""
        return self._if_leading(lambda: self._changes.remove(member))

    def transfer_leadership(self, to: str = "") -> Ticket:
        """Let `to`, or who has most of the log, lead. The ticket is done, with the last index, when this member leads no
        longer. Errors: NotLeader, raft.transfer.impossible, raft.transfer.failed; then this member still leads."""
        return self._if_leading(lambda: self._transfer.begin(to, self._contacts.levels.keys()))

    def _if_leading(self, ask: Callable[[], Ticket]) -> Ticket:
        try:
            if self.failure is not None:
                raise self.failure
            if not self.leads:
                raise self._why_not_leading()
            return ask()
        except StackdError as error:
            return self._tenure.refuse(Ticket(), error)

    def _why_not_leading(self) -> StackdError:
        if not self.leader and self.storage_error is not None:
            return self.storage_error
        return NotLeader(self.leader if self.leader != self._me else "")

    # -- snapshots

    def snapshot_due(self) -> bool:
        return self._compaction.is_due(self._published_index)

    def begin_snapshot(self, index: int) -> SnapshotJob | None:
        """What is to be written for a snapshot at `index`, which is published; None if there is one as new."""
        return None if self.failure is not None else self._compaction.begin(index, self._published_index)

    def content(self, view: SnapshotView) -> Content | None:
        """See Compaction."""
        return self._compaction.content(self._identity, view)

    def finish_snapshot(self, job: SnapshotJob) -> None:
        """The job's snapshot is on the medium: what it covers may go. Raises StorageFailed or LogUnusable."""
        if self.failure is not None:
            return
        try:
            self._compaction.finish(job)
        except LogUnusable as error:
            self._fail(error)
            raise

    def snapshot_failed(self) -> None:
        """Don't ask for another one at once."""
        self._compaction.failed(self._published_index)

    # -- taking in

    def _handle(self, event: PeerEvent) -> None:
        match event:
            case Connected(peer=peer, hello=hello):
                self._contacts.connected(peer, hello)
            case Received(peer=peer, message=data):
                if peer in self._contacts.levels:
                    self._receive(peer, data)
            case Disconnected(peer=peer):
                self._contacts.disconnected(peer)
            case _:
                assert_never(event)

    def _receive(self, peer: str, data: bytes) -> None:
        try:
            message = decode_message(data)
        except StackdError as error:
            log.warning("message dropped: peer=%s error=%s", peer, error)
            return
        if message.epoch != self.membership.epoch:
            return  # from before a recovery, or after one that this member missed
        match message:
            case Piece():
                self._take_piece(peer, message)
            case Appended() | PieceTaken():
                self._take_answer(peer, message)
            case _:
                self._raft.receive(peer, message)
        self._changes.follow()

    def _take_answer(self, peer: str, message: Appended | PieceTaken) -> None:
        if not self._raft.is_leading() or message.term != self.term or peer not in self._raft.followers():
            return
        self._tenure.reads.answered(peer, message.round)
        if isinstance(message, Appended):
            self._raft.receive(peer, message)
            self._replication.answered(peer, message)
        else:
            self._raft.heard_from(peer)
            self._replication.piece_taken(peer, message)

    def _take_piece(self, peer: str, piece: Piece) -> None:
        try:
            installed = self._installation.take(peer, piece)
        except StorageFailed as error:
            self._undo(error)
            return
        if installed is not None:
            self._staged.append(installed)

    # -- letting out

    def _hold(self, peer: str, message: AnyMessage) -> None:
        self._held.append((peer, message))

    def _replicate(self, heartbeat: bool) -> None:
        """Send to the followers, unless the term in which it would be is not on the medium yet: then after the sync."""
        if not self._raft.is_leading() or self._synced_term != self.term:
            return
        if self._led_term != self.term:
            self._led_term = self.term
            self._replication.begin_term()
        self._replication.send(heartbeat=heartbeat)

    def _flush(self) -> None:
        """Bring to the medium what has changed, and let out what relies on it."""
        has_changed = self._journal.changes > 0
        try:
            self._journal.write()
        except StorageFailed as error:
            self._undo(error)
            return
        self._tenure.written()
        is_new_round = self._tenure.reads.begin_round(self._replication.round + 1, self.commit_index)
        self._replication.round += is_new_round
        self._replicate(heartbeat=is_new_round)
        if has_changed:
            self._journal.sync()
            if self.storage_error is not None:
                log.info("the log can be written again")
                self.storage_error = None
        if self._synced_term != self.term:
            self._synced_term = self.term
            self._replicate(heartbeat=True)
        for peer, message in self._held:
            self._peers.send(peer, encode_message(message))
        self._held.clear()

    def _undo(self, error: StorageFailed) -> None:
        """What was to be written could not be: go back to what is there, as a crash would."""
        if self.storage_error is None:
            log.warning("nothing can be changed: reason=%s", error.message)
        self.storage_error = error
        only_requests = self._raft.is_leading() and self._tenure.unwritten == self._journal.changes
        self._journal.roll_back()
        self._tenure.not_written(error)
        if only_requests:
            # Nobody has seen them. This member may lead on; but if there are others, one of them may have room.
            if len(self.membership.voters) > 1:
                self._raft.step_down()
        else:
            self._held.clear()
            last = self._journal.last.index
            self._staged = [item for item in self._staged if item.index <= last]
            self._raft.restart(max([self._published_index, *(item.index for item in self._staged)]))
            self._contacts.tell_again()
        self._changes.undone()

    def _apply(self, entry: LogEntry) -> None:
        self._staged.append(Entry(entry.index, entry.term, entry.data if entry.kind == Kind.ENTRY else b""))

    def _publish(self) -> None:
        """What has been applied is on the medium: let it be seen, and what follows from it."""
        tenure, is_leading = self._tenure, self._raft.is_leading()
        # First of all: what another leader has put at the index of an entry of ours must not answer for it.
        if tenure.term and not (is_leading and tenure.term == self.term):
            self._end_tenure("this member stopped leading before the entry was committed")
        for item in self._staged:
            self._published_index = item.index
            tenure.applied(item.index)
        self._published += self._staged
        self._staged = []
        if is_leading and not tenure.term and self._published_index >= self._raft.opened_at():
            tenure.begin(self.term)
        for index, ticket in tenure.reads.confirmed(self._me, self.membership):
            tenure.answer(ticket, index)

    def _end_tenure(self, why: str) -> None:
        self._transfer.end()
        self._tenure.end(why, self.leader)

    def _fail(self, error: StackdError) -> None:
        """This node has ended; that somebody wanted it so is no news."""
        if error.code not in ("raft.closed", "raft.member.removed"):
            log.error("raft node has ended: code=%s reason=%s", error.code, error.message)
        self.failure = error
        self._held.clear()
        self._end_tenure(error.message)
        self._peers.set_peers({})
