"""Placing a group: identical tasks of one service and one spec, spread over the nodes that pass the filters.

Nothing here knows the store. The caller fills in the accounts of the nodes, writes the result, and comes again when
something has changed that could help: there is no timer and no memory. Invariants: no node is charged beyond what it has,
a listener exists once per node, and the result depends on what is given, never on its order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stackd.base.ids import NodeId, TaskId
from stackd.engine.model import Service, Task
from stackd.engine.schedule.filters import Filter, concerned, refusal
from stackd.engine.schedule.nodes import Demand, Discount, NodeInfo
from stackd.engine.schedule.resources import Generic
from stackd.engine.schedule.spread import Nodes, Tree
from stackd.spec.stack import TaskSpec

__all__ = ["Discount", "Group", "NodeInfo", "Placements", "Verdict", "place"]

NO_NODE = "schedule.no_node"


@dataclass(frozen=True, slots=True)
class Group:
    """Identical tasks. One that already names a node (global services) is only confirmed there or refused.
    `network_drivers` are those of the networks that they join."""

    service: Service
    spec: TaskSpec
    tasks: Sequence[Task]
    network_drivers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a task could not be placed. `code` is the filter's where one filter refused all nodes. `lacks_room` tells that
    some node was refused only for what other tasks hold there, so that a task which ends may help."""

    code: str
    sentence: str
    lacks_room: bool


@dataclass(slots=True)
class Placements:
    """The outcome: every task of the group is in exactly one of the first two. `given` are the generic resources that
    assigned tasks were given."""

    assigned: dict[TaskId, NodeId] = field(default_factory=dict)
    unplaced: dict[TaskId, Verdict] = field(default_factory=dict)
    given: dict[TaskId, Generic] = field(default_factory=dict)


def place(group: Group, nodes: Nodes, discounts: Mapping[TaskId, Discount]) -> Placements:
    """Find a node for each task and charge it. `discounts` say what the replaced task of a task holds; a successor stays on
    its predecessor's node unless another is better."""
    placing = _Placing(group, nodes)
    # Successors come first, in the order of their slots: they take no more than their predecessors had.
    tasks = sorted(group.tasks, key=lambda task: (task.id not in discounts, task.slot, task.id))
    placing.forget_replaced([discounts[task.id] for task in tasks if task.id in discounts])
    for task in tasks:
        placing.put(task, discounts.get(task.id))
    return placing.result


class _Placing:
    """One run over one group."""

    def __init__(self, group: Group, nodes: Nodes) -> None:
        self.result = Placements()
        self._demand = Demand.of(group.spec, group.network_drivers)
        self._spread = group.spec.placement.spread
        self._filters = concerned(self._demand)
        self._nodes = nodes
        self._tree: Tree | None = None
        self._exhausted: Verdict | None = None

    def forget_replaced(self, discounts: Sequence[Discount]) -> None:
        """Rank the nodes as if the replaced tasks were gone, or a rolling update would drift from node to node."""
        for discount in discounts:
            info = self._nodes.get(discount.node_id)
            if info is not None and discount.counted:
                info.forget()

    def put(self, task: Task, discount: Discount | None) -> None:
        if task.node_id:
            self._confirm(task, discount)
            return
        tree = self._whole_tree()
        best = tree.best()
        own = self._own(discount)
        if own is not None and (best is None or tree.standing(own) <= tree.standing(best)):
            self._assign(task, own, discount)
        elif best is not None:
            self._assign(task, best, None)
        else:
            self.result.unplaced[task.id] = self._verdict_of_all()

    def _confirm(self, task: Task, discount: Discount | None) -> None:
        info = self._nodes.get(task.node_id)
        if info is None:
            self.result.unplaced[task.id] = _verdict({}, lacks_room=False)
            return
        held = discount if discount is not None and discount.node_id == info.id else None
        refused_by = self._refusal(info.freed(held) if held else info)
        if refused_by is None:
            self._assign(task, info, held)
        else:
            self.result.unplaced[task.id] = _verdict({refused_by: 1}, lacks_room=self._lacks_room(info))

    def _assign(self, task: Task, info: NodeInfo, discount: Discount | None) -> None:
        given = info.charge(self._demand, discount)
        self.result.assigned[task.id] = info.id
        if given:
            self.result.given[task.id] = given
        if self._tree is not None:
            self._tree.placed(info)

    def _own(self, discount: Discount | None) -> NodeInfo | None:
        """The node of the replaced task, if its successor may take over there."""
        info = self._nodes.get(discount.node_id) if discount else None
        if info is None or discount is None or self._refusal(info.freed(discount)) is not None:
            return None
        return info

    def _whole_tree(self) -> Tree:
        """The nodes as they are now, divided by what to spread over."""
        if self._tree is None:
            self._tree = Tree(self._spread, self._nodes, lambda info: self._refusal(info) is None)
        return self._tree

    def _refusal(self, info: NodeInfo) -> Filter | None:
        return refusal(self._filters, self._demand, info)

    def _verdict_of_all(self) -> Verdict:
        """Why no node takes one more task; the same for all that are left, since room only ever shrinks in a run."""
        if self._exhausted is None:
            nodes = self._nodes.all()
            refusals = Counter(each for info in nodes if (each := self._refusal(info)) is not None)
            self._exhausted = _verdict(refusals, lacks_room=any(map(self._lacks_room, nodes)))
        return self._exhausted

    def _lacks_room(self, info: NodeInfo) -> bool:
        return all(each.about_usage or each.check(self._demand, info) for each in self._filters)


def _verdict(refusals: Mapping[Filter, int], *, lacks_room: bool) -> Verdict:
    """SwarmKit's sentence: the counts of each filter, most refusals first."""
    if not refusals:
        return Verdict(NO_NODE, "no suitable node (there is none to choose from)", lacks_room)
    ordered = sorted(refusals.items(), key=lambda item: (-item[1], item[0].code))
    reasons = "; ".join(each.explain(count) for each, count in ordered)
    code = ordered[0][0].code if len(ordered) == 1 else NO_NODE
    return Verdict(code, f"no suitable node ({reasons})", lacks_room)
