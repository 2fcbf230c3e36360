"""What the daemon tells Prometheus: counters that its parts keep up, and a look at the state at each scrape.

The parts know nothing of Prometheus: they are handed the methods of `Metrics` as meters. Names follow its conventions
(base units, `_total`); labels hold only what is few: methods, states, codes, never names of services or tasks.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Count
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from stackd import __version__
from stackd.base.errors import Refused, StackdError
from stackd.daemon.managing import ManagerRole
from stackd.daemon.role import Role
from stackd.engine.parts import RolloutState
from stackd.engine.view import View
from stackd.raft.consensus import Member

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)

UNDER_WAY = frozenset({RolloutState.UPDATING, RolloutState.ROLLBACK_STARTED})

SLICE_ROWS = 2_000
"""Rows looked at before the loop gets its turn: about a millisecond."""

READ_SECONDS = 5.0
REQUEST_BYTES = 8 * 1024


class Metrics:
    """The daemon's meters."""

    def __init__(self) -> None:
        # Else each histogram and label is a series more, which nobody looks at.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._steps = self._histogram("stackd_step_seconds", "Time that one decision of the engine took.", _SECONDS)
        self._inputs = self._histogram("stackd_step_inputs", "Inputs decided on in one step.", _SIZES)
        self._commits = self._histogram("stackd_commit_seconds", "From proposing an entry until it was applied.", _SECONDS)
        self._failures = Counter(
            "stackd_entries_not_stored", "Decisions that could not be stored, by error code.", ["code"], registry=self._registry
        )
        self._calls = Histogram(
            "stackd_call_seconds",
            "Calls of the API, by method, outcome (an error's code, or ok) and who answered (here, or the leader).",
            ["method", "outcome", "answered"],
            buckets=_SECONDS,
            registry=self._registry,
        )

    def stepped(self, seconds: float, inputs: int) -> None:
        """The engine has decided on `inputs` inputs."""
        self._steps.observe(seconds)
        self._inputs.observe(inputs)

    def committed(self, seconds: float) -> None:
        self._commits.observe(seconds)

    def not_stored(self, code: str) -> None:
        self._failures.labels(code).inc()

    def called(self, method: str, outcome: str, answered: str, seconds: float) -> None:
        """A call has ended (`api.metering.Called`)."""
        self._calls.labels(method, outcome, answered).observe(seconds)

    def text(self, state: Iterable[Metric]) -> bytes:
        """Everything in Prometheus' text form, `state` included."""
        registry = CollectorRegistry()
        registry.register(_Fixed(state))
        return generate_latest(self._registry) + generate_latest(registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float]) -> Histogram:
        return Histogram(name, text, buckets=tuple(buckets), registry=self._registry)


