"""`stackd plan`: the forecast of a deployment as people read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from stackd.api.views import ChangeView, PlanStepView, PlanView, ServicePlanView
from stackd.base.ids import ServiceId
from stackd.base.time import SECOND
from stackd.engine.explain import service_health
from stackd.engine.forecast import RUNNING, STOPPED, Forecast, Moment, forecast
from stackd.engine.inputs import DeployRevision, Rejected, StageContent
from stackd.engine.model import Service
from stackd.engine.orchestrate.slots import is_live
from stackd.engine.store import Store, View
from stackd.engine.taskstate import TaskState
from stackd.engine.written import base_version
from stackd.manager import present
from stackd.manager.intake import Prepared

STEPS_SHOWN = 500
"""Steps per service in a plan: more says nothing more to anybody."""


def make_plan(
    before: View,
    copy: Store,
    prepared: Prepared,
    command: DeployRevision,
    abandoned: Callable[[], bool] = lambda: False,
) -> PlanView:
    """Run `command` forward on `copy`, a fork of the state that `before` shows, unless it is `abandoned` on the way. Neither
    may be the live state: this runs in a thread of its own, since on a large cluster it takes many seconds."""
    stage = StageContent(specs=prepared.specs, blobs=prepared.blobs)
    result = forecast(copy, (stage, command), before.now, abandoned=abandoned)
    match next((reply for reply in result.replies if isinstance(reply, Rejected)), None):
        case Rejected(message=message, hint=hint):
            return PlanView(
                base_version=base_version(before),
                changes=False,
                services=(),
                prune=command.prune,
                refused=message,
                refused_hint=hint,
            )
        case None:
            stacks = {stack.name for stack in command.stacks} | set(command.prune)
            services = tuple(_service_plans(before, result, stacks))
            return PlanView(
                base_version=base_version(before),
                changes=any(plan.action != "unchanged" for plan in services),
                services=services,
                prune=command.prune,
            )


def _service_plans(before: View, result: Forecast, stacks: set[str]) -> list[ServicePlanView]:
    old, new = _services(before, stacks), _services(result.view, stacks)
    moments: dict[ServiceId, list[Moment]] = {}
    for moment in result.moments:
        moments.setdefault(moment.service_id, []).append(moment)
    return [_service_plan(before, result, old.get(name), new.get(name), moments) for name in sorted(old.keys() | new.keys())]


def _services(view: View, stacks: set[str]) -> dict[str, Service]:
    """The services of the stacks by name; those already being removed have lost theirs."""
    return {row.name: row for stack in stacks for row in view.services_of_stack(stack) if not row.removing}


def _service_plan(
    before: View, result: Forecast, old: Service | None, new: Service | None, moments: dict[ServiceId, list[Moment]]
) -> ServicePlanView:
    """What happens under one name. A service whose mode changes is another one: then there are two of that name."""
    services = list({service.id: service for service in (old, new) if service is not None})
    seen = sorted((moment for service in services for moment in moments.get(service, ())), key=lambda moment: moment.after)
    counts = Counter(moment.action for moment in seen)
    named = new or old
    assert named is not None
    changes = _changes(before, result.view, old, new)
    return ServicePlanView(
        name=named.name,
        stack=named.stack,
        action=_action(old, new, changes),
        changes=tuple(changes),
        steps=tuple(_step(result.view, named.name, moment) for moment in seen[:STEPS_SHOWN]),
        replaced=min(counts[RUNNING], counts[STOPPED]),
        created=counts[RUNNING],
        removed=counts[STOPPED],
        lowest_running=_lowest(before, result, named),
        wanted=present.wanted_tasks(result.view, new) if new else 0,
        duration_seconds=round(max((result.settled_after.get(service, 0) for service in services), default=0) / SECOND, 1),
        placement=_placement(result.view, new.id) if new else {},
        blocked=_blocked(result, new) if new else "",
    )


def _lowest(before: View, result: Forecast, service: Service) -> int:
    """The lowest number of running tasks the service came to; that of now if none starts or ends."""
    running = sum(before.status_of(task.id).state is TaskState.RUNNING for task in before.tasks_of_service(service.id))
    return result.lowest.get(service.id, running)


def _blocked(result: Forecast, service: Service) -> str:
    """Why the service isn't as wanted at the end."""
    _, converged, message = service_health(result.view, service)
    if converged:
        return ""
    return message if result.complete else f"not over where the forecast ends: {message}"


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


def _step(after: View, service: str, moment: Moment) -> PlanStepView:
    node = present.node_name(after, moment.task.node_id)
    return PlanStepView(
        at_seconds=round(moment.after / SECOND, 2),
        action=moment.action,
        task=f"{service}.{moment.task.slot or node}",
        node=node,
        reason=moment.reason,
    )


def _placement(view: View, service: ServiceId) -> dict[str, int]:
    """Tasks per node at the end."""
    return dict(
        Counter(
            present.node_name(view, task.node_id) for task in view.tasks_of_service(service) if task.node_id and is_live(task)
        )
    )
