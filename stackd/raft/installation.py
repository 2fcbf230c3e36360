"""A snapshot that the leader sends: pieces in order, straight to disk, never whole in memory, and then in place of the log.

A snapshot that is no newer than what is committed here is answered with that. Pieces that come out of order, or from
another term, aren't taken; the answer always says which one is wanted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from stackd.base.errors import StackdError
from stackd.raft.consensus import Installed
from stackd.raft.disk import reason
from stackd.raft.hardened import Hardened
from stackd.raft.journal import Journal
from stackd.raft.membership import Membership, check_level, decode_membership
from stackd.raft.message import AnyMessage, Piece, PieceTaken
from stackd.raft.snapshot import Snapshots, SnapshotWriter
from stackd.raft.state import Position
from stackd.raft.wal import LogUnusable

log = logging.getLogger(__name__)


class Installation:
    """At most one snapshot on its way in."""

    def __init__(
        self,
        raft: Hardened,
        journal: Journal,
        snapshots: Snapshots,
        feature_level: int,
        hold: Callable[[str, AnyMessage], None],
    ) -> None:
        """`hold` sends an answer after the next sync."""
        self._raft = raft
        self._journal = journal
        self._snapshots = snapshots
        self._feature_level = feature_level
        self._hold = hold
        self._writer: SnapshotWriter | None = None
        self._source: tuple[str, int] = ("", 0)
        self._next_number = 0

    def take(self, peer: str, piece: Piece) -> Installed | None:
        """Take a piece, and install the snapshot if it was the last one. Raises StorageFailed if the log couldn't be written
        (the journal must be rolled back), LogUnusable, and StackdError for a snapshot that this member can't use."""
        if piece.term < self._raft.term():
            self._raft.tell_behind(peer)
            return None
        self._raft.acknowledge_leader(peer, piece.term, self._raft.commit_index())
        installed = None
        if piece.index > self._raft.commit_index():
            try:
                is_whole = self._write(peer, piece)
            except OSError as error:
                log.warning("snapshot can't be received: index=%d error=%s", piece.index, reason(error))
                self._abandon()
                return None
            if not is_whole:
                self._ask_for_next(peer, piece)
                return None
            installed = self._install(piece)
        self._abandon()
        self._raft.answer_entries(peer, self._raft.commit_index() + 1, piece.round)
        return installed

    def _write(self, peer: str, piece: Piece) -> bool:
        """Write the piece if it is the one that is wanted; returns whether the snapshot is whole and on the medium, under a
        name of its own. Raises OSError."""
        position = Position(piece.index, piece.snapshot_term)
        if self._writer is None or self._writer.position != position or self._source != (peer, piece.term):
            self._abandon()
            if piece.number > 0:
                return False
            self._writer = self._snapshots.receive(position, piece.membership)
            self._source = (peer, piece.term)
        if piece.number != self._next_number:
            return False
        if piece.data:
            self._writer.add(piece.data)
        if piece.is_last:
            self._writer.finish()
            self._writer = None
        self._next_number += 1
        return piece.is_last

    def _ask_for_next(self, peer: str, piece: Piece) -> None:
        answer = PieceTaken(
            epoch=piece.epoch, term=piece.term, index=piece.index, next_number=self._next_number, round=piece.round
        )
        self._hold(peer, answer)

    def _install(self, piece: Piece) -> Installed:
        """First the log says that the snapshot replaces what is here; then it gets its place. The next start ends what fails
        between the two."""
        membership = _membership_in(piece)
        check_level(membership, self._feature_level)
        self._journal.install(Position(piece.index, piece.snapshot_term), membership)
        try:
            self._snapshots.adopt_received(piece.index)
            self._snapshots.remove_before(piece.index)
            snapshot = self._snapshots.latest()
        except OSError as error:
            raise LogUnusable(reason(error)) from error
        self._raft.installed(piece.index)
        return Installed(piece.index, snapshot.content if snapshot else b"")

    def _abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
        self._writer, self._next_number = None, 0


def _membership_in(piece: Piece) -> Membership:
    try:
        return decode_membership(piece.membership)
    except msgspec.DecodeError as exc:
        raise StackdError("raft.membership.damaged", f"the leader's snapshot names no members: {exc}") from exc
