"""How admission refuses a command, and the lookups that refuse."""

from __future__ import annotations

from stackd.engine.inputs import Rejected
from stackd.engine.model import Service, Stack
from stackd.engine.view import View


class Refusal(Exception):
    """The command is refused; `reply` is the answer. Never leaves admission."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.reply = Rejected(code=code, message=message, hint=hint)


def service_of(view: View, name: str, version: int | None = None) -> Service:
    """The service with this scoped name. Refuses if there is none, or if the caller saw another version of it."""
    service = view.service_named(name)
    if service is None:
        raise Refusal("service.unknown", f'no service named "{name}"', "`stackd service ls` lists them")
    if version is not None and version != service.version:
        raise Refusal(
            "service.stale",
            f"{name} has changed: it has version {service.version}, the request was made for version {version}",
            "look at it again and repeat the request",
        )
    return service


def stack_of(view: View, name: str) -> Stack:
    """The stack with this name. Refuses if there is none."""
    stack = view.stacks.get(name)
    if stack is None:
        raise Refusal("stack.unknown", f'no stack named "{name}"', "`stackd stack ls` lists them")
    return stack


def check_not_owned(view: View, stack_name: str, *, override: bool) -> None:
    """Refuse a change by hand of what a source owns: it would be undone by the next sync."""
    stack = view.stacks.get(stack_name)
    if stack is not None and stack.owner.source and not override:
        raise Refusal(
            "deploy.owned",
            f'stack "{stack_name}" is owned by source "{stack.owner.source}"',
            f"edit {stack.owner.file or 'its file'} there, or use --override to change it until the next sync",
        )
