"""Directories that earlier versions wrote open for ever. They lie in `tests/fixtures/raft` and are never made anew."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from stackd.raft.directory import open_directory
from stackd.raft.disk import SystemDisk
from stackd.raft.frame import Identity, Kind
from stackd.raft.member import ClusterMember
from stackd.raft.membership import Membership
from stackd.raft.storage import open_storage

from raft_builders import SEALER, US

RECORDED = Path(__file__).parents[2] / "fixtures" / "raft"


async def told_by(path: Path) -> tuple[bytes | None, list[bytes]]:
    """Snapshot and entries that a member finds."""
    directory = open_directory(path, SEALER, US)
    member = ClusterMember(directory.disk, SEALER, directory.identity)
    snapshot = await member.start()
    await member.close()
    return snapshot, [entry.data async for entry in member.committed() if entry.data]


def test_the_directory_of_a_cluster_of_one_from_before_there_were_clusters_opens(tmp_path: Path) -> None:
    path = tmp_path / "raft"
    shutil.copytree(RECORDED / "alone-1", path)
    expected = (b"state: 1 2", [b"3", b"4" * 300, b"5", b"6"])
    assert asyncio.run(told_by(path)) == expected
    assert asyncio.run(told_by(path)) == expected


def test_the_directory_of_a_follower_opens_with_its_members_its_vote_and_its_entries(tmp_path: Path) -> None:
    path = tmp_path / "raft"
    shutil.copytree(RECORDED / "follower-1", path)
    opened = open_storage(SystemDisk(path), SEALER, Identity("cluster1", "b"), Membership.sole("b"))
    assert opened.content == b"state: 1 2"
    assert [entry.data for entry in opened.journal[1:] if entry.kind == Kind.ENTRY and entry.data] == [b"3", b"4" * 300, b"5"]
    assert opened.journal.membership.voter_ids == set("abc")
    assert opened.journal.membership.learner_ids == {"d"}
    assert opened.journal.getCurrentTerm() == 2
    opened.journal.close()
