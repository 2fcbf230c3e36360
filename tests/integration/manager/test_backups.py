"""A backup of a running cluster holds every write that was acknowledged before it was asked for, and can be restored."""

from __future__ import annotations

import asyncio
from pathlib import Path

from stackd.api.cluster import UpdateNodeRequest
from stackd.api.control import Empty
from stackd.engine.parts import Role
from stackd.engine.store import Store
from stackd.engine.view import View
from stackd.raft.backup import key_file_in, open_backup, store_backup
from stackd.raft.directory import open_directory
from stackd.raft.frame import Identity, Kind
from stackd.raft.member import ClusterMember
from stackd.raft.restore import restore
from stackd.security.keys import Purpose

from manager_cluster import ANN, CLUSTER, Hosts, play
from raft_builders import SEALER


def labels(view: View) -> dict[str, str]:
    node = view.nodes.get("first")
    assert node is not None
    return dict(node.labels)


def test_a_running_cluster_is_backed_up_and_restored(tmp_path: Path) -> None:
    path = tmp_path / "cluster.backup"

    async def story(hosts: Hosts) -> None:
        await hosts.found()
        await hosts.join(Role.MANAGER)
        manager = (await hosts.leader()).manager
        await manager.cluster.update_node(UpdateNodeRequest(name="first", labels={"disk": "ssd"}), ANN)
        before = manager.writer.store.index
        parts = [piece.data async for piece in manager.cluster.backup(Empty(), ANN)]
        await asyncio.to_thread(store_backup, path, parts)
        sealer = hosts.key.sealer(Purpose.BACKUP)
        with open_backup(path, sealer) as backup:
            assert backup.identity.cluster == CLUSTER
            assert backup.position.index >= before
            assert backup.membership.voter_ids == {host.node_id for host in hosts.hosts}
        assert key_file_in(path) == b"a key file"
        identity = restore(path, tmp_path / "raft", SEALER, sealer, "another")
        assert identity == Identity(CLUSTER, "another")

    play(story)
    asyncio.run(_goes_on(tmp_path / "raft"))


async def _goes_on(path: Path) -> None:
    """The restored member is alone, leads, and has the state."""
    directory = open_directory(path, SEALER, Identity(CLUSTER, "another"))
    member = ClusterMember(directory.disk, SEALER, directory.identity)
    snapshot = await member.start()
    try:
        assert snapshot is not None
        assert labels(Store.restore(snapshot).view) == {"disk": "ssd"}
        assert [one.node for one in await member.members()] == ["another"]
    finally:
        await member.close()


def test_what_is_written_meanwhile_is_not_in_the_backup(tmp_path: Path) -> None:
    async def story(hosts: Hosts) -> None:
        await hosts.found()
        manager = (await hosts.leader()).manager
        stream = manager.cluster.backup(Empty(), ANN)
        parts = [(await anext(stream)).data]
        await manager.cluster.update_node(UpdateNodeRequest(name="first", labels={"late": "yes"}), ANN)
        parts += [piece.data async for piece in stream]
        store_backup(tmp_path / "b", parts)
        with open_backup(tmp_path / "b", hosts.key.sealer(Purpose.BACKUP)) as backup:
            content = b"".join(backup.chunks())
            assert not [entry for entry in backup.entries() if entry.kind is Kind.ENTRY]
        assert labels(Store.restore(content).view) == {}
        assert labels(manager.writer.view) == {"late": "yes"}

    play(story)
