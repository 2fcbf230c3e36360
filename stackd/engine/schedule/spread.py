"""Spreading identical tasks over nodes that may all take them: the ranking, and one leaf of the spread tree.

Without spread preferences the tree is a single leaf. A leaf always gives out its best node, so n tasks on m nodes cost
O(m + n log m), and equal nodes never differ by more than one task.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from stackd.base.ids import NodeId
from stackd.engine.schedule.nodes import NodeInfo

FAILING = 5
"""From this many recent failures of a spec on, a node is only taken if all others fail as well (semantics 12.6)."""

Rank = tuple[int, int, int]


def rank(info: NodeInfo) -> Rank:
    """How good a node is for one more task, less is better: few failures if it fails at all, few tasks of the service, few
    tasks in total (semantics 12.6)."""
    failures = info.recent_failures if info.recent_failures >= FAILING else 0
    return failures, info.tasks_of_service, info.tasks_total


class Leaf:
    """The nodes of one branch, best first; among equals the smallest id, so that the order given doesn't matter.

    A charged node only ever becomes worse, so its place in the heap is corrected when it comes up (never before)."""

    def __init__(self, nodes: Iterable[NodeInfo], has_room: Callable[[NodeInfo], bool]) -> None:
        self._has_room = has_room
        self._heap: list[tuple[Rank, NodeId, NodeInfo]] = [(rank(info), info.id, info) for info in nodes]
        heapq.heapify(self._heap)

    def best(self) -> NodeInfo | None:
        """The best node that still has room; one without room is not asked again."""
        while self._heap:
            known, node_id, info = self._heap[0]
            current = rank(info)
            if current != known:
                heapq.heapreplace(self._heap, (current, node_id, info))
            elif not self._has_room(info):
                heapq.heappop(self._heap)
            else:
                return info
        return None
