"""Laying out a process task on the host: all that happens between "prepare it" and a monitor that holds it at the gate.

The order is that of need, and the record comes last: a task with a record is completely prepared. Whoever calls this
removes what a failure leaves half made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from stackd.agent.executor.base import TaskContext
from stackd.agent.executor.names import service_names
from stackd.agent.executor.process.channel import Monitor
from stackd.agent.executor.process.directory import NetworkRecord, PortRecord, TaskDirectory, TaskRecord
from stackd.agent.executor.process.host import ProcessHost, endpoint_name
from stackd.agent.executor.process.spec import Place, hosts_of, make_plan
from stackd.agent.executor.process.support import host_network
from stackd.base.errors import Retry, TaskFault
from stackd.engine.allocate.networks import PREDEFINED
from stackd.engine.parts import NodeDescription
from stackd.net.pool import Endpoint
from stackd.net.sandbox import open_loopback
from stackd.spec.stack import TaskSpec

T = TypeVar("T")


async def lay_out(host: ProcessHost, context: TaskContext, node: NodeDescription) -> Monitor:
    """Directory, address, limits, names, monitor, network and record of an expanded task. Raises TaskFault and OSError."""
    spec = context.spec
    directory = host.directory(context.id)
    directory.make()
    (directory.path / "home").mkdir()
    host.make_sources(directory, spec.container.mounts)
    endpoint = await _address(host, context)
    group = host.limit(context.id, spec.limits)
    place = Place(
        directory=directory.path,
        lower=host.lower_of(spec.container.image),
        volumes=host.volumes,
        hidden=host.hidden,
        isolated=host.isolated,
        address=str(endpoint.address) if endpoint else "",
        gateway=str(host.network().gateway) if endpoint else "",
        limit_groups=group.join_files,
        oom_counter=group.oom_counter,
    )
    record = _record(context, node, place)
    if host.isolated:
        host.enter(context.id, record)
    monitor, pid = await _spawn(directory, context, node, place)
    if host.isolated:
        await in_thread(lambda: _join(host, context, endpoint, f"/proc/{pid}/ns/net"))
    directory.write_record(record)
    return monitor


async def _address(host: ProcessHost, context: TaskContext) -> Endpoint | None:
    """An address on the node's bridge, for a task that gets a network of its own."""
    networks = {attachment.network for attachment in context.spec.networks}
    if not host.isolated or "host" in networks or networks == {"none"}:
        return None
    return await in_thread(lambda: host.network().allocate(endpoint_name(context.id)))


async def _spawn(directory: TaskDirectory, context: TaskContext, node: NodeDescription, place: Place) -> tuple[Monitor, str]:
    """The task's monitor, and the process id of its init."""
    monitor, word = await Monitor.spawn(directory, make_plan(context, node, place))
    said, _, rest = word.partition(" ")
    if said == "refused":
        raise TaskFault("agent.process.prepare", rest)
    if said == "no-room":
        raise TaskFault("agent.process.prepare", rest, retry=Retry.LATER)
    if said != "ready":
        await monitor.ended()  # what it complains of may come after its last word
        complaint = directory.complaint() or "no reason given"
        raise TaskFault("agent.process.monitor", f"the task's monitor ended while preparing: {complaint}")
    return monitor, rest


def _join(host: ProcessHost, context: TaskContext, endpoint: Endpoint | None, namespace: str) -> None:
    """Connect the task's network namespace, unless it is the host's."""
    if endpoint is not None:
        host.network().attach(endpoint, namespace, routed=_reaches_out(context))
    elif not host_network(context.spec):
        open_loopback(namespace)


def _reaches_out(context: TaskContext) -> bool:
    """Whether the task may reach more than its neighbours: not if all its networks are internal, unless it publishes ports,
    as a way in is one out as well (in Swarm too)."""
    networks = [context.networks.get(attachment.network) for attachment in context.spec.networks]
    return bool(context.spec.ports) or not networks or any(network is None or not network.internal for network in networks)


def _record(context: TaskContext, node: NodeDescription, place: Place) -> TaskRecord:
    task, spec = context.assignment, context.spec
    return TaskRecord(
        name=task.name,
        stack=task.stack,
        service=task.service,
        revision=task.revision,
        labels=spec.container.labels,
        address=place.address,
        ports=_ports(spec) if place.address else (),
        networks=tuple(
            NetworkRecord(network=attachment.network, names=service_names(task, attachment))
            for attachment in spec.networks
            if place.address and attachment.network not in PREDEFINED
        ),
        hosts=hosts_of(context, node, place),
    )


def _ports(spec: TaskSpec) -> tuple[PortRecord, ...]:
    return tuple(
        PortRecord(published=port.published, target=port.target, protocol=port.protocol, host_ip=port.host_ip)
        for port in spec.ports
    )


async def in_thread(function: Callable[[], T]) -> T:
    """Run in a thread what blocks for some milliseconds. A cancelled call is waited for, so that none comes late."""
    work = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
