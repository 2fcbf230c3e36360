"""Spreading identical tasks over nodes that may all take them: the ranking, and the tree of spread preferences.

Each preference divides the nodes by the value of a label; nodes without the label are a branch of their own. A task goes
down the branch that has the fewest tasks of the service so far, level by level, to the best node of the leaf it comes to. So
each level evens out the totals, not only the new tasks (semantics 12.5). Without preferences the tree is a single leaf.

Branches and leaves always give out their best, and equal nodes never differ by more than one task. A leaf takes the nodes as
they come, best first, and looks at no more of them than it needs: n tasks cost O(n log n) however many nodes there are, and
with preferences O(m + n log m) for m nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stackd.base.ids import NodeId
from stackd.engine.schedule.nodes import NodeInfo

FAILING = 5
"""From this many recent failures of a spec on, a node is only taken if all others fail as well (semantics 12.6)."""

Rank = tuple[int, int, int]

Standing = tuple[tuple[int, ...], Rank]
"""How good a place in the tree is, less is better: the tasks in its branches from the root on, then the node's rank."""

Candidate = tuple[Rank, NodeId]
"""A node with its rank: what the order in which nodes come up is made of."""

_NODE_LABEL = "node.labels."
_ENGINE_LABEL = "engine.labels."


def rank(info: NodeInfo) -> Rank:
    """How good a node is for one more task, less is better: few failures if it fails at all, few tasks of the service, few
    tasks in total (semantics 12.6)."""
    failures = info.recent_failures if info.recent_failures >= FAILING else 0
    return failures, info.tasks_of_service, info.tasks_total


def candidate(info: NodeInfo) -> Candidate:
    return rank(info), info.id


class Nodes(Protocol):
    """The nodes that a group is placed on, with accounts of those that come up."""

    def get(self, node_id: NodeId) -> NodeInfo | None:
        """The account of a node; None if there is no such node."""
        ...

    def all(self) -> Sequence[NodeInfo]:
        """The accounts of all nodes, in any order."""
        ...

    def ranked(self) -> Iterator[Candidate]:
        """The nodes that may take a task, best first: as they are now, whatever is placed while they are gone through. A
        node's account may turn out to be worse than its rank here, never better."""
        ...


class Leaf:
    """The nodes of one branch, best first; among equals the smallest id, so that the order given doesn't matter.

    A node gets its account, and is asked whether it takes a task, only when it comes up: most never do. It only ever becomes
    worse than it was `ranked`, so that it comes up in time, and has its place corrected then."""

    def __init__(
        self,
        ranked: Iterator[Candidate],
        account: Callable[[NodeId], NodeInfo | None],
        takes: Callable[[NodeInfo], bool],
    ) -> None:
        self._ranked = ranked
        self._next = next(ranked, None)
        self._account = account
        self._takes = takes
        self._heap: list[tuple[Rank, NodeId, NodeInfo]] = []

    def best(self) -> NodeInfo | None:
        """The best node that takes one more task; one that doesn't is not asked again."""
        while self._come_up():
            known, node_id, info = self._heap[0]
            current = rank(info)
            if current != known:
                heapq.heapreplace(self._heap, (current, node_id, info))
            elif self._takes(info):
                return info
            else:
                heapq.heappop(self._heap)
        return None

    def _come_up(self) -> bool:
        """Have all those on the heap that may be better than what is on top of it; returns whether there is any."""
        while self._next is not None and (not self._heap or self._next < self._heap[0]):
            info = self._account(self._next[1])
            if info is not None:
                heapq.heappush(self._heap, (*candidate(info), info))
            self._next = next(self._ranked, None)
        return bool(self._heap)


@dataclass(slots=True)
class _Branch:
    """A part of the tree. `tasks` counts the service's tasks on all its nodes, also on those that take none."""

    tasks: int = 0
    children: dict[str, _Branch] = field(default_factory=dict)
    nodes: dict[NodeId, NodeInfo] = field(default_factory=dict)
    leaf: Leaf | None = None
    heap: list[tuple[int, str]] | None = None

    def best(self, takes: Callable[[NodeInfo], bool]) -> NodeInfo | None:
        """The best node of the child with the fewest tasks; a child that is full is not asked again."""
        if not self.children:
            if self.leaf is None:
                self.leaf = Leaf(iter(sorted(map(candidate, self.nodes.values()))), self.nodes.get, takes)
            return self.leaf.best()
        if self.heap is None:
            self.heap = [(child.tasks, value) for value, child in self.children.items()]
            heapq.heapify(self.heap)
        while self.heap:
            known, value = self.heap[0]
            child = self.children[value]
            if child.tasks != known:
                heapq.heapreplace(self.heap, (child.tasks, value))
                continue
            found = child.best(takes)
            if found is not None:
                return found
            heapq.heappop(self.heap)
        return None


class Tree:
    """The nodes of a cluster, divided by `preferences` such as "node.labels.zone". `takes` says whether a node takes one more
    task. Counts only rise, and room only shrinks, while it is in use. Dividing takes all nodes: each counts for its branch."""

    def __init__(self, preferences: Sequence[str], nodes: Nodes, takes: Callable[[NodeInfo], bool]) -> None:
        self._preferences = tuple(one for one in preferences if one.startswith((_NODE_LABEL, _ENGINE_LABEL)))
        self._takes = takes
        self._root = _Branch()
        if not self._preferences:
            self._root.leaf = Leaf(nodes.ranked(), nodes.get, takes)
            return
        for info in nodes.all():
            branch = self._root
            for value in self._values(info):
                branch = branch.children.setdefault(value, _Branch())
                branch.tasks += info.tasks_of_service
            branch.nodes[info.id] = info

    def best(self) -> NodeInfo | None:
        """The node for the next task; None if none takes it."""
        return self._root.best(self._takes)

    def placed(self, info: NodeInfo) -> None:
        """One more task is on the node."""
        for branch in self._path(info):
            branch.tasks += 1

    def standing(self, info: NodeInfo) -> Standing:
        return tuple(branch.tasks for branch in self._path(info)), rank(info)

    def _path(self, info: NodeInfo) -> Iterator[_Branch]:
        branch = self._root
        for value in self._values(info):
            branch = branch.children[value]
            yield branch

    def _values(self, info: NodeInfo) -> Iterator[str]:
        """The node's value for each preference; "" where it has none."""
        for preference in self._preferences:
            if preference.startswith(_NODE_LABEL):
                labels, name = info.node.labels, preference[len(_NODE_LABEL) :]
            else:
                labels, name = info.status.description.engine_labels, preference[len(_ENGINE_LABEL) :]
            yield next((value for key, value in labels if key == name), "")
