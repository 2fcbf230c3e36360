"""The cluster's networks on one engine: each is a bridge of this node, made with the first task that needs it and removed
with the last.

They are what tasks on one node find each other by, through the engine's own DNS; between nodes they don't reach. A network's
name on the engine begins with ours and the data directory's, so it is never one of the user's own. Who uses which network
is known from a label of the containers, so a new daemon takes over where the old one stopped.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv6Network

from stackd.agent.executor.base import TaskContext
from stackd.agent.executor.docker.body import DATA_LABEL, NETWORKS_LABEL, TASK_LABEL, Body, Joined
from stackd.agent.executor.docker.engine import DockerEngine, EngineRefused
from stackd.agent.executor.names import service_names
from stackd.base.errors import TaskFault
from stackd.base.ids import TaskId
from stackd.engine.allocate.networks import PREDEFINED
from stackd.spec.stack import NetworkAttachment, NetworkSpec, Pool

NETWORK_LABEL = "stackd.network"
"""The network's name in the cluster."""

_DEFAULT = Joined("bridge")

_BRIDGE_DRIVERS = ("", "overlay", "bridge")
"""Drivers whose networks are bridges here. Others (macvlan, ipvlan, plugins) are handed to the engine by name."""

_OPTIONS = "com.docker.network."
_OVERLAY_OPTIONS = "com.docker.network.driver.overlay."


class DockerNetworks:
    """The networks of one data directory."""

    def __init__(self, engine: DockerEngine, data_id: str) -> None:
        self._engine = engine
        self._data_id = data_id
        self._users: dict[str, set[TaskId]] | None = None
        self._known: set[str] = set()
        self._turn = asyncio.Lock()

    async def join(self, context: TaskContext) -> tuple[Joined, ...]:
        """See to it that the task's networks exist, and keep them for it until `leave`. Raises TaskFault."""
        attachments = context.spec.networks
        if attachments:
            async with self._turn:
                users = await self._all_users()
                for attachment in attachments:
                    if attachment.network not in PREDEFINED:
                        users.setdefault(attachment.network, set()).add(context.id)
                        await self._ensure(self._spec(context, attachment.network))
        return joined(context, self.engine_name)

    async def leave(self, task_id: TaskId) -> None:
        """The task is gone: remove the networks that only it has used."""
        async with self._turn:
            users = await self._all_users()
            for network in [network for network, tasks in users.items() if task_id in tasks]:
                users[network].discard(task_id)
                if not users[network]:
                    await self._remove(network)
                    del users[network]

    def forget(self) -> None:
        """The engine was away: what it has is to be looked up anew."""
        self._known.clear()

    def engine_name(self, network: str) -> str:
        """The name on the engine of a network of the cluster."""
        return network if network in PREDEFINED else f"stackd-{self._data_id[:8]}-{network}"

    def _spec(self, context: TaskContext, network: str) -> NetworkSpec:
        try:
            return context.networks[network]
        except KeyError:
            raise TaskFault("agent.docker.network_missing", f"nothing is known of the network {network}") from None

    async def _all_users(self) -> dict[str, set[TaskId]]:
        """Who uses what, read once from the containers that are there; networks that nobody uses are removed then."""
        if self._users is None:
            users: dict[str, set[TaskId]] = {}
            for own in await self._listed({DATA_LABEL: self._data_id}):
                for network in filter(None, own.get(NETWORKS_LABEL, "").split(",")):
                    users.setdefault(network, set()).add(TaskId(own.get(TASK_LABEL, "")))
            for network in await self._present():
                if network not in users:
                    await self._remove(network)
            self._users = users
        return self._users

    async def _listed(self, labels: Mapping[str, str]) -> list[Mapping[str, str]]:
        try:
            return await asyncio.wrap_future(self._engine.labels(labels))
        except EngineRefused as refused:
            raise TaskFault("agent.docker.list", refused.words) from refused

    async def _present(self) -> list[str]:
        """Our networks that exist, by their names in the cluster."""
        try:
            found = await asyncio.wrap_future(self._engine.networks({DATA_LABEL: self._data_id}))
        except EngineRefused as refused:
            raise TaskFault("agent.docker.list", refused.words) from refused
        return [own[NETWORK_LABEL] for own in found if NETWORK_LABEL in own]

    async def _ensure(self, spec: NetworkSpec) -> None:
        if spec.name in self._known:
            return
        if spec.name not in await self._present():
            try:
                await asyncio.wrap_future(self._engine.create_network(network_body(spec, self._data_id, self.engine_name)))
            except EngineRefused as refused:
                raise TaskFault("agent.docker.network", f"network {spec.name}: {refused.words}") from refused
        self._known.add(spec.name)

    async def _remove(self, network: str) -> None:
        """Remove one of ours; one that somebody else's container is in stays, and is swept by a later daemon."""
        self._known.discard(network)
        try:
            await asyncio.wrap_future(self._engine.remove_network(self.engine_name(network)))
        except EngineRefused as refused:
            if refused.status not in (403, 404):
                raise TaskFault("agent.docker.network", f"network {network}: {refused.words}") from refused


