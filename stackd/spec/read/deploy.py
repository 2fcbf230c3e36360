"""Reads the `deploy` section: how many tasks, where, with which resources, and how they are replaced."""

from __future__ import annotations

from stackd.spec import constraints, shorthand
from stackd.spec.document import (
    AmountsDocument,
    DeployDocument,
    DiscreteResourceDocument,
    GenericResourceDocument,
    PlacementDocument,
    PreferenceDocument,
    ResourcesDocument,
    RestartDocument,
    UpdateDocument,
)
from stackd.spec.read import keys
from stackd.spec.read.amounts import duration, number_or_text, written
from stackd.spec.read.value import Value
from stackd.spec.stack import (
    REPLICAS_MAX,
    EndpointMode,
    FailureAction,
    RestartCondition,
    ServiceMode,
    UpdateOrder,
)

_MIN_NANO_CPUS = 1_000_000
_MIN_MEMORY_BYTES = 4 * 1024 * 1024


def read_deploy(value: Value) -> DeployDocument:
    """The section; an empty one says nothing, as in the official client."""
    if value.is_empty():
        return DeployDocument()
    fields = value.fields(keys.DEPLOY)
    return DeployDocument(
        mode=fields.read("mode", lambda field: field.choice(ServiceMode), ""),
        replicas=fields.read("replicas", lambda field: field.integer(0, REPLICAS_MAX), None),
        labels=fields.read("labels", Value.labels, {}),
        update_config=fields.read("update_config", lambda field: _update(field, tuple(FailureAction)), None),
        rollback_config=fields.read("rollback_config", _rollback, None),
        resources=fields.read("resources", _resources, ResourcesDocument()),
        restart_policy=fields.read("restart_policy", _restart_policy, None),
        placement=fields.read("placement", _placement, PlacementDocument()),
        endpoint_mode=fields.read("endpoint_mode", _endpoint_mode, ""),
    )


def _endpoint_mode(value: Value) -> str:
    """The word in any case, as the official client takes it."""
    text = value.text()
    if text.lower() not in ("", *EndpointMode):
        value.choice(EndpointMode)
    return text


def _rollback(value: Value) -> UpdateDocument:
    """A failed rollback is never rolled back itself (semantics 8.3), so that action is refused here."""
    return _update(value, (FailureAction.PAUSE, FailureAction.CONTINUE))


def _update(value: Value, actions: tuple[FailureAction, ...]) -> UpdateDocument:
    fields = value.fields(keys.UPDATE)
    return UpdateDocument(
        parallelism=fields.read("parallelism", lambda field: field.integer(0, REPLICAS_MAX), None),
        delay=fields.read("delay", duration, UpdateDocument().delay),
        failure_action=fields.read("failure_action", lambda field: field.choice(actions), ""),
        monitor=fields.read("monitor", duration, UpdateDocument().monitor),
        max_failure_ratio=fields.read("max_failure_ratio", lambda field: field.number(0, 1), 0.0),
        order=fields.read("order", lambda field: field.choice(UpdateOrder, of_form=True), ""),
    )


def _restart_policy(value: Value) -> RestartDocument:
    fields = value.fields(keys.RESTART_POLICY)
    return RestartDocument(
        condition=fields.read("condition", lambda field: field.choice(RestartCondition), ""),
        delay=fields.read("delay", duration, None),
        max_attempts=fields.read("max_attempts", Value.integer, None),
        window=fields.read("window", duration, None),
    )


def _resources(value: Value) -> ResourcesDocument:
    fields = value.fields(keys.RESOURCES)
    return ResourcesDocument(
        limits=fields.read("limits", _limits, None),
        reservations=fields.read("reservations", _reservations, None),
    )


def _limits(value: Value) -> AmountsDocument:
    fields = value.fields(keys.LIMITS)
    return AmountsDocument(
        cpus=fields.read("cpus", _cpus, ""),
        memory=fields.read("memory", _memory, 0),
        pids=fields.read("pids", lambda field: field.integer(-1), 0),
    )


def _reservations(value: Value) -> AmountsDocument:
    fields = value.fields(keys.RESERVATIONS)
    return AmountsDocument(
        cpus=fields.read("cpus", _cpus, ""),
        memory=fields.read("memory", _memory, 0),
        generic_resources=fields.read("generic_resources", _generic_resources, ()),
    )


def _cpus(value: Value) -> str:
    """The amount as it is written."""
    text = written(value, shorthand.nano_cpus)
    if 0 < shorthand.understood(shorthand.nano_cpus, text, 0) < _MIN_NANO_CPUS:
        value.meaning_error("spec.resources.too_small", f"{value.path} must be at least 0.001", "leave it out for no limit")
    return text


def _memory(value: Value) -> int:
    amount = number_or_text(value, shorthand.byte_size, 0)
    if 0 < amount < _MIN_MEMORY_BYTES:
        value.meaning_error("spec.resources.too_small", f"{value.path} must be at least 4M", "did you leave out the unit?")
    return amount


def _generic_resources(value: Value) -> tuple[GenericResourceDocument, ...]:
    found: list[GenericResourceDocument] = []
    for item in value.items():
        fields = item.fields(keys.GENERIC_RESOURCE)
        if "discrete_resource_spec" not in fields:
            hint = "write discrete_resource_spec: {kind: gpu, value: 1}"
            item.meaning_error("spec.resources.generic", f"{item.path} names no resource", hint)
        found.append(GenericResourceDocument(discrete_resource_spec=fields.read("discrete_resource_spec", _discrete, None)))
    return tuple(found)


def _discrete(value: Value) -> DiscreteResourceDocument:
    fields = value.fields(keys.DISCRETE_RESOURCE)
    if "kind" not in fields:
        value.meaning_error("spec.resources.generic", f"{value.path} has no kind", "kind is what the node offers, such as gpu")
    return DiscreteResourceDocument(
        kind=fields.read("kind", lambda field: field.sound_text(shorthand.resource_kind), ""),
        value=fields.read("value", Value.integer, 0),
    )


def _placement(value: Value) -> PlacementDocument:
    fields = value.fields(keys.PLACEMENT)
    return PlacementDocument(
        constraints=fields.read("constraints", _constraints, ()),
        preferences=fields.read("preferences", _preferences, ()),
        max_replicas_per_node=fields.read("max_replicas_per_node", Value.integer, 0),
    )


def _constraints(value: Value) -> tuple[str, ...]:
    found = tuple(item.text() for item in value.items())
    for item, text in zip(value.items(), found, strict=True):
        if text or item.is_text():
            item.check_meaning(constraints.parse, text)
    return found


def _preferences(value: Value) -> tuple[PreferenceDocument, ...]:
    found = []
    for item in value.items():
        fields = item.fields(keys.PREFERENCE)
        if "spread" not in fields:
            hint = "write spread: node.labels.zone"
            item.meaning_error("spec.placement.bad", f"{item.path} says nothing to spread over", hint)
        spread = fields.read("spread", lambda field: field.sound_text(constraints.parse_spread), "")
        found.append(PreferenceDocument(spread=spread))
    return tuple(found)
