"""A member whose software is too old is not spoken to, and one that is itself too old takes nothing in that it can't read."""

from __future__ import annotations

from stackd.base.records import encode
from stackd.raft.frame import Kind
from stackd.raft.message import Append, LogEntry, encode_message
from stackd.raft.peers import Connected, Hello, Received

from raft_nodes import Host, Nodes, membership_of


def a_follower(feature_level: int) -> Host:
    """`b`, of three, which is connected with `a` and with `c`, whose software is of level 1."""
    host = Nodes("").host("b", membership_of("abc"), feature_level=feature_level)
    for peer, level in (("a", 2), ("c", 1)):
        host.events.append(Connected(peer, Hello(node=peer, cluster="cluster1", feature_level=level)))
    host.tick()
    assert host.node.connected == {"a", "c"}
    return host


def goes_to_level_2() -> Received:
    """The leader's word for it."""
    said = membership_of("abc").at_level(2).said_at(1)
    entry = LogEntry(encode(said), 1, 1, int(Kind.MEMBERS))
    message = Append(epoch=0, term=1, previous_index=0, previous_term=0, commit=0, round=0, entries=(entry,))
    return Received("a", encode_message(message))


def test_when_the_level_goes_up_a_member_that_is_too_old_is_not_heard_any_more() -> None:
    host = a_follower(feature_level=2)
    host.events.append(goes_to_level_2())
    host.tick()
    assert host.node.membership.feature_level == 2
    assert host.node.connected == {"a"}


def test_a_member_that_is_too_old_for_the_level_ends_and_writes_nothing_of_it() -> None:
    host = a_follower(feature_level=1)
    host.events.append(goes_to_level_2())
    host.tick()
    assert host.node.failure is not None
    assert host.node.failure.code == "raft.feature_level.newer"
    host.node.close()
    host.restart()
    assert host.node.last.index == 0
    assert host.node.membership.feature_level == 1
