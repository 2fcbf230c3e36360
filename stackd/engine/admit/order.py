"""Services that depend on one another have an order: what a stack's `depends_on` has to satisfy."""

from __future__ import annotations

from stackd.engine.admit.refusal import Refusal
from stackd.engine.inputs import StackManifest


def check_order(stack: StackManifest) -> None:
    """Refuse a service that needs one which the stack doesn't have, and services that wait for one another for ever."""
    needs = {one.name: [dependency.service for dependency in one.settings.depends_on] for one in stack.services}
    for one in stack.services:
        for dependency in one.settings.depends_on:
            if dependency.required and dependency.service not in needs:
                raise Refusal(
                    "deploy.depends.missing",
                    f'{stack.name}_{one.name} depends on "{dependency.service}", which the stack does not have',
                    "add the service, or make the dependency optional: `required: false`",
                )
    if cycle := _cycle_in(needs):
        path = " -> ".join((*cycle, cycle[0]))
        raise Refusal("deploy.depends.cycle", f"services of {stack.name} depend on one another: {path}", "break the circle")


def _cycle_in(needs: dict[str, list[str]]) -> list[str]:
    """The first circle, in the order in which each waits for the next; empty if there is none."""
    free: set[str] = set()
    for start in needs:
        path: list[str] = []
        branches = [iter([start])]
        while branches:
            service = next(branches[-1], None)
            if service is None:
                branches.pop()
                if path:
                    free.add(path.pop())
            elif service in path:
                return path[path.index(service) :]
            elif service in needs and service not in free:
                path.append(service)
                branches.append(iter(needs[service]))
    return []
