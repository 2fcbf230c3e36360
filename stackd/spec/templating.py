"""Templates in settings, such as `{{.Task.Slot}}`: whether they can be filled in. The agent does it (semantics 25).

A setting is tried with made-up values, as Swarm does when a service is created: what names something that no task has is
an error here, not on the node. Contents of configs and secrets are only looked at by the agent, since what they name
depends on the task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stackd.base.errors import StackdError
from stackd.spec.template import TemplateError, parse, render
from stackd.spec.template.functions import Value

DRIVER = "golang"
"""The one template driver of configs and secrets."""


class _AnyLabel(Mapping[str, Value]):
    """Labels of which nobody knows yet which there are."""

    def __getitem__(self, key: str) -> Value:
        return "label"

    def __contains__(self, key: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


_EXAMPLE: Mapping[str, Value] = {
    "Service": {"ID": "serviceid", "Name": "stack_service", "Labels": _AnyLabel()},
    "Node": {"ID": "nodeid", "Hostname": "node", "Platform": {"OS": "linux", "Architecture": "x86_64"}},
    "Task": {"ID": "taskid", "Name": "stack_service.1.taskid", "Slot": "1"},
}


def check_setting(text: str) -> None:
    """Raises StackdError `spec.template.bad` where `text` holds a template that can't be filled in."""
    if "{{" not in text:
        return
    try:
        render(parse(text), _EXAMPLE)
    except TemplateError as error:
        hint = (
            "there are .Service.ID, .Service.Name, .Service.Labels, .Node.ID, .Node.Hostname, .Task.ID, .Task.Name, .Task.Slot"
        )
        raise StackdError("spec.template.bad", str(error), hint=hint) from error
