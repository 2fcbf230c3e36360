"""A whole agent on a fake host, with a manager's end played by the test, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from stackd.agent.taskfiles import StoredTask
from stackd.api.dispatch import LOG_WINDOW, Goodbye, Heartbeat, LogChunk, LogRequest
from stackd.api.stream import StreamClosed
from stackd.base.ids import TaskId
from stackd.base.time import Duration, Instant, seconds
from stackd.engine.taskstate import TaskState
from stackd.simulation.host import FakeHost
from stackd.simulation.loop import VirtualClock, run

from agent_builders import (
    NODE,
    ManagerEnd,
    a_host,
    a_spec,
    an_agent,
    an_assignment,
    assignments,
    desiring,
    until,
)

T1 = TaskId("t1")


def scenario(main: Callable[[FakeHost, ManagerEnd], Awaitable[None]]) -> None:
    async def whole() -> None:
        await main(a_host(), ManagerEnd())

    run(whole())


async def listening(group: asyncio.TaskGroup, manager: ManagerEnd) -> asyncio.Task[None]:
    async def listen() -> None:
        try:
            await manager.listen()
        except StreamClosed:
            pass

    return group.create_task(listen())


def test_an_assigned_task_runs_and_its_states_are_reported() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept(an_assignment(), specs=[a_spec()])
            ear = await listening(group, manager)
            await until(lambda: bool(manager.reports) and manager.last().state == TaskState.RUNNING)
            assert manager.hellos[0].node_id == NODE
            assert manager.hellos[0].description.executors == ("fake",)
            assert manager.states() == sorted(manager.states())
            ear.cancel()

    scenario(main)


def test_whatever_goes_wrong_with_a_connection_another_one_is_tried_and_no_task_notices() -> None:
    class Treacherous(ManagerEnd):
        """The first connection breaks in a way that nobody has thought of, the second one when it is closed."""

        def __init__(self) -> None:
            super().__init__()
            self.tries = 0

        async def connect(self) -> object:
            self.tries += 1
            if self.tries == 1:
                raise RuntimeError("a library's defect")
            stream = await super().connect()
            if self.tries == 2:

                async def close() -> None:
                    raise RuntimeError("another one")

                stream.close = close
            return stream

    async def whole() -> None:
        host, manager = a_host(), Treacherous()
        async with an_agent(host, manager):
            await manager.accept(an_assignment(), specs=[a_spec()])
            await until(lambda: host.starts.total() == 1)
            await manager.hang_up()
            await manager.accept(an_assignment(state=TaskState.RUNNING), specs=[a_spec()])
            assert (manager.tries, host.starts.total()) == (3, 1)

    run(whole())


def test_a_restarted_agent_reports_what_happened_meanwhile_and_starts_nothing_twice() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        crashing = a_spec("img:exits-7-after-30s")
        tasks = [an_assignment("t1"), an_assignment("t2", spec=crashing)]
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept(*tasks, specs=[a_spec(), crashing])
            ear = await listening(group, manager)
            await until(lambda: host.starts.total() == 2)
            await asyncio.sleep(1)
            ear.cancel()
        await asyncio.sleep(60)
        manager.reports.clear()
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            known = [an_assignment("t1", state=TaskState.RUNNING), an_assignment("t2", spec=crashing, state=TaskState.RUNNING)]
            await manager.accept(*known, specs=[a_spec(), crashing])
            ear = await listening(group, manager)
            await until(lambda: bool(manager.states("t2")))
            assert manager.last("t2").state == TaskState.FAILED
            assert manager.last("t2").exit_code == 7
            await asyncio.sleep(60)
            ear.cancel()
        assert host.starts == {"t1": 1, "t2": 1}

    scenario(main)


def test_tasks_are_adopted_without_any_manager() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        spec = a_spec("img:exits-3-after-30s")
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept(an_assignment(spec=spec), specs=[spec])
            ear = await listening(group, manager)
            await until(lambda: host.starts.total() == 1)
            await asyncio.sleep(1)
            ear.cancel()
        manager.reachable = False
        async with an_agent(host, manager):
            await until(lambda: host.states.load()[0].status.state == TaskState.FAILED)

    scenario(main)


@pytest.mark.parametrize("turns", range(8))
def test_an_agent_that_is_ended_in_the_moment_its_manager_goes_ends(turns: int) -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        async with asyncio.timeout(120), an_agent(host, manager):
            await manager.accept(an_assignment(), specs=[a_spec()])
            await asyncio.sleep(1)
            await manager.hang_up()
            for _ in range(turns):
                await asyncio.sleep(0)

    scenario(main)


def test_a_lost_connection_touches_no_task_and_the_agent_comes_back() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept(an_assignment(), specs=[a_spec()])
            await listening(group, manager)
            await until(lambda: bool(manager.reports) and manager.last().state == TaskState.RUNNING)
            manager.reachable = False
            await manager.hang_up()
            await asyncio.sleep(600)
            manager.reachable = True
            status = manager.last()
            manager.reports.clear()
            await manager.accept(desiring(an_assignment(), TaskState.RUNNING), specs=[a_spec()])
            ear = await listening(group, manager)
            await until(lambda: bool(manager.reports))
            assert manager.last() == status, "what the manager missed is said again, exactly"
            ear.cancel()
        assert host.starts[T1] == 1

    scenario(main)


def test_nothing_is_reported_that_the_manager_knows() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept(an_assignment(), specs=[a_spec()])
            await listening(group, manager)
            await until(lambda: bool(manager.reports) and manager.last().state == TaskState.RUNNING)
            known = manager.last()
            await manager.hang_up()
            manager.reports.clear()
            again = an_assignment()
            await manager.accept(type(again)(**{**_fields(again), "status": known}), specs=[a_spec()])
            ear = await listening(group, manager)
            await asyncio.sleep(60)
            assert manager.reports == []
            ear.cancel()

    scenario(main)


def _fields(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__struct_fields__}  # type: ignore[attr-defined]


def test_a_task_missing_from_a_complete_set_is_stopped_and_removed() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept(an_assignment("t1"), an_assignment("t2"), specs=[a_spec()])
            await listening(group, manager)
            await until(lambda: host.starts.total() == 2)
            await manager.hang_up()
            await manager.accept(an_assignment("t2"), specs=[a_spec()])
            ear = await listening(group, manager)
            await until(lambda: list(host.containers) == ["t2"])
            await until(lambda: len(host.states.load()) == 1)
            ear.cancel()

    scenario(main)


def test_what_nobody_assigned_is_swept_from_the_host() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        host.create(TaskId("left-over"))
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await asyncio.sleep(5)
            assert "left-over" in host.containers, "nothing is removed before a manager has spoken"
            await manager.accept(an_assignment(), specs=[a_spec()])
            ear = await listening(group, manager)
            await until(lambda: "left-over" not in host.containers and T1 in host.containers)
            ear.cancel()

    scenario(main)


def test_a_gap_in_the_sequence_ends_the_session() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept()
            await manager.send(assignments(3, an_assignment(), specs=[a_spec()], complete=False))
            await manager.accept(an_assignment(), specs=[a_spec()])
            ear = await listening(group, manager)
            await until(lambda: host.starts.total() == 1)
            ear.cancel()

    scenario(main)


def test_secrets_arrive_after_a_restart_and_are_dropped_when_unused() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        spec = a_spec(secrets=[b"key"])
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept(an_assignment(spec=spec), specs=[spec])
            ear = await listening(group, manager)
            await until(lambda: bool(manager.reports) and "1 configs or secrets" in manager.last().message)
            await manager.send(assignments(2, files=[b"key"], complete=False))
            await until(lambda: host.starts.total() == 1)
            ear.cancel()
        assert b"key" not in repr(host.states.load()).encode()

    scenario(main)


def test_heartbeats_keep_coming_and_the_host_is_described_again_when_it_changes() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept()
            ear = await listening(group, manager)
            await asyncio.sleep(16)
            assert manager.others == [Heartbeat(number=number) for number in (2, 3, 4)]
            host.description = msgspec.structs.replace(host.description, hostname="renamed")
            await asyncio.sleep(30)
            described = [beat.description for beat in manager.others if beat.description]
            assert [one.hostname for one in described] == ["renamed"]
            ear.cancel()

    scenario(main)


def test_an_engine_that_is_away_at_the_start_is_described_once_it_is_there() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        host.engine_up = False
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept()
            ear = await listening(group, manager)
            assert manager.hellos[0].description.executors == ()
            host.engine_up = True
            await until(lambda: any(beat.description for beat in manager.others), seconds=6)
            ear.cancel()

    scenario(main)


def test_a_goodbye_leads_to_another_session() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        async with an_agent(host, manager):
            await manager.accept()
            await manager.send(Goodbye(reason="the manager is stopping"))
            await manager.accept()
            assert len(manager.hellos) == 2

    scenario(main)


def test_attempts_to_connect_slow_down_but_never_stop() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        manager.reachable = False
        attempts: list[float] = []
        connect = manager.connect

        async def counted() -> object:
            attempts.append(asyncio.get_running_loop().time())
            return await connect()

        manager.connect = counted  # type: ignore[method-assign]
        async with an_agent(host, manager):
            await asyncio.sleep(120)
        pauses = [later - earlier for earlier, later in itertools.pairwise(attempts)]
        assert 0.05 <= pauses[0] <= 0.1
        assert all(4.0 <= pause <= 8.0 for pause in pauses[-5:])

    scenario(main)


def test_logs_are_sent_within_their_window_and_until_cancelled() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept(an_assignment(), specs=[a_spec()])
            ear = await listening(group, manager)
            await until(lambda: host.starts.total() == 1)
            host.containers[T1].lines = [(Instant(n + 1), b"line") for n in range(2 * LOG_WINDOW)]
            await manager.send(LogRequest(request=4, task_id=T1, follow=True))
            await asyncio.sleep(1)
            assert len(manager.others) == LOG_WINDOW
            await manager.send(LogRequest(request=4, task_id=T1, more=10))
            await asyncio.sleep(1)
            assert len(manager.others) == LOG_WINDOW + 10
            await manager.send(LogRequest(request=4, task_id=T1, cancel=True))
            await manager.send(LogRequest(request=5, task_id=T1, tail=2))
            await asyncio.sleep(1)
            chunks = [chunk for chunk in manager.others if isinstance(chunk, LogChunk) and chunk.request == 5]
            assert [chunk.end for chunk in chunks] == [False, False, True]
            ear.cancel()

    scenario(main)


def test_logs_of_an_unknown_task_end_with_the_reason() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept()
            ear = await listening(group, manager)
            await manager.send(LogRequest(request=1, task_id=TaskId("nobody")))
            await until(lambda: bool(manager.others))
            assert manager.others[0].end
            assert "not on this node" in manager.others[0].error
            ear.cancel()

    scenario(main)


def test_a_node_that_is_cut_off_past_its_lease_ends_the_tasks_that_are_to_be_fenced() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        fenced = msgspec.structs.replace(a_spec(), fence=True)
        tasks = [an_assignment("t1", spec=fenced), an_assignment("t2")]
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept(*tasks, specs=[fenced, a_spec()])
            ear = await listening(group, manager)
            await until(lambda: manager.states("t1")[-1:] == manager.states("t2")[-1:] == [TaskState.RUNNING])
            await asyncio.sleep(60)
            assert manager.last("t1").state == TaskState.RUNNING, "a manager that answers renews the lease"
            manager.reachable = False
            ear.cancel()
            await manager.hang_up()
            since = asyncio.get_running_loop().time()
            await until(lambda: host.states.load()[0].status.state == TaskState.FAILED)
            assert asyncio.get_running_loop().time() - since < 15
            await asyncio.sleep(60)
            kept = {task.assignment.id: task.status for task in host.states.load()}
            assert "fenced" in kept[T1].error
            assert kept[TaskId("t2")].state == TaskState.RUNNING

    scenario(main)


def test_a_manager_that_is_there_but_does_not_answer_renews_no_lease() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        fenced = msgspec.structs.replace(a_spec(), fence=True)
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept(an_assignment(spec=fenced), specs=[fenced])
            manager.renews = False
            ear = await listening(group, manager)
            await until(lambda: [task.status.state for task in host.states.load()] == [TaskState.FAILED], 16)
            assert "fenced" in host.states.load()[0].status.error
            ear.cancel()

    scenario(main)


FENCED = msgspec.structs.replace(a_spec(), fence=True)


async def run_fenced(host: FakeHost, manager: ManagerEnd) -> None:
    """Let an agent run a task that is to be fenced, then kill the agent; no manager can be reached from then on."""
    async with an_agent(host, manager), asyncio.TaskGroup() as group:
        await manager.accept(an_assignment(spec=FENCED), specs=[FENCED])
        ear = await listening(group, manager)
        await until(lambda: TaskState.RUNNING in manager.states())
        await asyncio.sleep(60)
        manager.reachable = False
        ear.cancel()


def states(host: FakeHost) -> list[TaskState]:
    return [task.status.state for task in host.states.load()]


def test_a_restart_of_the_agent_while_its_node_is_cut_off_makes_the_lease_no_longer() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        await run_fenced(host, manager)
        await asyncio.sleep(16)
        async with an_agent(host, manager):
            await until(lambda: states(host) == [TaskState.FAILED], 2)
            assert "fenced" in host.states.load()[0].status.error

    scenario(main)


def test_a_restart_of_the_agent_within_the_lease_ends_nothing_before_it_runs_out() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        await run_fenced(host, manager)
        await asyncio.sleep(3)
        async with an_agent(host, manager):
            await asyncio.sleep(5)
            assert states(host) == [TaskState.RUNNING]
            await until(lambda: states(host) == [TaskState.FAILED], 10)

    scenario(main)


def test_a_lease_that_could_not_be_noted_is_over_for_the_next_life() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept(an_assignment(spec=FENCED), specs=[FENCED])
            ear = await listening(group, manager)
            await until(lambda: TaskState.RUNNING in manager.states())
            host.states.full = True
            await asyncio.sleep(60)
            assert states(host) == [TaskState.RUNNING]
            host.states.full = manager.reachable = False
            ear.cancel()
        async with an_agent(host, manager):
            await until(lambda: states(host) == [TaskState.FAILED], 2)

    scenario(main)


def test_after_a_reboot_a_task_that_is_to_be_fenced_does_not_start_before_a_manager_answers() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        await run_fenced(host, manager)
        prepared = an_assignment("t2", spec=FENCED, state=TaskState.READY)
        host.states.save(StoredTask(assignment=prepared, spec=FENCED, status=prepared.status))
        host.reboot()
        clock = VirtualClock()
        clock.boots += 1
        async with an_agent(host, manager, clock) as agent, asyncio.TaskGroup() as group:
            await until(lambda: "tasks that wait: 1, the first for a lease" in agent.message)
            await asyncio.sleep(60)
            assert host.starts == {T1: 1}
            manager.reachable = True
            await manager.accept(prepared, specs=[FENCED])
            ear = await listening(group, manager)
            await until(lambda: manager.states("t2")[-1:] == [TaskState.RUNNING])
            ear.cancel()

    scenario(main)


def test_a_machine_that_has_slept_past_its_lease_ends_the_task_when_it_wakes_up() -> None:
    class SleepyClock(VirtualClock):
        slept_seconds = 0.0

        def elapsed(self) -> Duration:
            return Duration(super().elapsed() + seconds(self.slept_seconds))

    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        clock = SleepyClock()
        async with an_agent(host, manager, clock), asyncio.TaskGroup() as group:
            await manager.accept(an_assignment(spec=FENCED), specs=[FENCED])
            ear = await listening(group, manager)
            await until(lambda: TaskState.RUNNING in manager.states())
            ear.cancel()
            clock.slept_seconds = 3600.0
            await until(lambda: states(host) == [TaskState.FAILED], 2)

    scenario(main)


def test_a_manager_that_has_forgotten_the_session_is_left_though_the_connection_stands() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        async with an_agent(host, manager), asyncio.TaskGroup() as group:
            await manager.accept(an_assignment(), specs=[a_spec()])
            manager.renews = False
            ear = await listening(group, manager)
            async with asyncio.timeout(17):
                await manager.accept(an_assignment(), specs=[a_spec()])
            assert len(manager.hellos) == 2
            assert host.starts == {T1: 1}
            ear.cancel()

    scenario(main)


def test_after_a_reboot_without_a_manager_tasks_whose_secrets_are_gone_wait_and_the_node_says_so() -> None:
    async def main(host: FakeHost, manager: ManagerEnd) -> None:
        spec = a_spec(secrets=[b"key"])
        prepared = an_assignment(spec=spec, state=TaskState.READY)
        status = msgspec.structs.replace(prepared.status, state=TaskState.READY)
        host.states.save(StoredTask(assignment=prepared, spec=spec, status=status))
        manager.reachable = False
        async with an_agent(host, manager) as agent:
            await until(lambda: "tasks that wait: 1, the first for 1 configs or secrets" in agent.message)
            assert agent.message.startswith("no manager serves this node: ")
            assert host.starts.total() == 0
            manager.reachable = True
            async with asyncio.TaskGroup() as group:
                await manager.accept(prepared, specs=[spec], files=[b"key"])
                ear = await listening(group, manager)
                await until(lambda: host.starts.total() == 1)
                assert agent.message == ""
                ear.cancel()

    scenario(main)
