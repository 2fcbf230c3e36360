"""One task as one monitored process: the controller of the process executor.

The monitor does the work and outlives us; here its words become the port's words. What exists is always looked up, in
the task's directory and from the monitor, so each operation may be repeated, also by another daemon.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import NoReturn

from stackd.agent.executor.base import Exit, Found, Handle, LogLine, TaskContext, TaskEnded, check_executor
from stackd.agent.executor.process.channel import Monitor, MonitorGone
from stackd.agent.executor.process.directory import exit_of
from stackd.agent.executor.process.health import Check, Health, Tally, check_of
from stackd.agent.executor.process.host import ProcessHost, check_port_free, endpoint_name, port_fault
from stackd.agent.executor.process.layout import in_thread, lay_out
from stackd.agent.executor.process.logs import read_log
from stackd.agent.executor.process.spec import stop_signal
from stackd.agent.executor.process.support import check_supported, host_network
from stackd.agent.expand import expanded
from stackd.base.errors import Retry, TaskFault
from stackd.base.time import SECOND, Instant
from stackd.net.ports import PublishedPort

KILL_SECONDS = 15.0
"""How long a killed task may take to end; one that takes longer hangs in the kernel, and the stop is tried again."""

_GROUP_PATIENCE_SECONDS = 3.0
"""How long a control group may stay busy after its last process was killed."""


class ProcessController:
    """One task; see the `Controller` port for what each operation promises."""

    def __init__(self, host: ProcessHost, context: TaskContext) -> None:
        self._host = host
        self._context = context
        self._directory = host.directory(context.id)
        self._known: Monitor | None = None
        self._check = check_of(context.spec.container.healthcheck)
        self._cause = ""

    async def adopt(self) -> Found | None:
        ended = self._directory.exit()
        if ended is not None:
            await self._withdraw_ports()
            return Found(Handle(), running=False, exit=ended)
        monitor = self._monitor()
        if monitor is None and self._directory.started():
            return Found(Handle(), running=False, exit=await self._lost())
        if monitor is None or self._directory.record() is None:
            await self.remove()  # it never got as far as to be worth anything
            return None
        state, pid = await self._look(monitor)
        if state == "gone":
            return await self.adopt()
        return Found(Handle(pid=pid), running=state == "running")

    async def prepare(self) -> Handle:
        if self._monitor() is not None and self._directory.record() is not None:
            return Handle()
        node = self._host.describe()
        check_executor(self._context, "process")
        check_supported(self._context, node, isolated=self._host.isolated)
        context = expanded(self._context, node)
        await self.remove()
        try:
            self._known = await lay_out(self._host, context, node)
        except OSError as error:
            await self.remove()
            text = f"the task can't be prepared: {error.strerror or error}"
            raise TaskFault("agent.process.prepare", text, retry=Retry.LATER) from error
        except TaskFault:
            await self.remove()
            raise
        return Handle()

    async def start(self) -> Handle:
        monitor = self._monitor()
        if monitor is None:
            ended = self._directory.exit()
            if ended is not None:
                raise TaskEnded(ended)
            raise TaskFault("agent.process.missing", "what was prepared for the task is gone")
        state, pid = await self._look(monitor)
        if state != "running":
            pid = await self._open_gate(monitor)
        if self._check is not None:
            await self._until_healthy(monitor, self._check)
        await in_thread(lambda: self._host.neighbours.announce(self._context.id))
        return Handle(pid=pid)

    async def wait(self) -> Exit:
        monitor = self._monitor()
        if monitor is not None:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch_health(monitor), name=f"health {self._context.id}")
                await monitor.ended()
                watching.cancel()
        return await self._exit()

    async def stop(self) -> Exit | None:
        container = self._context.spec.container
        monitor = self._monitor()
        if monitor is not None:
            grace = container.stop_grace_ns / SECOND
            await self._end(monitor, f"stop {stop_signal(container.stop_signal)} {grace}", grace + KILL_SECONDS)
        if self._directory.started():
            return await self._exit()
        await self._withdraw_ports()
        return None

    async def remove(self) -> None:
        monitor = self._monitor()
        if monitor is not None:
            await self._end(monitor, "kill", KILL_SECONDS)
        await in_thread(lambda: self._host.release_endpoint(self._context.id))
        deadline = time.monotonic() + _GROUP_PATIENCE_SECONDS
        while not self._host.remove_group(self._context.id):
            if time.monotonic() > deadline:
                raise TaskFault("agent.process.remove", "processes of the task survive SIGKILL", retry=Retry.LATER)
            await asyncio.sleep(0.01)
        if self._directory.exists():
            await in_thread(self._directory.remove)
        self._known = None

    async def logs(self, *, follow: bool, tail: int, since: Instant) -> AsyncIterator[LogLine]:
        monitor = self._monitor() if follow else None
        async for line in read_log(self._directory.path, monitor, tail=tail, since=since):
            yield line

    async def pid(self) -> int:
        monitor = self._monitor()
        return (await self._look(monitor))[1] if monitor is not None else 0

    # Starting

    async def _open_gate(self, monitor: Monitor) -> int:
        """Ports first, so that the first client who sees the task running reaches it; then the task. Its process id."""
        try:
            await self._take_ports(monitor)
            said, _, rest = (await monitor.ask("start")).partition(" ")
        except MonitorGone:
            await self._end_of_start(monitor)
        if said == "running":
            return int(rest)
        if said == "failed":
            await monitor.ended()
            await self._withdraw_ports()
            raise TaskFault("agent.process.exec", rest)
        return (await self._look(monitor))[1]  # somebody else's start came first

    async def _take_ports(self, monitor: Monitor) -> None:
        ports = self._context.spec.ports
        if not self._host.isolated or host_network(self._context.spec):
            for port in ports:
                check_port_free(port)
            return
        if not ports:
            return
        said, *rest = (await monitor.ask("reserve")).split(" ")
        if said == "unusable":
            name, number = rest
            raise port_fault(next(port for port in ports if f"{port.published}/{port.protocol}" == name), int(number))
        published = tuple(PublishedPort(port.published, port.target, port.protocol, port.host_ip) for port in ports)
        await in_thread(lambda: self._host.network().publish(endpoint_name(self._context.id), published))

    async def _end_of_start(self, monitor: Monitor) -> NoReturn:
        """The monitor went away while the task was being started: say how the task ended."""
        await monitor.ended()
        raise TaskEnded(await self._exit())

    # Health

    async def _until_healthy(self, monitor: Monitor, check: Check) -> None:
        """Return at the first success; raises TaskEnded if the task ends, or has to be ended, before."""
        tally = Tally(check, time.monotonic())
        while monitor.running:
            state = await self._probe(monitor, check, tally)
            if state is Health.HEALTHY:
                return
            if state is Health.UNHEALTHY:
                break
            await _ended_within(monitor, tally.pause)
        if monitor.running:
            await self.stop()
        raise TaskEnded(await self._exit())

    async def _watch_health(self, monitor: Monitor) -> None:
        """End a running task that becomes unhealthy."""
        if self._check is None:
            return
        tally = Tally(self._check, time.monotonic(), healthy=True)
        while not await _ended_within(monitor, tally.pause):
            if await self._probe(monitor, self._check, tally) is Health.UNHEALTHY:
                await self.stop()

    async def _probe(self, monitor: Monitor, check: Check, tally: Tally) -> Health:
        try:
            answer = await monitor.ask(f"probe {int(check.timeout * 1000)}")
        except MonitorGone:
            return tally.state
        _, code, *text = answer.split(" ", 2)
        state = tally.add(code == "0", time.monotonic())
        if state is Health.UNHEALTHY:
            said = f"no answer within {check.timeout:g} s" if code == "-1" else "".join(text)
            self._cause = f"unhealthy container: {said}" if said else "unhealthy container"
        return state

    # Ending

    async def _end(self, monitor: Monitor, request: str, patience: float) -> None:
        """Ask the monitor to end its task; when that has no effect, end the monitor."""
        try:
            async with asyncio.timeout(patience):
                await monitor.ask(request)
                await monitor.ended()
        except MonitorGone:
            await self._end_stubborn(monitor)
        except TimeoutError:
            await self._end_stubborn(monitor)

    async def _end_stubborn(self, monitor: Monitor) -> None:
        monitor.kill()
        if not await _ended_within(monitor, KILL_SECONDS):
            raise TaskFault("agent.process.stop", f"the task survives SIGKILL for {KILL_SECONDS:.0f} s", retry=Retry.LATER)

    async def _exit(self) -> Exit:
        """How the ended task ended, after giving back its ports."""
        ended = self._directory.exit() or await self._lost()
        await self._withdraw_ports()
        if self._cause:
            return exit_of(ended.code, at=ended.at, cause=self._cause)
        return ended

    async def _lost(self) -> Exit:
        """The monitor is gone: read again whether it left a word after all, else record that it didn't."""
        ended = self._directory.exit() or self._directory.write_lost(Instant(time.time_ns()))
        await self._withdraw_ports()
        return ended

    async def _withdraw_ports(self) -> None:
        """Publish the task's ports no longer; the next task may want them. The rest goes with `remove`."""
        await in_thread(lambda: self._host.withdraw_ports(self._context.id))

    # Looking

    def _monitor(self) -> Monitor | None:
        """The task's living monitor."""
        if self._known is None or not self._known.running:
            self._known = Monitor.find(self._directory)
        return self._known

    async def _look(self, monitor: Monitor) -> tuple[str, int]:
        """The monitor's state, and the task's process id (0 if it doesn't run); "gone" if it has just ended."""
        try:
            state, _, pid = (await monitor.ask("status")).split(" ")
        except MonitorGone:
            await monitor.ended()
            return "gone", 0
        return state, int(pid) if state == "running" else 0


async def _ended_within(monitor: Monitor, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await monitor.ended()
    except TimeoutError:
        return False
    return True
