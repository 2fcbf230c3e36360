"""Under which names the tasks of a service are found on a network, whatever runs them."""

from __future__ import annotations

from stackd.api.dispatch import Assignment
from stackd.spec.stack import NetworkAttachment


def service_names(task: Assignment, attachment: NetworkAttachment) -> tuple[str, ...]:
    """The names that all tasks of the service share: its full name, its aliases, and the same with `tasks.` before it, as
    in Swarm. A task's own name is not among them."""
    names = tuple(dict.fromkeys((*attachment.aliases, task.service)))
    return (*names, *(f"tasks.{name}" for name in names))
