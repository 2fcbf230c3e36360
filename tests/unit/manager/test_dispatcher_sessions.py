"""Sessions of the dispatcher, with the agent's end played by the test, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from stackd.api.dispatch import (
    LOG_WINDOW,
    Assignments,
    Goodbye,
    Heartbeat,
    LogChunk,
    LogRequest,
    TaskReports,
    Welcome,
)
from stackd.api.stream import StreamClosed, memory_pair
from stackd.base.errors import Unavailable
from stackd.base.ids import NodeId, TaskId
from stackd.base.time import Instant
from stackd.engine.inputs import RegisterNode, Rejected, ReportNode, ReportTasks
from stackd.engine.model import Node
from stackd.engine.parts import ManagerStatus, NodeDescription, NodeState
from stackd.engine.taskstate import TaskState
from stackd.raft.consensus import NotLeader
from stackd.simulation.loop import run

from manager_builders import (
    NODE,
    NOW,
    Desk,
    a_hello,
    a_node_status,
    a_secret,
    a_service,
    a_spec,
    a_spec_row,
    a_task,
    a_task_status,
)

ROWS = (a_service(), a_spec_row(a_spec()), a_task(), a_task_status())


class AgentEnd:
    """An agent's side of one session."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def open(self, node: str = NODE) -> Assignments:
        """Say hello; returns the complete set."""
        await self.stream.send(a_hello(node))
        assert isinstance(await self.stream.receive(), Welcome)
        complete = await self.next()
        assert isinstance(complete, Assignments)
        assert complete.complete
        return complete

    async def next(self) -> Any:
        async with asyncio.timeout(1):
            return await self.stream.receive()

    async def nothing_comes(self) -> None:
        with pytest.raises(TimeoutError):
            await self.next()

    async def stay_alive(self) -> None:
        while True:
            await asyncio.sleep(5)
            await self.stream.send(Heartbeat())


@asynccontextmanager
async def dispatching(*rows: Any) -> AsyncIterator[tuple[Desk, Callable[[], AgentEnd]]]:
    """A dispatcher at work; calling the second gives a new connection to it."""
    desk = Desk(*rows)
    assert desk.dispatcher is not None
    dispatcher = desk.dispatcher
    async with asyncio.TaskGroup() as group:
        parts = [group.create_task(dispatcher.run())]

        def connect() -> AgentEnd:
            agent, manager = memory_pair()
            parts.append(group.create_task(dispatcher.serve(manager)))
            return AgentEnd(agent)

        yield desk, connect
        for part in parts:
            part.cancel()


def scenario(main: Callable[[Desk, Callable[[], AgentEnd]], Awaitable[None]], *rows: Any) -> None:
    async def whole() -> None:
        async with dispatching(*rows) as (desk, connect):
            await main(desk, connect)

    run(whole())


def states(desk: Desk) -> list[NodeState]:
    return [one.state for one in desk.inputs if isinstance(one, ReportNode)]


def test_a_hello_registers_the_node_and_is_answered_with_everything_it_has_to_run() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        complete = await connect().open()
        assert desk.inputs == [RegisterNode(id=NODE, description=NodeDescription(hostname="n1"))]
        assert [task.id for task in complete.tasks] == ["t1"]
        assert complete.tasks[0].name == "shop_web.1.t1"
        assert [content.spec for content in complete.specs] == [a_spec()]

    scenario(main, *ROWS, a_task("elsewhere", node="n2"), a_task("unplaced"))


def test_a_node_that_may_not_join_is_told_why() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        desk.reply = Rejected(code="node.unknown", message="no such node")
        agent = connect()
        await agent.stream.send(a_hello())
        assert await agent.next() == Goodbye(reason="no such node")
        with pytest.raises(StreamClosed):
            await agent.next()

    scenario(main)


def test_a_stream_that_says_nothing_is_closed() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await asyncio.sleep(11)
        assert isinstance(await agent.next(), Goodbye)

    scenario(main)


def test_a_change_of_a_task_reaches_its_node_and_one_of_its_status_doesnt() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await agent.open()
        desk.write(a_task_status(state=TaskState.RUNNING), a_task("elsewhere", node="n2"))
        await agent.nothing_comes()
        desk.write(a_task(desired=TaskState.SHUTDOWN))
        increment = await agent.next()
        assert (increment.sequence, increment.complete) == (2, False)
        assert [(task.id, task.desired) for task in increment.tasks] == [("t1", TaskState.SHUTDOWN)]
        desk.write(delete=[a_task()])
        increment = await agent.next()
        assert increment.removed == ("t1",)
        assert increment.dropped == (a_spec_row(a_spec()).digest,)

    scenario(main, *ROWS)


def test_changes_gather_while_the_agent_is_slow() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await agent.open()
        for number in range(50):
            desk.write(a_task(f"u{number:02}"), a_task_status(f"u{number:02}"))
        assert len((await agent.next()).tasks) == 50

    scenario(main, *ROWS)


