"""Checks what services wait for: that it is there, and that they don't wait for each other."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from stackd.spec.document import ServiceDocument, StackDocument
from stackd.spec.placed import PlacedProblems


def check_dependencies(document: StackDocument, problems: PlacedProblems) -> None:
    services = document.services
    for service in services.values():
        for name, said in service.depends_on.items():
            if name not in services and (said is None or said.required):
                _report_undefined(service, name, document, problems, is_short=said is None)
    for circle in _circles(services):
        path = f"services.{circle[0]}.depends_on"
        message = f"services wait for each other: {' -> '.join((*circle, circle[0]))}"
        problems.key_error("spec.dependency.cycle", message, path, "remove one of these dependencies")


def _report_undefined(
    service: ServiceDocument, name: str, document: StackDocument, problems: PlacedProblems, *, is_short: bool
) -> None:
    """The short form says nothing in Swarm, so files have it wrong without anyone noticing: that is only a warning."""
    path = f"{service.path}.depends_on"
    close = difflib.get_close_matches(name[:80], list(document.services), n=1)
    message = f'{path}: there is no service "{name}"'
    hint = f'did you mean "{close[0]}"?' if close else "remove it, or define the service"
    if name in document.inactive:
        message = f'{path}: no profile of the service "{name}" is active'
        hint = "name one in COMPOSE_PROFILES, or write required: false"
    if is_short:
        problems.key_warning("spec.dependency.undefined", message, f"{path}.{name}", hint)
    else:
        problems.key_error("spec.reference.undefined", message, f"{path}.{name}", hint)


def _circles(services: Mapping[str, ServiceDocument]) -> Iterator[tuple[str, ...]]:
    """Circles of services that have no service in common, each beginning with its first in the alphabet."""
    left = {name: [other for other in service.depends_on if other in services] for name, service in services.items()}
    while left := _without_free(left):
        circle = _walk(min(left), left)
        first = circle.index(min(circle))
        yield (*circle[first:], *circle[:first])
        left = {name: others for name, others in left.items() if name not in circle}


def _without_free(left: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """What is left when services that wait for nothing are taken away again and again: circles, and what waits for them."""
    dependents: dict[str, list[str]] = {}
    counts = dict.fromkeys(left, 0)
    for name, others in left.items():
        for other in others:
            if other in left:
                dependents.setdefault(other, []).append(name)
                counts[name] += 1
    free = [name for name, count in counts.items() if not count]
    while free:
        for name in dependents.get(free.pop(), ()):
            counts[name] -= 1
            if not counts[name]:
                free.append(name)
    return {name: others for name, others in left.items() if counts[name]}


def _walk(start: str, left: Mapping[str, list[str]]) -> list[str]:
    """The circle that one ends in who always goes on to the next service that isn't free."""
    way = [start]
    while True:
        following = next(other for other in left[way[-1]] if other in left)
        if following in way:
            return way[way.index(following) :]
        way.append(following)