class _Fixed:
    """Metrics that were gathered before."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = tuple(metrics)

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


class Gauges:
    """Gathers gauges for one scrape."""

    def __init__(self) -> None:
        build = GaugeMetricFamily("stackd_build_info", "Always 1; the version is a label.", labels=["version"])
        build.add_metric([__version__], 1)
        self.families: list[Metric] = [build]

    def number(self, name: str, text: str, value: float) -> None:
        self.families.append(GaugeMetricFamily(name, text, value=value))

    def by(self, name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> None:
        family = GaugeMetricFamily(name, text, labels=[label])
        for key, value in values:
            family.add_metric([key], value)
        self.families.append(family)


def gather_manager(role: ManagerRole, members: Sequence[Member], gauges: Gauges) -> None:
    """What a manager knows besides the state: consensus, what waits for the writer loop, and sessions."""
    manager, log = role.manager, role.member.log_position
    gauges.number("stackd_raft_leader", "Whether this manager leads.", manager.managers.leads)
    gauges.number(
        "stackd_raft_leader_known",
        "Whether this manager knows a leader and is in touch with it.",
        bool(manager.managers.leader),
    )
    gauges.number("stackd_raft_term", "The present term: how many elections there were.", log.term)
    gauges.number("stackd_raft_last_index", "The last entry in the log of this manager.", log.last)
    gauges.number("stackd_raft_commit_index", "The last entry that is known to be committed.", log.committed)
    gauges.number("stackd_raft_snapshot_index", "The last entry that the newest snapshot covers.", log.snapshot)
    gauges.number("stackd_raft_applied_index", "The last entry of the log that was applied.", manager.writer.feed.index)
    gauges.number("stackd_raft_members", "Members of consensus.", len(members))
    voters = sum(1 for member in members if member.is_voter)
    gauges.number("stackd_raft_voters", "Members of consensus that have a vote.", voters)
    connected = sum(1 for member in members if member.is_connected)
    gauges.number("stackd_raft_members_connected", "Members that this manager has a stream to, itself included.", connected)
    gauges.number("stackd_inputs_waiting", "Submissions that wait to be decided on.", manager.writer.waiting)
    dispatcher = manager.role.dispatcher
    agents = dispatcher.agents if dispatcher is not None else 0
    gauges.number("stackd_agents", "Nodes that have a session with this manager.", agents)


async def gather_state(view: View, gauges: Gauges) -> None:
    """Count what is in the state; the loop goes on meanwhile, so rows that change are counted once or the other way."""
    gauges.number("stackd_state_version", "Transactions applied since the cluster began.", view.version)
    gauges.number("stackd_services", "Services, those being removed included.", len(view.services))
    gauges.number("stackd_stacks", "Stacks.", len(view.stacks))
    tasks = await _count(view.statuses.values(), lambda row: row.state.name.lower())
    gauges.by("stackd_tasks", "Tasks by observed state.", "state", tasks)
    nodes = await _count(view.node_statuses.values(), lambda row: str(row.state))
    gauges.by("stackd_nodes", "Nodes by state.", "state", nodes)
    rollouts = await _count(view.rollouts.values(), lambda row: str(row.state))
    gauges.by("stackd_rollouts", "Rolling updates by state.", "state", rollouts)
    under_way = [row for row in view.rollouts.values() if row.state in UNDER_WAY]
    done, total = sum(row.done for row in under_way), sum(row.total for row in under_way)
    slots = (("done", done), ("left", max(0, total - done)), ("failed", sum(len(row.failed) for row in under_way)))
    gauges.by("stackd_rollout_tasks", "Tasks of the rolling updates that are under way, by how far they are.", "state", slots)
    frozen = sum(1 for row in view.services.values() if row.frozen)
    gauges.number("stackd_services_frozen", "Services left alone because deciding on them failed.", frozen)


async def scrape(metrics: Metrics, role: Role | None) -> bytes:
    """All there is to tell of this node now. A node that is no manager knows no state."""
    gauges = Gauges()
    gauges.by("stackd_node_role", "Always 1; what this node is, is a label.", "role", [(role.state if role else "changing", 1)])
    if isinstance(role, ManagerRole):
        try:
            members = await role.member.members()
        except StackdError:
            members = ()  # it is ending
        gather_manager(role, members, gauges)
        await gather_state(role.manager.writer.view, gauges)
    return metrics.text(gauges.families)


async def _count(rows: Iterable[object], key: Callable[..., str]) -> list[tuple[str, float]]:
    counts: Count[str] = Count()
    present = tuple(rows)
    for start in range(0, len(present), SLICE_ROWS):
        counts.update(key(row) for row in present[start : start + SLICE_ROWS])
        await asyncio.sleep(0)
    return sorted(counts.items())


@asynccontextmanager
async def serve_metrics(host: str, port: int, read: Callable[[], Awaitable[bytes]]) -> AsyncIterator[int]:
    """Answer `GET /metrics` inside the block with what `read` gives; yields the port. Raises Refused("api.listen.failed")."""
    scrapes = asyncio.Lock()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(await _response(head, read, scrapes))
            async with asyncio.timeout(READ_SECONDS):
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it has gone, or never asked
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, host, port, limit=REQUEST_BYTES)
    except OSError as exc:
        raise Refused("api.listen.failed", f"can't listen on {host}:{port}: {exc}", hint="is another daemon there?") from exc
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def _response(head: bytes, read: Callable[[], Awaitable[bytes]], scrapes: asyncio.Lock) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if path != b"/metrics":
        return _message("404 Not Found", "text/plain", b"/metrics is what there is\n")
    if method not in (b"GET", b"HEAD"):
        return _message("405 Method Not Allowed", "text/plain", b"only GET\n")
    async with scrapes:  # one at a time: a second scraper waits instead of doubling the work
        body = await read()
    return _message("200 OK", CONTENT_TYPE_LATEST, body, with_body=method == b"GET")


def _message(status: str, kind: str, body: bytes, *, with_body: bool = True) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + (body if with_body else b"")
