"""Whether a simulated cluster is as wanted: on record, on its hosts, and both the same.

Reads only. Each finding is a sentence; no findings means that nothing more is going to happen by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stackd.base.ids import NodeId
from stackd.engine.explain import service_health
from stackd.engine.parts import NodeState
from stackd.engine.taskstate import TaskState, is_terminal
from stackd.engine.view import View
from stackd.simulation.host import FakeHost


def unsettled(view: View, hosts: Mapping[NodeId, FakeHost]) -> list[str]:
    """What isn't as wanted yet."""
    findings = list(_unconverged(view))
    for node_id, host in hosts.items():
        findings += _absent(view, node_id, host)
        findings += _strays(view, node_id, host)
        findings += _missing(view, node_id, host)
    return findings


def _unconverged(view: View) -> Iterator[str]:
    for service in view.services.values():
        health = service_health(view, service)
        if not health.converged:
            yield f"{service.name} is {health.health}: {health.message}"
    for task in view.tasks.values():
        if task.desired > TaskState.COMPLETE and not is_terminal(view.status_of(task.id).state):
            yield f"task {task.id} has not stopped"


def _absent(view: View, node_id: NodeId, host: FakeHost) -> Iterator[str]:
    status = view.node_statuses.get(node_id)
    if status is None or status.state != NodeState.READY:
        yield f"{host.hostname} is not ready"


def _strays(view: View, node_id: NodeId, host: FakeHost) -> Iterator[str]:
    """What is on a host and shouldn't be."""
    for task_id, container in host.containers.items():
        task = view.tasks.get(task_id)
        if task is None:
            yield f"{host.hostname} still has {task_id}"
        elif container.running and (task.desired > TaskState.COMPLETE or task.node_id != node_id):
            yield f"{task_id} still runs on {host.hostname}"


def _missing(view: View, node_id: NodeId, host: FakeHost) -> Iterator[str]:
    """What is on record as running and isn't there."""
    for task in view.tasks_of_node(node_id):
        container = host.containers.get(task.id)
        if view.status_of(task.id).state == TaskState.RUNNING and not (container and container.running):
            yield f"{task.id} should run on {host.hostname}"