def test_secrets_go_only_where_a_live_task_needs_them_and_only_once() -> None:
    spec = a_spec(files=[b"key"])
    secret = a_secret(b"key")

    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        complete = await agent.open()
        assert [(file.data, file.secret) for file in complete.files] == [(b"key", True)]
        assert b"key" not in repr(complete).encode()
        desk.write(a_task("t2", spec=spec), a_task_status("t2"))
        assert (await agent.next()).files == ()
        desk.write(a_task_status("t1", TaskState.FAILED))
        await agent.nothing_comes()
        desk.write(a_task("t2", spec=spec, desired=TaskState.SHUTDOWN))
        assert (await agent.next()).dropped == (secret.digest,)

    scenario(main, a_service(), a_spec_row(spec), secret, a_task(spec=spec), a_task_status())


def test_reports_are_handed_over_newest_first_known_only_and_in_batches() -> None:
    rows = [row for n in range(300) for row in (a_task(f"t{n:03}"), a_task_status(f"t{n:03}"))]

    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await agent.open()
        ids = [f"t{n:03}" for n in range(300)]
        older = tuple(a_task_status(one, TaskState.READY) for one in ids)
        newer = tuple(a_task_status(one, TaskState.RUNNING) for one in (*ids, "foreign"))
        await agent.stream.send(TaskReports(statuses=older))
        await agent.stream.send(TaskReports(statuses=newer))
        await asyncio.sleep(0.1)
        reports = [one for one in desk.inputs if isinstance(one, ReportTasks)]
        assert all(len(one.statuses) <= 200 for one in reports)
        assert all(one.node_id == NODE for one in reports)
        stored = [desk.store.view.status_of(TaskId(one)).state for one in ids]
        assert stored == [TaskState.RUNNING] * 300
        assert "foreign" not in desk.store.view.statuses

    scenario(main, a_service(), a_spec_row(a_spec()), *rows)


def test_a_manager_with_too_much_to_do_gets_the_reports_later() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await agent.open()
        desk.failure = Unavailable("manager.overloaded", "too much to do")
        await agent.stream.send(TaskReports(statuses=(a_task_status(state=TaskState.RUNNING),)))
        await asyncio.sleep(2)
        desk.failure = None
        await asyncio.sleep(2)
        assert desk.store.view.status_of(TaskId("t1")).state == TaskState.RUNNING

    scenario(main, *ROWS)


def test_a_manager_that_no_longer_leads_ends_the_session() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await agent.open()
        desk.failure = NotLeader("n2")
        await agent.stream.send(TaskReports(statuses=(a_task_status(state=TaskState.RUNNING),)))
        assert isinstance(await agent.next(), Goodbye)
        await asyncio.sleep(5)
        assert states(desk) == []
        desk.failure = None
        await asyncio.sleep(5)
        assert states(desk) == [NodeState.DISCONNECTED], "the verdict is not lost"

    scenario(main, *ROWS)


def test_a_node_that_falls_silent_is_down() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await agent.open()
        await asyncio.sleep(14)
        assert states(desk) == []
        await asyncio.sleep(2)
        assert states(desk) == [NodeState.DOWN]
        assert isinstance(await agent.next(), Goodbye)

    scenario(main)


def test_a_node_that_hangs_up_is_disconnected_and_later_down() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await agent.open()
        await agent.stream.close()
        await asyncio.sleep(1)
        assert states(desk) == [NodeState.DISCONNECTED]
        await asyncio.sleep(15)
        assert states(desk) == [NodeState.DISCONNECTED, NodeState.DOWN]
        await asyncio.sleep(100)
        assert len(states(desk)) == 2

    scenario(main)


def test_a_broken_connection_gives_a_node_no_more_time_than_its_silence() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await agent.open()
        await asyncio.sleep(12)
        await agent.stream.close()
        await asyncio.sleep(2)
        assert states(desk) == [NodeState.DISCONNECTED]
        await asyncio.sleep(2)
        assert states(desk) == [NodeState.DISCONNECTED, NodeState.DOWN]

    scenario(main)


def test_a_node_that_comes_back_in_time_is_never_down() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await agent.open()
        await agent.stream.close()
        await asyncio.sleep(10)
        again = connect()
        await again.open()
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(again.stay_alive())
            await asyncio.sleep(60)
            beating.cancel()
        assert states(desk) == [NodeState.DISCONNECTED]

    scenario(main)


def test_a_newer_session_replaces_the_older_and_the_node_stays_ready() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        first, second = connect(), connect()
        await first.open()
        await second.open()
        assert "newer session" in (await first.next()).reason
        await first.stream.close()
        await asyncio.sleep(5)
        assert states(desk) == []
        desk.write(a_task(), a_task_status(), a_spec_row(a_spec()))
        assert [task.id for task in (await second.next()).tasks] == ["t1"]

    scenario(main)


def test_nodes_of_before_the_start_have_double_the_time_to_come_back() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        await asyncio.sleep(29)
        assert states(desk) == []
        await asyncio.sleep(2)
        assert [(one.id, one.state) for one in desk.inputs if isinstance(one, ReportNode)] == [("n1", NodeState.DOWN)]

    scenario(main, a_node_status(), a_node_status("n2", NodeState.DOWN))


