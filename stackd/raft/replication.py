"""What a leader sends to its followers: entries, heartbeats, snapshots. Takes the place of the library's sending half.

What each follower is sent follows from three states. It is *probed* as long as it isn't known where its log and ours part:
only heartbeats, whose answers tell. Then it gets *entries*, batch after batch without waiting for answers, up to a window.
If the entries it lacks are gone, it gets the *snapshot* in pieces, up to a window too. What is under way is bounded in all
of them, so a slow follower costs no memory and a lost connection little repetition.

Entries are sent only after they are in our own file, though before they are on the medium: a write that fails is undone,
and nobody must have seen what is undone.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from stackd.base.errors import StackdError
from stackd.raft.hardened import Hardened
from stackd.raft.journal import Journal
from stackd.raft.message import Append, Appended, Piece, PieceTaken, encode_message
from stackd.raft.snapshot import SnapshotReader, Snapshots

log = logging.getLogger(__name__)

BATCH_BYTES = 1024 * 1024
"""Of entries in one message; one entry more may follow."""

WINDOW_BYTES = 4 * 1024 * 1024
"""Of entries sent to one follower and not answered: what a fast link holds during a slow sync."""

WINDOW_PIECES = 8
"""Pieces of a snapshot (256 KiB each) sent to one follower and not answered."""

STALLED_SECONDS = 2.0
"""A follower that has taken no piece for this long has failed to, and gets the snapshot from its beginning."""


@dataclass(slots=True)
class _Shipment:
    """A snapshot on its way to one follower."""

    reader: SnapshotReader
    chunks: Iterator[bytes]
    following: bytes | None
    """The next piece, read ahead: the last one says so."""
    taken_at: float
    sent: int = 0
    taken: int = 0


@dataclass(slots=True)
class _Follower:
    """What is under way to one follower."""

    probing: bool = True
    window: deque[tuple[int, int]] = field(default_factory=deque)
    """Last index and size of each batch that isn't answered."""
    window_bytes: int = 0
    shipment: _Shipment | None = None

    def sent(self, last_index: int, size: int) -> None:
        self.window.append((last_index, size))
        self.window_bytes += size

    def answered(self, index: int) -> None:
        """It has everything up to `index`."""
        while self.window and self.window[0][0] <= index:
            self.window_bytes -= self.window.popleft()[1]

    def probe(self) -> None:
        self.probing = True
        self.window.clear()
        self.window_bytes = 0


class _Encoded(NamedTuple):
    """An Append message, and how many entries are in it."""

    data: bytes
    entries: int


