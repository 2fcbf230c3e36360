"""After a recovery from a lost quorum the cluster goes on as one member, and those of the old epoch are not heard."""

from __future__ import annotations

from stackd.raft.frame import Identity
from stackd.raft.membership import Membership
from stackd.raft.memory_disk import Crash, MemoryDisk
from stackd.raft.restore import recover_disk
from stackd.raft.storage import open_storage

from raft_builders import SEALER
from raft_nodes import Host, Nodes, membership_of


def recovered(nodes: Nodes, name: str) -> Host:
    """The member is stopped, recovered and started, and alone on the network."""
    host = nodes[name]
    host.node.close()
    host.disk = host.disk.after_kill()
    recover_disk(host.disk, SEALER, Identity("cluster1", name), membership_of("abc"))
    host.restart()
    return host


def test_the_recovered_member_leads_with_all_that_it_had() -> None:
    nodes = Nodes("abc")
    nodes.write(b"1", b"2")
    nodes.run(0.3)
    nodes.isolate("a", "b", "c")
    alone = recovered(nodes, "a")
    nodes.run_until(lambda: alone.node.leads)
    assert alone.data == [b"1", b"2"]
    assert alone.node.membership == Membership(epoch=1, voters=(("a", "a:1"),), index=4)
    ticket = alone.node.propose(b"3", alone.node.term)
    nodes.run_until(lambda: ticket.is_done)
    assert alone.data == [b"1", b"2", b"3"]


def test_old_members_neither_disturb_the_recovered_one_nor_learn_from_it() -> None:
    nodes = Nodes("abc")
    nodes.write(b"1")
    nodes.run(0.3)
    nodes.isolate("a", "b", "c")
    alone = recovered(nodes, "a")
    nodes.run_until(lambda: alone.node.leads)
    term = alone.node.term
    nodes.isolate("c")
    nodes.run(5.0)
    assert alone.node.leads
    assert alone.node.term == term
    ticket = alone.node.propose(b"2", term)
    nodes.run_until(lambda: ticket.is_done)
    nodes.run(2.0)
    assert nodes["b"].data == [b"1"]
    assert not nodes["b"].node.leads
    assert nodes["b"].node.membership.epoch == 0


def test_an_emptied_member_joins_the_new_epoch() -> None:
    nodes = Nodes("abc")
    nodes.write(b"1")
    nodes.run(0.3)
    nodes.isolate("a", "b", "c")
    alone = recovered(nodes, "a")
    nodes.run_until(lambda: alone.node.leads)
    for name in "bc":
        nodes[name].node.close()
        del nodes.hosts[name]
    nodes.isolate()
    ticket = alone.node.add("d", "d:1")
    nodes.run_until(lambda: ticket.is_done)
    new = nodes.host("d", alone.node.membership)
    nodes.run_until(lambda: "d" in alone.node.membership.voter_ids)
    nodes.run(0.3)
    assert new.data == [b"1"]


def test_whatever_a_crash_left_of_an_installation_can_be_recovered() -> None:
    """The log may say already that a received snapshot is there, which hasn't come to its place."""
    nodes = Nodes("abc", kept_entries=0)
    away = nodes.followers()[0]
    nodes.isolate(away.name)
    nodes.write(b"1", b"2")
    index = nodes.compact(nodes.lead())
    before = len(away.disk.journal)
    nodes.isolate()
    nodes.run_until(lambda: away.node.snapshot_index == index)
    found = set()
    for end in range(before, len(away.disk.journal) + 1):
        disk = MemoryDisk.after_crash(away.disk.journal[:end], Crash())
        recover_disk(disk, SEALER, Identity("cluster1", away.name), membership_of("abc"))
        opened = open_storage(disk, SEALER, Identity("cluster1", away.name), membership_of("abc"))
        assert opened.journal.membership.voter_ids == {away.name}
        found.add(opened.content)
    assert found == {None, b"state"}