def test_a_node_whose_manager_is_not_reached_either_has_the_simple_time() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        await asyncio.sleep(5)
        desk.write(replace(a_node_status(), manager=ManagerStatus(address="10.0.0.1:2377", reachable=False)))
        await asyncio.sleep(9)
        assert states(desk) == []
        await asyncio.sleep(2)
        assert states(desk) == [NodeState.DOWN]

    scenario(main, a_node_status())


def test_a_changed_description_is_registered() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await agent.open()
        changed = NodeDescription(hostname="renamed")
        await agent.stream.send(Heartbeat(description=changed))
        await asyncio.sleep(0.1)
        assert desk.inputs[-1] == RegisterNode(id=NODE, description=changed)

    scenario(main)


def test_stopping_says_goodbye_and_reports_no_node_as_gone() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agents = [connect(), connect()]
        await agents[0].open("n1")
        await agents[1].open("n2")
        assert desk.dispatcher is not None
        await desk.dispatcher.stop("the manager is stopping", leader="n3")
        for agent in agents:
            assert await agent.next() == Goodbye(reason="the manager is stopping", leader="n3")
        late = connect()
        await late.stream.send(a_hello())
        assert isinstance(await late.next(), Goodbye)
        await asyncio.sleep(60)
        assert states(desk) == []

    scenario(main)


def test_many_large_files_come_in_several_messages() -> None:
    contents = [bytes([n]) * 1_000_000 for n in range(10)]
    spec = a_spec(files=contents)

    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        messages = [await agent.open(), await agent.next(), await agent.next()]
        assert [message.sequence for message in messages] == [1, 2, 3]
        assert sorted(file.data for message in messages for file in message.files) == sorted(contents)
        await agent.nothing_comes()

    blobs = [a_secret(data) for data in contents]
    scenario(main, a_service(), a_spec_row(spec), *blobs, a_task(spec=spec), a_task_status())


async def _read(desk: Desk, into: list[LogChunk], **options: Any) -> None:
    assert desk.dispatcher is not None
    wanted = {"follow": False, "tail": -1, "since": Instant(0), **options}
    async for chunk in desk.dispatcher.tail_logs(a_task(), **wanted):
        into.append(chunk)  # noqa: PERF401 - the test looks at what has been read so far


def test_logs_flow_as_far_as_they_are_read() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await agent.open()
        chunks: list[LogChunk] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(_read(desk, chunks, follow=True, tail=5))
            request = await agent.next()
            assert request == LogRequest(request=1, task_id=TaskId("t1"), follow=True, tail=5)
            for _ in range(LOG_WINDOW):
                await agent.stream.send(LogChunk(request=1, line=b"x"))
            grants = [await agent.next(), await agent.next()]
            assert sum(grant.more for grant in grants) == LOG_WINDOW
            await agent.stream.send(LogChunk(request=1, end=True))
        assert len(chunks) == LOG_WINDOW + 1

    scenario(main, *ROWS)


def test_a_reader_that_leaves_cancels_the_log() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await agent.open()
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(_read(desk, []))
            await agent.next()
            reader.cancel()
            assert await agent.next() == LogRequest(request=1, task_id=TaskId("t1"), cancel=True)

    scenario(main, *ROWS)


def test_a_reader_learns_that_the_node_was_lost() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await agent.open()
        chunks: list[LogChunk] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(_read(desk, chunks))
            await agent.next()
            await agent.stream.close()
        assert chunks[-1].end
        assert chunks[-1].error == "the connection to the node was lost"

    scenario(main, *ROWS)


def test_logs_of_a_node_without_a_session_are_unavailable() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        with pytest.raises(Unavailable) as caught:
            await _read(desk, [])
        assert caught.value.code == "manager.logs.unavailable"
        assert NodeId("n1") in caught.value.message

    scenario(main, *ROWS)


def test_a_node_that_a_new_leader_has_not_heard_of_opens_another_session() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await agent.open()
        desk.write(a_node_status(state=NodeState.UNKNOWN))
        assert await agent.next() == Goodbye(reason="a new leader has to hear from every node")
        await connect().open()
        assert sum(isinstance(one, RegisterNode) for one in desk.inputs) == 2

    scenario(main, *ROWS)


def test_the_session_of_a_node_that_is_removed_ends() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        agent = connect()
        await agent.open()
        desk.write(delete=[Node(id=NODE, created_at=NOW)])
        assert await agent.next() == Goodbye(reason="the node was removed from the cluster")

    scenario(main)


def test_a_node_that_is_removed_in_the_moment_in_which_it_registers_gets_no_session() -> None:
    async def main(desk: Desk, connect: Callable[[], AgentEnd]) -> None:
        desk.removes_at_once = True
        agent = connect()
        await agent.stream.send(a_hello())
        assert await agent.next() == Goodbye(reason="the node was removed from the cluster")

    scenario(main)