def joined(context: TaskContext, engine_name: Callable[[str], str]) -> tuple[Joined, ...]:
    """The engine's networks that a task joins, the one that decides its mode first; none is the engine's default one.

    Published ports of a task that only has internal networks need a way in, as Swarm's ingress network is: the engine's
    default network."""
    attachments = context.spec.networks
    found = [_joined(context, attachment, engine_name) for attachment in attachments]
    found.sort(key=lambda one: one.name not in ("host", "none"))
    internal = [a.network in context.networks and context.networks[a.network].internal for a in attachments]
    if found and context.spec.ports and all(internal):
        return (_DEFAULT, *found)
    return tuple(found)


def _joined(context: TaskContext, attachment: NetworkAttachment, engine_name: Callable[[str], str]) -> Joined:
    name = engine_name(attachment.network)
    if attachment.network in PREDEFINED:
        return Joined(name)
    return Joined(name, service_names(context.assignment, attachment), attachment.driver_options, attachment.addresses)


def network_body(spec: NetworkSpec, data_id: str, engine_name: Callable[[str], str]) -> Body:
    """The body of `POST /networks/create` for this node's part of a network."""
    bridge = spec.driver in _BRIDGE_DRIVERS
    return {
        "Name": engine_name(spec.name),
        "CheckDuplicate": True,
        "Driver": "bridge" if bridge else spec.driver,
        "Options": _bridge_options(spec) if bridge else dict(spec.driver_options),
        "Internal": spec.internal,
        "EnableIPv6": spec.ipv6,
        "IPAM": {"Driver": spec.ipam_driver or "default", "Config": [_pool(pool) for pool in _pools(spec, data_id)]},
        "Labels": {**dict(spec.labels), DATA_LABEL: data_id, NETWORK_LABEL: spec.name},
    }


def _bridge_options(spec: NetworkSpec) -> dict[str, str]:
    """The options that mean something for a bridge: an overlay's own (encryption, VXLAN ids) are about what is between
    nodes."""
    return {
        key: value for key, value in spec.driver_options if key.startswith(_OPTIONS) and not key.startswith(_OVERLAY_OPTIONS)
    }


def _pools(spec: NetworkSpec, data_id: str) -> Sequence[Pool]:
    """The pools asked for; for IPv6, which older engines have no pools for, else a unique local one (RFC 4193)."""
    if not spec.ipv6 or any(":" in pool.subnet for pool in spec.pools):
        return spec.pools
    number = hashlib.sha256(f"{data_id} {spec.name}".encode()).digest()
    subnet = IPv6Network((b"\xfd" + number[:7] + bytes(8), 64))
    return (*spec.pools, Pool(subnet=str(subnet)))


def _pool(pool: Pool) -> Body:
    parts = {"Subnet": pool.subnet, "Gateway": pool.gateway, "IPRange": pool.ip_range}
    return {key: value for key, value in parts.items() if value}
