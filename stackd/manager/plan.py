"""`stackd plan`: the forecast of a deployment as people read it."""

from __future__ import annotations

from collections import Counter

from stackd.api.views import ChangeView, PlanStepView, PlanView, ServicePlanView
from stackd.base.ids import ServiceId
from stackd.base.time import SECOND
from stackd.engine.explain import service_health
from stackd.engine.forecast import Forecast, Moment, forecast
from stackd.engine.inputs import Applied, DeployRevision, Rejected, StageContent
from stackd.engine.model import Service
from stackd.engine.store import Store, View
from stackd.engine.taskstate import TaskState
from stackd.manager import present
from stackd.manager.intake import Prepared

STEPS_SHOWN = 500
"""Steps per service in a plan: more says nothing more to anybody."""


def base_version(view: View) -> int:
    """The version of what people wrote: moves with services and stacks, not with reports."""
    return max(
        (record.version for table in (view.services, view.stacks) for record in table.values()),
        default=0,
    )


def make_plan(before: View, copy: Store, prepared: Prepared, command: DeployRevision) -> PlanView:
    """Run `command` forward on `copy`, a fork of the state that `before` shows."""
    stage = StageContent(specs=prepared.specs, blobs=prepared.blobs)
    result = forecast(copy, (stage, command), before.now)
    match result.replies[-1]:
        case Rejected(message=message, hint=hint):
            return PlanView(
                base_version=base_version(before),
                changes=False,
                services=(),
                prune=command.prune,
                refused=message,
                refused_hint=hint,
            )
        case Applied():
            stacks = {stack.name for stack in command.stacks} | set(command.prune)
            services = tuple(_service_plans(before, result, stacks))
            return PlanView(
                base_version=base_version(before),
                changes=any(plan.action != "unchanged" for plan in services),
                services=services,
                prune=command.prune,
            )


def _service_plans(before: View, result: Forecast, stacks: set[str]) -> list[ServicePlanView]:
    old = {service.name: service for stack in stacks for service in before.services_of_stack(stack)}
    new = {service.name: service for stack in stacks for service in result.view.services_of_stack(stack)}
    return [_service_plan(before, result, old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys())]


def _service_plan(before: View, result: Forecast, old: Service | None, new: Service | None) -> ServicePlanView:
    service = new or old
    assert service is not None
    moments = [moment for moment in result.moments if moment.service_id == service.id]
    counts = Counter(moment.action for moment in moments)
    changes = _changes(before, result.view, old, new)
    _, converged, message = service_health(result.view, new) if new else ("", True, "")
    wanted = present.wanted_tasks(result.view, new) if new else 0
    running = sum(before.status_of(task.id).state == TaskState.RUNNING for task in before.tasks_of_service(service.id))
    return ServicePlanView(
        name=service.name,
        stack=service.stack,
        action=_action(old, new, changes),
        changes=tuple(changes),
        steps=tuple(_step(before, result.view, moment) for moment in moments[:STEPS_SHOWN]),
        replaced=min(counts["running"], counts["stopped"]),
        created=counts["running"],
        removed=counts["stopped"],
        lowest_running=result.lowest.get(service.id, running),
        wanted=wanted,
        duration_seconds=round(result.settled_after.get(service.id, 0) / SECOND, 1),
        placement=_placement(result.view, service.id),
        blocked="" if converged else message,
    )


def _action(old: Service | None, new: Service | None, changes: list[ChangeView]) -> str:
    if old is None:
        return "create"
    if new is None:
        return "remove"
    if not changes:
        return "unchanged"
    return "scale" if all(change.field == "replicas" for change in changes) else "update"


def _changes(before: View, after: View, old: Service | None, new: Service | None) -> list[ChangeView]:
    """Changed fields; a service that comes or goes has none worth listing."""
    if old is None or new is None:
        return []
    spec = present.changed_fields(
        row.spec if (row := before.specs.get(old.spec)) else None,
        row.spec if (row := after.specs.get(new.spec)) else None,
    )
    settings = present.changed_fields(old.settings, new.settings)
    return [ChangeView(field=field, before=was, after=will) for field, was, will in (*settings, *spec)]


def _step(before: View, after: View, moment: Moment) -> PlanStepView:
    service = after.services.get(moment.service_id) or before.services.get(moment.service_id)
    name = service.name if service else moment.service_id
    node = present.node_name(after, moment.task.node_id)
    return PlanStepView(
        at_seconds=round(moment.after / SECOND, 2),
        action=moment.action,
        task=f"{name}.{moment.task.slot or node}",
        node=node,
        reason=moment.reason,
    )


def _placement(view: View, service: ServiceId) -> dict[str, int]:
    """Tasks per node at the end."""
    return dict(
        Counter(
            present.node_name(view, task.node_id)
            for task in view.tasks_of_service(service)
            if task.node_id and task.desired <= TaskState.RUNNING
        )
    )
