"""One worker and one task, on a fake host in virtual time."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from stackd.agent.executor.base import TaskContext
from stackd.agent.taskfiles import StoredTask
from stackd.agent.worker import Worker
from stackd.base.ids import BlobDigest, TaskId
from stackd.engine.status import TaskStatus
from stackd.engine.taskstate import TaskState
from stackd.simulation.executor import FakeExecutor
from stackd.simulation.host import FakeHost
from stackd.simulation.loop import VirtualClock, run
from stackd.spec.digest import blob_digest
from stackd.spec.stack import TaskSpec

from agent_builders import a_host, a_spec, a_status, an_assignment, desiring, until

WHOLE_WALK = [
    TaskState.ACCEPTED,
    TaskState.PREPARING,
    TaskState.READY,
    TaskState.STARTING,
    TaskState.RUNNING,
]


class Bench:
    """A worker with everything around it; `said` are the statuses it reported."""

    def __init__(self, host: FakeHost, spec: TaskSpec, state: TaskState, desired: TaskState) -> None:
        self.host = host
        self.said: list[TaskStatus] = []
        self.contents: dict[BlobDigest, bytes] = {}
        self.assignment = an_assignment(spec=spec, desired=desired)
        clock = VirtualClock()
        stored = StoredTask(assignment=self.assignment, spec=spec, status=a_status(state=state))
        context = TaskContext(assignment=self.assignment, spec=spec, files=self.contents)
        controller = FakeExecutor(host, clock).controller(context)
        self.worker = Worker(stored, controller, context, host.states, self._hear, clock)

    def _hear(self, status: TaskStatus) -> None:
        kept = {task.assignment.id: task.status for task in self.host.states.load()}
        assert kept[status.id].state >= status.state, "a status was reported before it was on file"
        self.said.append(status)

    @property
    def state(self) -> TaskState:
        return self.worker.status.state

    def states(self) -> list[TaskState]:
        return [status.state for n, status in enumerate(self.said) if n == 0 or self.said[n - 1].state != status.state]

    async def reach(self, state: TaskState) -> None:
        await until(lambda: self.state == state)

    def wish(self, desired: TaskState) -> None:
        self.worker.assign(desiring(self.assignment, desired))


@asynccontextmanager
async def working(
    host: FakeHost,
    image: str = "img:v1",
    *,
    secrets: tuple[bytes, ...] = (),
    state: TaskState = TaskState.ASSIGNED,
    desired: TaskState = TaskState.RUNNING,
) -> AsyncIterator[Bench]:
    bench = Bench(host, a_spec(image, secrets=secrets), state, desired)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(bench.worker.run())
        yield bench
        running.cancel()


def scenario(main: Callable[[FakeHost], Awaitable[None]]) -> None:
    async def whole() -> None:
        await main(a_host())

    run(whole())


def test_a_task_walks_through_every_state_in_order() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host) as bench:
            await bench.reach(TaskState.RUNNING)
            assert bench.states() == WHOLE_WALK
            assert bench.worker.status.pid > 0
            assert bench.worker.status.container_id == "c-t1"

    scenario(main)


def test_a_task_desired_ready_is_prepared_and_held() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host, desired=TaskState.READY) as bench:
            await asyncio.sleep(100)
            assert bench.state == TaskState.READY
            assert host.starts.total() == 0
            bench.wish(TaskState.RUNNING)
            await bench.reach(TaskState.RUNNING)
            assert bench.states() == WHOLE_WALK

    scenario(main)


def test_raising_the_wish_during_the_preparation_does_not_disturb_it() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host, "img:pulls-in-60s", desired=TaskState.READY) as bench:
            await asyncio.sleep(59)
            bench.wish(TaskState.RUNNING)
            await asyncio.sleep(1.5)
            assert bench.state == TaskState.RUNNING

    scenario(main)


def test_exit_zero_is_complete_and_any_other_code_failed() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host, "img:exits-0-after-2s") as bench:
            await bench.reach(TaskState.COMPLETE)
            assert (bench.worker.status.exit_code, bench.worker.status.error) == (0, "")
        other = a_host()
        async with working(other, "img:exits-3-after-2s") as bench:
            await bench.reach(TaskState.FAILED)
            assert (bench.worker.status.exit_code, bench.worker.status.error) == (3, "task: non-zero exit (3)")
            assert bench.worker.status.pid == 0

    scenario(main)


def test_a_fault_before_the_start_rejects_and_one_at_the_start_fails() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host, "img:missing") as bench:
            await bench.reach(TaskState.REJECTED)
            assert bench.worker.status.error == "No such image: img:missing"
        async with working(a_host(), "img:fails-at-start") as bench:
            await bench.reach(TaskState.FAILED)
            assert bench.worker.status.error == "exec: no such file or directory"

    scenario(main)


def test_a_fault_that_is_not_repeated_is_logged_once_with_its_code(caplog: pytest.LogCaptureFixture) -> None:
    async def main(host: FakeHost) -> None:
        async with working(host, "img:missing") as bench:
            await bench.reach(TaskState.REJECTED)
            await asyncio.sleep(60)

    with caplog.at_level("INFO", "stackd.agent.worker"):
        scenario(main)
    assert [record.getMessage() for record in caplog.records] == [
        "will not repeat: task=shop_web.1.t1 code=fake.image.missing error=No such image: img:missing"
    ]


def test_stopping_cancels_the_operation_under_way() -> None:
    async def main(host: FakeHost) -> None:
        for image in ("img:pulls-in-60s", "img:starts-in-60s"):
            async with working(a_host(), image) as bench:
                await asyncio.sleep(5)
                bench.wish(TaskState.SHUTDOWN)
                await asyncio.sleep(1)
                assert bench.state == TaskState.SHUTDOWN
                assert not any(container.running for container in bench.host.containers.values())

    scenario(main)


def test_a_running_task_that_is_stopped_is_shutdown_with_its_exit_code_and_keeps_its_container() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host, "img:stops-in-8s") as bench:
            await bench.reach(TaskState.RUNNING)
            bench.wish(TaskState.SHUTDOWN)
            await bench.reach(TaskState.SHUTDOWN)
            assert bench.worker.status.exit_code == 143
            await asyncio.sleep(60)
            assert TaskId("t1") in host.containers

    scenario(main)


def test_a_task_that_is_to_be_removed_leaves_nothing_once_its_record_has_gone() -> None:
    async def main(host: FakeHost) -> None:
        bench = Bench(host, a_spec(), TaskState.ASSIGNED, TaskState.RUNNING)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(bench.worker.run())
            await bench.reach(TaskState.RUNNING)
            bench.wish(TaskState.REMOVE)
            await until(lambda: not host.containers)
            assert bench.state == TaskState.SHUTDOWN
            assert not running.done()
            bench.worker.discard()
            await asyncio.wait_for(running, 10)
        assert host.states.load() == ()

    scenario(main)


def test_a_wish_from_the_past_is_ignored() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host) as bench:
            await bench.reach(TaskState.RUNNING)
            bench.wish(TaskState.SHUTDOWN)
            bench.wish(TaskState.RUNNING)
            await bench.reach(TaskState.SHUTDOWN)
            assert bench.worker.assignment.desired == TaskState.SHUTDOWN

    scenario(main)


def test_an_engine_that_is_away_only_delays() -> None:
    async def main(host: FakeHost) -> None:
        host.engine_up = False
        async with working(host) as bench:
            await asyncio.sleep(60)
            assert bench.state == TaskState.PREPARING
            assert bench.worker.status.error == "the engine does not answer"
            assert len(bench.said) == 3, "the same error is reported once"
            host.engine_up = True
            await bench.reach(TaskState.RUNNING)
            assert bench.worker.status.error == ""
            assert host.starts[TaskId("t1")] == 1

    scenario(main)


def test_a_stop_is_repeated_until_the_engine_is_back() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host) as bench:
            await bench.reach(TaskState.RUNNING)
            host.engine_up = False
            bench.wish(TaskState.SHUTDOWN)
            await asyncio.sleep(60)
            assert bench.state == TaskState.RUNNING
            host.engine_up = True
            await bench.reach(TaskState.SHUTDOWN)

    scenario(main)


def test_a_task_waits_for_its_secrets_and_says_so() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host, secrets=(b"a", b"b")) as bench:
            await asyncio.sleep(60)
            assert bench.state == TaskState.ACCEPTED
            assert "2 configs or secrets" in bench.worker.status.message
            for content in (b"a", b"b"):
                bench.contents[blob_digest(content)] = content
                bench.worker.reconsider()
            await bench.reach(TaskState.RUNNING)

    scenario(main)


def test_a_full_disk_holds_a_task_where_it_is_and_starts_it_once_there_is_room() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host, desired=TaskState.READY) as bench:
            await bench.reach(TaskState.READY)
            host.states.full = True
            bench.wish(TaskState.RUNNING)
            await asyncio.sleep(30)
            assert host.starts.total() == 0
            assert bench.state == TaskState.READY
            host.states.full = False
            await bench.reach(TaskState.RUNNING)
            assert host.starts[TaskId("t1")] == 1

    scenario(main)


def test_a_restarted_worker_adopts_what_runs() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host) as bench:
            await bench.reach(TaskState.RUNNING)
        async with working(host, state=TaskState.RUNNING) as bench:
            await bench.worker.adopted.wait()
            await asyncio.sleep(60)
            assert bench.said == []
            host.end(host.containers[TaskId("t1")], 9)
            await bench.reach(TaskState.FAILED)
        assert host.starts[TaskId("t1")] == 1

    scenario(main)


def test_an_exit_that_nobody_saw_is_reported_with_its_code() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host, "img:exits-5-after-10s") as bench:
            await bench.reach(TaskState.RUNNING)
        await asyncio.sleep(60)
        async with working(host, "img:exits-5-after-10s", state=TaskState.RUNNING) as bench:
            await bench.reach(TaskState.FAILED)
            assert bench.worker.status.exit_code == 5

    scenario(main)


def test_a_task_that_ended_while_starting_is_not_started_again() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host, "img:exits-0-after-1s") as bench:
            await bench.reach(TaskState.RUNNING)
        await asyncio.sleep(5)
        async with working(host, "img:exits-0-after-1s", state=TaskState.STARTING) as bench:
            await bench.reach(TaskState.COMPLETE)
        assert host.starts[TaskId("t1")] == 1

    scenario(main)


def test_a_running_task_that_is_gone_from_the_host_has_failed() -> None:
    async def main(host: FakeHost) -> None:
        for state in (TaskState.RUNNING, TaskState.STARTING):
            async with working(a_host(), state=state) as bench:
                await bench.reach(TaskState.FAILED)
                assert bench.worker.status.error == "the task is gone from the host"

    scenario(main)


def test_what_was_prepared_and_is_gone_is_prepared_again_without_a_step_back() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host, state=TaskState.READY, secrets=(b"a",)) as bench:
            await asyncio.sleep(10)
            assert bench.state == TaskState.READY
            bench.contents[blob_digest(b"a")] = b"a"
            bench.worker.reconsider()
            await bench.reach(TaskState.RUNNING)

    scenario(main)


def test_a_wish_does_not_cut_the_adoption_short() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host) as bench:
            await bench.reach(TaskState.RUNNING)
        host.end(host.containers[TaskId("t1")], 4)
        host.engine_up = False
        async with working(host, state=TaskState.RUNNING) as bench:
            await asyncio.sleep(10)
            bench.wish(TaskState.SHUTDOWN)
            await asyncio.sleep(10)
            host.engine_up = True
            await bench.reach(TaskState.FAILED)
            assert bench.worker.status.exit_code == 4

    scenario(main)


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_executor_without_room_on_the_hosts_disk_only_delays(caplog: pytest.LogCaptureFixture) -> None:
    async def main(host: FakeHost) -> None:
        async with working(host) as bench:
            vars(host)["create"] = no_room
            await asyncio.sleep(30)
            assert bench.state == TaskState.PREPARING
            assert "No space left" in bench.worker.status.error
            del vars(host)["create"]
            await bench.reach(TaskState.RUNNING)

    scenario(main)
    assert "Traceback" not in caplog.text


def test_a_broken_executor_fails_the_task_and_not_the_agent() -> None:
    async def main(host: FakeHost) -> None:
        async with working(host) as bench:
            del host.containers  # a bug in an adapter
            await bench.reach(TaskState.REJECTED)
            assert "internal error" in bench.worker.status.error

    scenario(main)
