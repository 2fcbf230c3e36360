"""Reads the `deploy` section: how many tasks, where, with which resources, and how they are replaced."""

from __future__ import annotations

from collections.abc import Callable

from stackd.base.time import Duration
from stackd.spec import constraints, shorthand
from stackd.spec.document import Deploy
from stackd.spec.nodes import Scalar
from stackd.spec.read import keys
from stackd.spec.read.value import Fields, Value
from stackd.spec.stack import (
    REPLICAS_MAX,
    FailureAction,
    Placement,
    Resources,
    RestartCondition,
    RestartPolicy,
    ServiceMode,
    ServiceSettings,
    UpdateConfig,
    UpdateOrder,
)

_LATER_MODES = {"replicated-job": "", "global-job": ""}
_MIN_NANO_CPUS = 1_000_000
_MIN_MEMORY_BYTES = 4 * 1024 * 1024


def read_deploy(value: Value) -> Deploy:
    """The section; an empty one says nothing, as in the official client."""
    if value.is_empty():
        return Deploy()
    fields = value.fields(keys.DEPLOY)
    resources = fields.read("resources", lambda section: section.fields(keys.RESOURCES), Fields({}))
    limits = resources.read("limits", _limits, Resources())
    reservations = resources.read("reservations", _reservations, Resources())
    if "resources" in fields:
        _check_reservations(fields["resources"], limits, reservations)
    return Deploy(
        settings=_settings(fields),
        limits=limits,
        reservations=reservations,
        restart=fields.read("restart_policy", _restart_policy, None),
        placement=fields.read("placement", _placement, Placement()),
    )


def _settings(fields: Fields) -> ServiceSettings:
    mode = fields.read("mode", lambda value: value.choice(ServiceMode, _LATER_MODES), ServiceMode.REPLICATED)
    replicas = fields.read("replicas", lambda value: value.integer(0, REPLICAS_MAX), 1)
    if mode is ServiceMode.GLOBAL and "replicas" in fields:
        hint = "a global service has one task on each node; remove replicas, or mode: global"
        fields["replicas"].key_error("spec.deploy.mode", "replicas can't be given for a global service", hint)
    return ServiceSettings(
        mode=mode,
        replicas=0 if mode is ServiceMode.GLOBAL else replicas,
        update=fields.read("update_config", _update, UpdateConfig()),
        rollback=fields.read("rollback_config", _rollback, UpdateConfig()),
        labels=fields.read("labels", Value.labels, ()),
    )


def _update(value: Value) -> UpdateConfig:
    return _update_config(value, tuple(FailureAction))


def _rollback(value: Value) -> UpdateConfig:
    """A failed rollback is never rolled back itself (semantics 8.3), so that action is refused here."""
    return _update_config(value, (FailureAction.PAUSE, FailureAction.CONTINUE))


def _update_config(value: Value, actions: tuple[FailureAction, ...]) -> UpdateConfig:
    fields = value.fields(keys.UPDATE)
    default = UpdateConfig()
    return UpdateConfig(
        parallelism=fields.read("parallelism", lambda field: field.integer(0, REPLICAS_MAX), default.parallelism),
        delay_ns=fields.read("delay", read_duration, default.delay_ns),
        failure_action=fields.read("failure_action", lambda field: field.choice(actions), default.failure_action),
        # A monitor of 0 means the default, as in the Docker API.
        monitor_ns=fields.read("monitor", read_duration, default.monitor_ns) or default.monitor_ns,
        max_failure_ratio=fields.read("max_failure_ratio", lambda field: field.number(0, 1), default.max_failure_ratio),
        order=fields.read("order", lambda field: field.choice(UpdateOrder), default.order),
    )


def _restart_policy(value: Value) -> RestartPolicy:
    fields = value.fields(keys.RESTART_POLICY)
    default = RestartPolicy()
    return RestartPolicy(
        condition=fields.read("condition", lambda field: field.choice(RestartCondition), default.condition),
        delay_ns=fields.read("delay", read_duration, default.delay_ns),
        max_attempts=fields.read("max_attempts", Value.integer, default.max_attempts),
        window_ns=fields.read("window", read_duration, default.window_ns),
    )


def _limits(value: Value) -> Resources:
    fields = value.fields(keys.LIMITS)
    return _amounts(fields, pids=fields.read("pids", Value.integer, 0))


def _reservations(value: Value) -> Resources:
    return _amounts(value.fields(keys.RESERVATIONS), pids=0)


def _amounts(fields: Fields, *, pids: int) -> Resources:
    return Resources(
        nano_cpus=fields.read("cpus", _cpus, 0),
        memory_bytes=fields.read("memory", _memory, 0),
        pids=pids,
    )


def _cpus(value: Value) -> int:
    """Text or a number; what was written counts, so that no float rounds it."""
    amount = read_number_or_text(value, shorthand.nano_cpus, 0)
    if 0 < amount < _MIN_NANO_CPUS:
        value.error("spec.resources.too_small", f"{value.path} must be at least 0.001", "leave it out for no limit")
    return amount


def _memory(value: Value) -> int:
    amount = read_number_or_text(value, shorthand.byte_size, 0)
    if 0 < amount < _MIN_MEMORY_BYTES:
        value.error("spec.resources.too_small", f"{value.path} must be at least 4M", "did you leave out the unit?")
    return amount


def _check_reservations(value: Value, limits: Resources, reservations: Resources) -> None:
    for name, limit, reserved in (
        ("cpus", limits.nano_cpus, reservations.nano_cpus),
        ("memory", limits.memory_bytes, reservations.memory_bytes),
    ):
        if limit and reserved > limit:
            message = f"{value.path} reserves more {name} than its limit allows to use"
            value.key_error("spec.resources.exceeded", message, "raise the limit or lower the reservation")


def _placement(value: Value) -> Placement:
    fields = value.fields(keys.PLACEMENT)
    return Placement(constraints=fields.read("constraints", _constraints, ()))


def _constraints(value: Value) -> tuple[str, ...]:
    found = [item.parsed(_constraint, "") for item in value.items()]
    return tuple(text for text in found if text)


def _constraint(text: str) -> str:
    """The constraint in one spelling, so that blanks don't replace tasks."""
    parsed = constraints.parse(text)
    key = f"{parsed.attribute}.{parsed.label}" if parsed.label else str(parsed.attribute)
    return f"{key} {'==' if parsed.equal else '!='} {parsed.value}"


def read_duration(value: Value) -> Duration:
    """A duration; a bare number is refused, because its unit would be a guess."""
    if isinstance(value.node, Scalar) and isinstance(value.node.value, int | float) and not isinstance(value.node.value, bool):
        value.expected("a duration", f'add a unit: "{value.node.written}s"')
        return Duration(0)
    return value.parsed(shorthand.duration, Duration(0))


def read_number_or_text(value: Value, parse: Callable[[str], int], default: int) -> int:
    """What `parse` makes of text or of a number as it is written."""
    if isinstance(value.node, Scalar) and isinstance(value.node.value, int | float) and not isinstance(value.node.value, bool):
        return value.checked(parse, value.node.written, default)
    return value.parsed(parse, default)