class Replication:
    """The sending half of one node. Does something only while the node leads."""

    def __init__(
        self,
        raft: Hardened,
        journal: Journal,
        snapshots: Snapshots,
        clock: Callable[[], float],
        send: Callable[[str, bytes], None],
    ) -> None:
        self.round = 0
        """Counts up with each read barrier; sent with everything, so an answer tells which barriers it confirms."""
        self._raft = raft
        self._journal = journal
        self._snapshots = snapshots
        self._clock = clock
        self._send = send
        self._followers: dict[str, _Follower] = {}
        self._encoded: dict[tuple[int, int], _Encoded] = {}

    def connected(self, peer: str) -> None:
        self._followers[peer] = _Follower()

    def disconnected(self, peer: str) -> None:
        """What was under way is lost; it begins again where the follower's log is known to be ours."""
        self._followers.pop(peer, None)
        if self._raft.is_leading() and peer in self._raft.followers():
            self._raft.set_next_index(peer, max(self._raft.match_index(peer), self._journal.anchor.index) + 1)

    def begin_term(self) -> None:
        """This member leads from now on: it doesn't know where the log of anyone stands."""
        self._followers = {peer: _Follower() for peer in self._followers}

    def send(self, *, heartbeat: bool) -> None:
        """Send what each follower lacks and has room for; with `heartbeat`, something to each of them."""
        self._encoded.clear()
        for peer in self._raft.followers():
            follower = self._followers.get(peer)
            if follower is not None and (heartbeat or self._raft.next_index(peer) <= self._journal.written_index):
                self._send_to(peer, follower, heartbeat=heartbeat)

    def answered(self, peer: str, message: Appended) -> None:
        """The library has noted an answer; go on from it."""
        follower = self._followers.get(peer)
        if follower is None:
            return
        if message.success:
            follower.probing = False
            follower.shipment = None
            follower.answered(message.next_index - 1)
        elif follower.shipment is None:
            follower.probe()
            self._encoded.clear()
            self._send_to(peer, follower, heartbeat=True)

    def piece_taken(self, peer: str, message: PieceTaken) -> None:
        follower = self._followers.get(peer)
        shipment = follower.shipment if follower else None
        if follower is None or shipment is None or shipment.reader.position.index != message.index:
            return
        if message.next_number < shipment.taken:  # it has begun anew
            follower.shipment = None
        else:
            shipment.taken, shipment.taken_at = message.next_number, self._clock()
        self._ship(peer, follower)

    def _send_to(self, peer: str, follower: _Follower, *, heartbeat: bool) -> None:
        next_index = self._raft.next_index(peer)
        if next_index <= self._journal.anchor.index:
            self._ship(peer, follower)
            if heartbeat:
                self._append(peer, self._journal.anchor.index + 1, 0)
        elif follower.probing:
            if heartbeat:
                self._append(peer, next_index, 0)
        elif not self._send_entries(peer, follower, next_index) and heartbeat:
            self._append(peer, next_index, 0)

    def _send_entries(self, peer: str, follower: _Follower, next_index: int) -> bool:
        """Send batches as long as there are any and the window is open; returns whether there was one."""
        first = next_index
        while next_index <= self._journal.written_index and follower.window_bytes < WINDOW_BYTES:
            message = self._append(peer, next_index, BATCH_BYTES)
            next_index += message.entries
            follower.sent(next_index - 1, len(message.data))
        self._raft.set_next_index(peer, next_index)
        return next_index > first

    def _append(self, peer: str, next_index: int, batch_bytes: int) -> _Encoded:
        """Send one message with entries from `next_index` on, or none. Followers that are equally far, as they usually are,
        get the same bytes."""
        key = (next_index, batch_bytes)
        if key not in self._encoded:
            entries = tuple(self._journal.batch(next_index, batch_bytes))
            message = Append(
                epoch=self._journal.membership.epoch,
                term=self._raft.term(),
                previous_index=next_index - 1,
                previous_term=self._journal.entry(next_index - 1).term,
                commit=self._raft.commit_index(),
                round=self.round,
                entries=entries,
            )
            self._encoded[key] = _Encoded(encode_message(message), len(entries))
        encoded = self._encoded[key]
        self._send(peer, encoded.data)
        return encoded

    def _ship(self, peer: str, follower: _Follower) -> None:
        """Send as many pieces of the newest snapshot as the window has room for."""
        shipment = follower.shipment
        if shipment is None or self._clock() - shipment.taken_at > STALLED_SECONDS:
            shipment = follower.shipment = self._begin_shipment()
        if shipment is None:
            return
        try:
            while shipment.following is not None and shipment.sent - shipment.taken < WINDOW_PIECES:
                data, shipment.following = shipment.following, next(shipment.chunks, None)
                self._send(peer, encode_message(self._piece(shipment, data)))
                shipment.sent += 1
        except (OSError, StackdError) as error:  # OSError: a newer snapshot has replaced it
            log.info("snapshot begun anew: peer=%s error=%s", peer, error)
            follower.shipment = None

    def _begin_shipment(self) -> _Shipment | None:
        try:
            reader = self._snapshots.reader()
            if reader is None:
                return None
            chunks = reader.chunks()
            return _Shipment(reader, chunks, next(chunks, b""), self._clock())
        except (OSError, StackdError) as error:
            log.error("snapshot can't be sent: error=%s", error)
            return None

    def _piece(self, shipment: _Shipment, data: bytes) -> Piece:
        return Piece(
            epoch=self._journal.membership.epoch,
            term=self._raft.term(),
            index=shipment.reader.position.index,
            snapshot_term=shipment.reader.position.term,
            membership=shipment.reader.membership,
            number=shipment.sent,
            data=data,
            is_last=shipment.following is None,
            round=self.round,
        )
