"""The writer's replies as those who call over the API see them."""

from __future__ import annotations

from stackd.base.errors import NotFound, Refused
from stackd.engine.inputs import Applied, Rejected, Reply


def accepted(reply: Reply) -> Applied:
    """The reply of a command that was carried out. Raises what a rejected one is for the client: NotFound or Refused."""
    match reply:
        case Applied():
            return reply
        case Rejected(code=code, message=message, hint=hint):
            kind = NotFound if code.endswith(".unknown") else Refused
            raise kind(code, message, hint=hint or None)
