"""Builders for networks in engine tests: specs, services that join them, and what a cluster has given out."""

from __future__ import annotations

from typing import Any

from stackd.engine.model import Task
from stackd.engine.parts import Attachment
from stackd.engine.status import Endpoint, NetworkStatus
from stackd.engine.taskstate import TaskState
from stackd.engine.view import View
from stackd.spec.stack import NetworkAttachment, NetworkSpec, Pool, TaskSpec

from engine_builders import ToyCluster, a_spec, settings

FRONT = NetworkSpec(name="shop_front")


def a_network(name: str = "shop_front", subnet: str = "", **fields: Any) -> NetworkSpec:
    """A network, with one pool if a `subnet` is given."""
    pools = (Pool(subnet=subnet),) if subnet else ()
    return NetworkSpec(name=name, pools=fields.pop("pools", pools), **fields)


def joining(*networks: str, image: str = "v1", **fields: Any) -> TaskSpec:
    """A spec whose tasks join these networks."""
    return a_spec(image, networks=tuple(NetworkAttachment(network=name) for name in networks), **fields)


def run_on(cluster: ToyCluster, network: NetworkSpec, replicas: int = 1, **fields: Any) -> None:
    """Deploy `shop_web` on one network of its stack."""
    wanted = settings(replicas, **{name: fields.pop(name) for name in ("endpoint_mode", "mode", "update") if name in fields})
    cluster.deploy(("web", joining(network.name, **fields), wanted), objects={"networks": (network,)})


def status_of(view: View, name: str) -> NetworkStatus:
    network = view.networks.get(name)
    assert network is not None
    status = view.network_statuses.get(network.id)
    assert status is not None
    return status


def endpoint_of(cluster: ToyCluster, service: str = "shop_web") -> Endpoint:
    endpoint = cluster.view.endpoints.get(cluster.service(service).id)
    assert endpoint is not None
    return endpoint


def address_of(holder: Task | Endpoint) -> str:
    """The IPv4 address on the only network, without the length of its prefix."""
    held: tuple[Attachment, ...] = holder.attachments if isinstance(holder, Task) else holder.virtual
    assert len(held) == 1
    return held[0].v4.partition("/")[0]


def addresses_in_use(view: View) -> list[str]:
    """Every address that a task which hasn't ended, or an endpoint, has."""
    tasks = [task for task in view.tasks.values() if view.status_of(task.id).state <= TaskState.RUNNING]
    held = [one for task in tasks for one in task.attachments]
    held += [one for endpoint in view.endpoints.values() for one in endpoint.virtual]
    return [f"{one.network} {text}" for one in held for text in (one.v4, one.v6) if text]
