"""On a file system that is really full: writes are refused, the state stands, and writing goes on when there is room."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from stackd.base.errors import StackdError
from stackd.raft.consensus import SnapshotView, StorageFailed
from stackd.raft.directory import open_directory
from stackd.raft.member import ClusterMember

from raft_builders import SEALER, US

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def a_member(path: Path) -> ClusterMember:
    directory = open_directory(path / "raft", SEALER, US)
    return ClusterMember(directory.disk, SEALER, directory.identity)


def fill(path: Path) -> Path:
    """Take all the room there is."""
    ballast = path / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    return ballast


def test_a_full_disk_refuses_keeps_the_state_and_goes_on_when_space_is_freed(small_disk: Path) -> None:
    async def story() -> None:
        member = a_member(small_disk)
        await member.start()
        await member.propose(b"before", 1)
        ballast = fill(small_disk)
        acknowledged, refused = [b"before"], []
        for number in range(20):
            data = b"%d" % number + b"x" * 20_000  # six of them fit into the room that the log has made in advance
            try:
                await member.propose(data, 1)
                acknowledged.append(data)
            except StorageFailed as error:
                refused.append(error.message)
        assert len(refused) > 10
        assert set(refused) == {"can't write the log: No space left on device"}
        with pytest.raises(StorageFailed):
            await member.take_snapshot(SnapshotView(2, lambda: iter([b"x" * 100_000])))
        ballast.unlink()
        await member.propose(b"after", 1)
        await member.close()

        restarted = a_member(small_disk)
        assert await restarted.start() is None
        await restarted.close()
        replayed = [entry.data async for entry in restarted.committed() if entry.data]
        assert replayed == [*acknowledged, b"after"]

    asyncio.run(story())


def test_a_directory_cannot_be_created_on_a_full_disk_but_can_when_there_is_room(small_disk: Path) -> None:
    ballast = fill(small_disk)
    with pytest.raises(StackdError):
        a_member(small_disk)
    ballast.unlink()
    a_member(small_disk)
