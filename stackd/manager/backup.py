"""Backups of a running cluster: the state as this manager has it, read while it goes on changing.

What is read is a frozen view, so a backup is the state of one moment however long it takes to send. It carries a copy of this
manager's key file: who has the backup has the cluster's key, unless autolock is on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from stackd.manager.writer import Writer
from stackd.raft.backup import pieces
from stackd.raft.consensus import Cluster, Sealer, SnapshotView


class Backups:
    """`sealer` is that of the cluster key for `Purpose.BACKUP`; `key_file` gives the content of the key file."""

    def __init__(self, writer: Writer, consensus: Cluster, sealer: Sealer, key_file: Callable[[], bytes]) -> None:
        self._writer = writer
        self._consensus = consensus
        self._sealer = sealer
        self._key_file = key_file

    async def read(self) -> AsyncIterator[bytes]:
        """The bytes of a backup, with every write in it that was acknowledged before. Raises NotLeader, StorageFailed, or
        Unavailable("raft.backup.moved")."""
        await self._writer.feed.wait_for(await self._consensus.read_barrier())
        frozen = self._writer.store.freeze()
        content = await self._consensus.content(SnapshotView(index=frozen.index, chunks=frozen.chunks))
        parts = pieces(content, self._sealer, self._key_file())
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            yield part
