"""What `stackd service update` makes of a service: its spec and settings with some fields changed. Pure."""

from __future__ import annotations

import msgspec

from stackd.api.control import UpdateRequest
from stackd.base.errors import Refused
from stackd.spec.stack import ServiceSettings, TaskSpec, UpdateOrder


def changed_spec(spec: TaskSpec, request: UpdateRequest) -> TaskSpec:
    """`spec` with what the request changes; `force` counts up so that equal specs are replaced as well."""
    container = spec.container
    if request.image is not None:
        container = msgspec.structs.replace(container, image=request.image)
    if request.env_add or request.env_remove:
        environment = {entry.partition("=")[0]: entry for entry in container.env}
        for name in request.env_remove:
            environment.pop(name, None)
        environment.update((entry.partition("=")[0], entry) for entry in request.env_add)
        container = msgspec.structs.replace(container, env=tuple(sorted(environment.values())))
    return msgspec.structs.replace(spec, container=container, force=spec.force + request.force)


def changed_settings(settings: ServiceSettings, request: UpdateRequest) -> ServiceSettings:
    """`settings` with what the request changes. Raises Refused for an update order that there isn't."""
    update = settings.update
    if request.parallelism is not None:
        update = msgspec.structs.replace(update, parallelism=request.parallelism)
    if request.order is not None:
        try:
            update = msgspec.structs.replace(update, order=UpdateOrder(request.order))
        except ValueError:
            words = ", ".join(order.value for order in UpdateOrder)
            raise Refused("service.order.bad", f'"{request.order}" is no update order', hint=f"one of: {words}") from None
    return msgspec.structs.replace(settings, update=update)
