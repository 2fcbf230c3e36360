"""The lists of services and tasks that several commands print, with Docker's columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from stackd.api.views import ServiceView, TaskView
from stackd.base.time import Instant
from stackd.cli.invocation import Invocation
from stackd.cli.output import list_document, shortened, table
from stackd.cli.wording import SHORT_ID, ago, ports, replicas, yes_no

_ERROR_WIDTH = 60
_OVER_MARK = " \\_ "
_SERVICE_COLUMNS = ("ID", "NAME", "MODE", "REPLICAS", "IMAGE", "PORTS")


def print_services(invocation: Invocation, services: Sequence[ServiceView]) -> None:
    """Services in the form that was asked for."""
    match invocation.output:
        case "json":
            click.echo(list_document("ServiceList", services))
        case "name":
            for service in services:
                click.echo(service.name)
        case "wide":
            rows = ((*_service_row(service), *_service_details(service)) for service in services)
            click.echo(table((*_SERVICE_COLUMNS, "HEALTH", "CONVERGED", "ROLLOUT", "MESSAGE"), rows))
        case _:
            click.echo(table(_SERVICE_COLUMNS, map(_service_row, services)))


def _service_row(service: ServiceView) -> tuple[str, ...]:
    return (
        service.id[:SHORT_ID],
        service.name,
        service.mode,
        replicas(service),
        service.image,
        ports(service.ports),
    )


def _service_details(service: ServiceView) -> tuple[str, ...]:
    rollout = service.rollout.state.replace("_", " ") if service.rollout else ""
    return (service.health, yes_no(service.converged), rollout, service.message)


def print_tasks(invocation: Invocation, tasks: Sequence[TaskView], services: Iterable[ServiceView], *, whole: bool) -> None:
    """Tasks in the form that was asked for; `whole` keeps ids and errors uncut."""
    match invocation.output:
        case "json":
            click.echo(list_document("TaskList", tasks))
        case "name":
            for task in tasks:
                click.echo(task.id)
        case form:
            click.echo(task_table(tasks, services, invocation.now(), whole=whole or form == "wide", wide=form == "wide"))


def task_table(
    tasks: Sequence[TaskView],
    services: Iterable[ServiceView],
    now: Instant,
    *,
    whole: bool = False,
    wide: bool = False,
) -> str:
    """Tasks as `docker service ps` shows them: by slot, the newest first, those before it marked with `\\_`."""
    by_name = {service.name: service for service in services}
    headers: tuple[str, ...] = ("ID", "NAME", "IMAGE", "NODE", "DESIRED STATE", "CURRENT STATE", "ERROR", "PORTS")
    if wide:
        headers = (*headers, "EXIT CODE", "CONTAINER", "PID", "MESSAGE")
    rows: list[tuple[str, ...]] = []
    above = ""
    for task in tasks:
        name = f"{_OVER_MARK}{task.name}" if task.name == above else task.name
        above = task.name
        row = _task_row(task, name, by_name.get(task.service), now, whole)
        rows.append((*row, *_task_details(task)) if wide else row)
    return table(headers, rows)


def _task_row(task: TaskView, name: str, service: ServiceView | None, now: Instant, whole: bool) -> tuple[str, ...]:
    error = task.error or (task.message if task.state == "pending" else "")
    return (
        task.id if whole else task.id[:SHORT_ID],
        name,
        task.image,
        task.node,
        task.desired_state.capitalize(),
        f"{task.state.capitalize()} {ago(task.updated_at, now)}".rstrip(),
        _quoted(error, whole),
        _host_ports(task, service),
    )


def _quoted(error: str, whole: bool) -> str:
    if not error:
        return ""
    return f'"{" ".join(error.split()) if whole else shortened(error, _ERROR_WIDTH)}"'


def _host_ports(task: TaskView, service: ServiceView | None) -> str:
    """Ports that belong to this very task: those published in host mode while it runs, as Docker shows them."""
    if service is None or task.state != "running":
        return ""
    return ports(port for port in service.ports if port.mode == "host")


def _task_details(task: TaskView) -> tuple[str, ...]:
    exit_code = "" if task.exit_code is None else str(task.exit_code)
    return (exit_code, task.container_id[:SHORT_ID], str(task.pid or ""), task.message)
