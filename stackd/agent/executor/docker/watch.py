"""What is known of running containers from the engine's event stream, and a way to wait for it without a thread each.

It lives in the event loop. Knowledge of a container only grows: it has started, is healthy, has ended, is gone. After
every (re)connection all of it is `stale`: something may have happened unseen, so whoever waits looks at the container
itself. That way an exit is known whoever was away when it happened.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from stackd.agent.executor.docker.spec import Container, ContainerEvent
from stackd.base.time import Instant


@dataclass(slots=True)
class Watched:
    """One container. `ended` without `exit_code` means: look it up."""

    container_id: str
    stale: bool = True
    started: bool = False
    ended: bool = False
    gone: bool = False
    exit_code: int | None = None
    oom: bool = False
    ended_at: Instant = Instant(0)
    health: str = ""
    _next: asyncio.Event = field(default_factory=asyncio.Event)

    def next_change(self) -> asyncio.Event:
        """Set at the next change. To be taken before looking at the rest, so that nothing is missed in between."""
        return self._next

    def notify(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    def seen(self, container: Container) -> None:
        """Take over what an inspection has found."""
        self.stale = False
        self.started = self.started or container.started
        self.ended = self.ended or container.ended
        self.health = container.health or self.health

    def missing(self) -> None:
        """An inspection has found nothing."""
        self.stale = False
        self.ended = self.gone = True


class ContainerWatch:
    """All containers somebody waits for. Events of others are dropped."""

    def __init__(self) -> None:
        self._watched: dict[str, Watched] = {}

    def track(self, container_id: str) -> Watched:
        """Watch a container from now on; what happened before is stale."""
        return self._watched.setdefault(container_id, Watched(container_id))

    def forget(self, container_id: str) -> None:
        self._watched.pop(container_id, None)

    def reconnected(self) -> None:
        """The event stream begins anew."""
        for watched in self._watched.values():
            watched.stale = True
            watched.notify()

    def event(self, event: ContainerEvent) -> None:
        watched = self._watched.get(event.container_id)
        if watched is None:
            return
        match event.action:
            case "start":
                watched.started = True
            case "die":
                watched.ended, watched.exit_code, watched.ended_at = True, event.exit_code, event.at
            case "oom":
                watched.oom = True
            case "destroy":
                watched.ended = watched.gone = True
                watched.ended_at = watched.ended_at or event.at
            case "health":
                watched.health = event.health
        watched.notify()
