"""A plan as people read it: what changes and where it was written, what happens in which order, how low it gets.

Pure: the plan in, text out. Never colour alone: every service starts with one of `+ ~ -`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from stackd.api.views import ChangeView, PlanStepView, PlanView, ServicePlanView
from stackd.cli.filekeys import change_words, file_key
from stackd.cli.output import shortened
from stackd.cli.stackfiles import StackFile
from stackd.cli.wording import clock_time, count

STEPS_SHOWN = 12
"""Steps of a service in the short form; `-o wide` shows all."""

_VALUE_WIDTH = 60
_SIGNS = {"create": "+", "update": "~", "scale": "~", "remove": "-"}
COLOURS = {"+": "green", "~": "yellow", "-": "red"}


def annotated(plan: PlanView, files: Iterable[StackFile]) -> PlanView:
    """`plan` with its fields named as in the stack file, and with the file, line and column that decide each."""
    by_stack = {file.spec.name: file for file in files}
    services = tuple(
        msgspec.structs.replace(
            service,
            changes=tuple(_annotated_change(change, service, by_stack.get(service.stack)) for change in service.changes),
        )
        for service in plan.services
    )
    return msgspec.structs.replace(plan, services=services)


def _annotated_change(change: ChangeView, service: ServicePlanView, file: StackFile | None) -> ChangeView:
    key = file_key(change.field)
    before, after = change_words(change.field, change.before, change.after)
    named = msgspec.structs.replace(change, field=key, before=before, after=after)
    short_name = service.name.removeprefix(f"{service.stack}_")
    position = file.position(f"services.{short_name}.{key}") if file else None
    if position is None:
        return named
    return msgspec.structs.replace(named, file=position.file, line=position.line, column=position.column)


def plan_text(plan: PlanView, *, every_step: bool = False) -> str:
    """The whole plan; unchanged services are only counted."""
    blocks = [_service_block(service, every_step) for service in plan.services if service.action != "unchanged"]
    return "\n".join((*blocks, summary(plan)))


def plan_markdown(plan: PlanView) -> str:
    """The plan for a merge request: the summary first, one block of text per service."""
    lines = [f"**{summary(plan)}**"]
    for service in plan.services:
        if service.action != "unchanged":
            lines += ["", f"#### {heading(service)}", "", "```text", _service_details(service, every_step=False), "```"]
    return "\n".join(lines)


def summary(plan: PlanView) -> str:
    """The last line: how many services are touched in which way."""
    if plan.refused:
        return f"Refused: {plan.refused}"
    counts = Counter("update" if service.action == "scale" else service.action for service in plan.services)
    words = [f"{counts[action]} to {action}" for action in ("create", "update", "remove") if counts[action]]
    words += [f"{counts['unchanged']} unchanged"] if counts["unchanged"] else []
    blocked = sum(1 for service in plan.services if service.blocked)
    tail = f" {count(blocked, 'service')} would not converge." if blocked else ""
    return f"{'Plan' if plan.changes else 'No changes'}: {', '.join(words) or 'nothing to do'}.{tail}"


def heading(service: ServicePlanView) -> str:
    """`~ update shop_web`."""
    return f"{_SIGNS[service.action]} {service.action} {service.name}"


def _service_block(service: ServicePlanView, every_step: bool) -> str:
    details = _service_details(service, every_step)
    indented = "\n".join(f"    {line}" for line in details.splitlines())
    return f"{heading(service)}\n{indented}\n"


def _service_details(service: ServicePlanView, every_step: bool) -> str:
    lines = _change_lines(service.changes)
    if service.placement:
        nodes = ", ".join(f"{node} {tasks}" for node, tasks in sorted(service.placement.items()))
        lines.append(f"placement  {nodes}")
    lines += _step_lines(service.steps, every_step)
    lines.append(_effect(service))
    if service.blocked:
        lines.append(f"blocked    {service.blocked}")
    return "\n".join(lines)


def _change_lines(changes: tuple[ChangeView, ...]) -> list[str]:
    """One line per change: key, values, place; the columns are aligned within the service."""
    rows = [
        (
            change.field,
            f"{shortened(change.before, _VALUE_WIDTH)} -> {shortened(change.after, _VALUE_WIDTH)}",
            f"{change.file}:{change.line}" if change.file else "",
        )
        for change in changes
    ]
    keys = max((len(row[0]) for row in rows), default=0)
    values = max((len(row[1]) for row in rows), default=0)
    return [f"{key.ljust(keys)}  {value.ljust(values)}  {place}".rstrip() for key, value, place in rows]


def _step_lines(steps: tuple[PlanStepView, ...], every_step: bool) -> list[str]:
    shown = steps if every_step else steps[:STEPS_SHOWN]
    lines = [f"{clock_time(step.at_seconds).rjust(7)}  {_step_words(step)}" for step in shown]
    if len(steps) > len(shown):
        lines.append(f"         and {count(len(steps) - len(shown), 'more step')}")
    return lines


def _step_words(step: PlanStepView) -> str:
    place = f" on {step.node}" if step.node else ""
    reason = f" ({step.reason})" if step.reason else ""
    return f"{step.task} {step.action}{place}{reason}"


def _effect(service: ServicePlanView) -> str:
    """Number of tasks touched, the low point, and how long it takes."""
    new = max(0, service.created - service.replaced)
    gone = max(0, service.removed - service.replaced)
    parts = [
        f"{number} {word}" for number, word in ((service.replaced, "replaced"), (new, "created"), (gone, "removed")) if number
    ]
    tasks = f"tasks: {', '.join(parts)}" if parts else "no task is touched"
    low = f"; never below {service.lowest_running} of {service.wanted} running" if service.replaced else ""
    duration = f"; about {clock_time(service.duration_seconds)} without image pulls" if parts else ""
    return f"{tasks}{low}{duration}"
