"""One task on every node that suits the service (semantics 6).

A node that joins or returns gets its task at once, outside of any rolling update.
"""

from __future__ import annotations

from stackd.base.ids import NodeId
from stackd.engine.dirty import Scope
from stackd.engine.draft import Draft
from stackd.engine.model import Node, Service
from stackd.engine.orchestrate.fill import empty_slot, fill_slot
from stackd.engine.orchestrate.slots import (
    Slot,
    is_finished,
    is_paused,
    node_suits,
    nodes_in,
    slots_of,
    spec_of,
    why_evicting,
)
from stackd.engine.tasks import stop_task
from stackd.spec.stack import TaskSpec


def reconcile(draft: Draft, service: Service, scope: Scope) -> None:
    """Fill the slots of eligible nodes, empty those of nodes that are gone."""
    spec = spec_of(draft, service.spec)
    slots = slots_of(draft, service, scope)
    for node in draft.budgeted(service.id, nodes_in(draft, scope)):
        _reconcile_node(draft, service, spec, node, slots.get((0, node.id)))
    for (_, node_id), slot in slots.items():
        if node_id not in draft.nodes:
            empty_slot(draft, slot, "the node is gone")


def _reconcile_node(draft: Draft, service: Service, spec: TaskSpec, node: Node, slot: Slot | None) -> None:
    if why_evicting(draft, node.id):
        return  # eviction has stopped what was there
    if not node_suits(draft, spec, node.id):
        for task in slot.live if slot else ():
            if is_paused(draft, node.id) and task.spec == service.spec:
                continue  # it is the node that has changed, not the service
            stop_task(draft, task, "the node no longer satisfies the service's constraints")
        return
    if is_paused(draft, node.id):
        return
    if slot is None or not (slot.live or is_finished(draft, slot)):
        fill_slot(draft, service, (0, NodeId(node.id)), slot)
