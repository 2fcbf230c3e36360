"""A member that is too far behind gets the leader's snapshot, in pieces, and goes on from it."""

from __future__ import annotations

import errno

import pytest
from stackd.base.errors import StackdError
from stackd.base.records import encode
from stackd.raft.consensus import Entry, Installed
from stackd.raft.memory_disk import Crash, MemoryDisk, Operation, Step
from stackd.raft.message import Append, Appended, Piece, PieceTaken, decode_message, encode_message
from stackd.raft.peers import Received
from stackd.raft.replication import WINDOW_PIECES
from stackd.raft.snapshot import CHUNK_BYTES

from raft_nodes import Host, Nodes

LARGE = bytes(range(256)) * 12 * 1024  # 12 pieces


def behind(content: bytes = LARGE) -> tuple[Nodes, Host, Host, int]:
    """A cluster whose leader has only a snapshot of what one follower lacks; the follower is still cut off."""
    nodes = Nodes("abc", kept_entries=0)
    nodes.write(b"1")
    leader, away = nodes.lead(), nodes.followers()[0]
    nodes.run(0.2)
    nodes.isolate(away.name)
    nodes.write(b"2", b"3")
    index = nodes.compact(leader, content)
    nodes.write(b"4")
    return nodes, leader, away, index


def test_a_member_that_is_too_far_behind_installs_the_leader_s_snapshot_and_goes_on() -> None:
    nodes, leader, away, index = behind()
    nodes.isolate()
    nodes.run_until(lambda: away.node.applied_index == leader.node.applied_index)
    assert away.items[-2:] == [Installed(index, LARGE), Entry(index + 1, 1, b"4")]
    assert away.data == [b"1", b"4"]


def test_an_installed_snapshot_is_there_after_a_power_cut() -> None:
    nodes, leader, away, index = behind()
    nodes.isolate()
    nodes.run_until(lambda: away.node.applied_index == leader.node.applied_index)
    away.restart(kill=False)
    assert away.content == LARGE
    assert away.node.snapshot_index == index
    assert away.node.membership == leader.node.membership


def test_only_a_window_of_pieces_is_under_way() -> None:
    nodes, leader, _, _ = behind()
    nodes.isolate()
    leader.sent.clear()
    nodes.run_until(lambda: any(isinstance(message, Piece) for message in map(decode_message, leader.sent)))
    pieces = [message for message in map(decode_message, leader.sent) if isinstance(message, Piece)]
    assert [piece.number for piece in pieces] == list(range(WINDOW_PIECES))
    assert all(len(piece.data) <= CHUNK_BYTES for piece in pieces)


def test_the_leader_keeps_its_followers_calm_while_it_sends_a_snapshot() -> None:
    nodes, leader, away, _ = behind(LARGE * 2)
    nodes.isolate()
    nodes.run_until(lambda: away.node.applied_index == leader.node.applied_index, seconds=30.0)
    assert leader.node.leads
    assert {host.node.term for host in nodes.hosts.values()} == {1}


def test_a_transfer_that_breaks_off_begins_anew() -> None:
    nodes, leader, away, index = behind()
    nodes.isolate()
    nodes.run_until(lambda: away.node._installation._next_number >= 3)
    nodes.isolate(away.name)
    nodes.run(0.1)
    nodes.isolate()
    nodes.run_until(lambda: away.node.applied_index == leader.node.applied_index)
    assert Installed(index, LARGE) in away.items


def test_a_newer_snapshot_takes_the_place_of_one_that_is_being_sent() -> None:
    nodes, leader, away, _ = behind()
    nodes.isolate()
    nodes.run_until(lambda: away.node._installation._next_number >= 3)
    newer = nodes.compact(leader, b"newer")
    nodes.run_until(lambda: away.node.applied_index == leader.node.applied_index)
    assert Installed(newer, b"newer") in away.items


def test_a_follower_whose_disk_is_full_gets_the_snapshot_when_there_is_room() -> None:
    nodes, leader, away, index = behind()
    away.disk.capacity_bytes = 3 * CHUNK_BYTES
    nodes.isolate()
    nodes.run(1.0)
    assert away.node.failure is None
    assert not any(isinstance(item, Installed) for item in away.items)
    away.disk.capacity_bytes = None
    nodes.run_until(lambda: away.node.applied_index == leader.node.applied_index)
    assert Installed(index, LARGE) in away.items


def answers(follower: Host, *pieces: Piece) -> list[object]:
    """What the follower says to these pieces from its leader."""
    follower.sent.clear()
    follower.events += [Received(follower.node.leader, encode_message(piece)) for piece in pieces]
    follower.tick()
    return [decode_message(message) for message in follower.sent]


def a_piece(host: Host, *, index: int = 50, number: int = 0, term: int = 1, is_last: bool = False) -> Piece:
    return Piece(
        epoch=0,
        term=term,
        index=index,
        snapshot_term=1,
        membership=encode(host.node.membership),
        number=number,
        data=b"piece",
        is_last=is_last,
        round=7,
    )


def settled() -> tuple[Nodes, Host]:
    nodes = Nodes("abc")
    nodes.write(b"1", b"2")
    nodes.run(0.3)
    return nodes, nodes.followers()[0]


def test_a_snapshot_that_is_no_newer_than_what_is_committed_is_not_installed() -> None:
    _, follower = settled()
    stale = answers(follower, a_piece(follower, index=2, is_last=True))
    assert stale == [Appended(epoch=0, term=1, next_index=4, round=7, success=True, reset=False)]
    assert follower.node.snapshot_index == 0


def test_a_piece_out_of_its_order_is_not_taken_and_the_right_one_is_asked_for() -> None:
    _, follower = settled()
    said = answers(follower, a_piece(follower), a_piece(follower, number=2), a_piece(follower, number=1))
    assert [answer.next_number for answer in said if isinstance(answer, PieceTaken)] == [1, 1, 2]


def test_a_piece_in_the_middle_of_an_unknown_snapshot_asks_for_its_beginning() -> None:
    _, follower = settled()
    assert answers(follower, a_piece(follower, number=5))[0] == PieceTaken(epoch=0, term=1, index=50, next_number=0, round=7)


def test_a_piece_of_an_older_term_is_refused() -> None:
    _, follower = settled()
    (answer,) = answers(follower, a_piece(follower, term=0))
    assert not isinstance(answer, Appended | PieceTaken)


def test_a_snapshot_replaces_a_tail_that_contradicts_it() -> None:
    nodes, leader, away, _ = behind()
    tail = Append(epoch=0, term=1, previous_index=2, previous_term=1, commit=0, round=0, entries=((b"x", 3, 1),))  # type: ignore[arg-type]
    away.events.append(Received(leader.name, encode_message(tail)))
    nodes.isolate()
    nodes.run_until(lambda: away.node.applied_index == leader.node.applied_index)
    assert away.node.last == leader.node.last


def test_an_installation_that_a_crash_interrupts_has_happened_or_has_not() -> None:
    nodes, leader, away, index = behind(b"the state")
    began = len(away.disk.journal)
    nodes.isolate()
    nodes.run_until(lambda: away.node.applied_index == leader.node.applied_index)
    whole, outcomes = away.disk, set()
    for count in range(began, len(whole.journal)):
        away.disk = MemoryDisk.after_crash(whole.journal[:count], Crash(keep_unsynced=count % 2 == 0))
        away.start()
        outcomes.add((away.node.snapshot_index, away.content))
        away.node.close()
    assert outcomes == {(0, None), (index, b"the state")}


def test_a_snapshot_of_ours_leaves_entries_for_those_that_are_a_little_behind() -> None:
    nodes = Nodes("abc", kept_entries=10)
    away = nodes.followers()[0]
    nodes.write(*(b"%d" % number for number in range(50)))
    nodes.run(0.2)
    nodes.isolate(away.name)
    nodes.write(b"x", b"y")
    nodes.compact(nodes.lead())
    nodes.isolate()
    nodes.run_until(lambda: away.node.applied_index == nodes.lead().node.applied_index)
    assert not any(isinstance(item, Installed) for item in away.items)


def test_the_membership_comes_with_the_snapshot() -> None:
    nodes = Nodes("abc", kept_entries=0)
    leader = nodes.lead()
    ticket = leader.node.add("d", "d:1")
    nodes.run_until(lambda: ticket.is_done)
    new = nodes.host("d", leader.node.membership)
    nodes.run_until(lambda: "d" in leader.node.membership.voter_ids)
    nodes.run(0.3)
    nodes.compact(new)
    new.restart()
    assert new.node.membership == leader.node.membership


def test_a_leader_whose_snapshot_is_damaged_does_not_send_it_and_does_not_end() -> None:
    nodes, leader, away, _ = behind()
    name = next(name for name in leader.disk.names() if name.startswith("snapshot-"))
    whole = leader.disk.read(name)
    leader.disk.overwrite(name, whole[:2000] + b"\0" + whole[2001:])
    nodes.isolate()
    nodes.run(1.0)
    assert leader.node.failure is None
    assert not any(isinstance(item, Installed) for item in away.items)


def test_an_installation_that_the_disk_interrupts_ends_the_node_and_is_completed_at_the_next_start() -> None:
    nodes, _, away, _ = behind(b"the state")

    def fail(operation: Operation) -> None:
        if operation.step is Step.RENAME and operation.new_name.startswith("snapshot-"):
            raise OSError(errno.EIO, "input/output error")

    away.disk.fail = fail
    nodes.isolate()
    nodes.run_until(lambda: away.node.failure is not None)
    assert away.node.failure is not None
    assert away.node.failure.code == "raft.log.unusable"
    away.disk.fail = lambda operation: None
    away.restart()
    assert away.content == b"the state"


def test_a_snapshot_below_the_one_that_was_installed_meanwhile_is_put_away() -> None:
    nodes, leader, away, index = behind()
    job = away.node.begin_snapshot(away.node.applied_index)
    assert job is not None
    nodes.isolate()
    nodes.run_until(lambda: away.node.applied_index == leader.node.applied_index)
    job.write([b"old"])
    away.node.finish_snapshot(job)
    assert [name for name in away.disk.names() if name.startswith("snapshot-")] == [f"snapshot-{index:016d}"]


def test_a_full_disk_refuses_a_snapshot_and_keeps_the_log() -> None:
    nodes = Nodes("a")
    nodes.write(b"1")
    host = nodes["a"]
    job = host.node.begin_snapshot(host.node.applied_index)
    assert job is not None
    host.disk.capacity_bytes = 0
    with pytest.raises(StackdError):
        job.write([b"state"])
    host.disk.capacity_bytes = None
    nodes.write(b"2")
