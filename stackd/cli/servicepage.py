"""`stackd service inspect` for people: one service on one page. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from stackd.api.control import ServiceDetail
from stackd.base.time import Instant
from stackd.cli.output import page
from stackd.cli.wording import ago, ports, replicas, yes_no


def service_page(detail: ServiceDetail, now: Instant) -> str:
    """Name and value on each line, then the spec; what is unset is left out."""
    service = detail.service
    rollout = service.rollout
    lines = {
        "Name": service.name,
        "ID": service.id,
        "Stack": service.stack,
        "Mode": service.mode,
        "Replicas": f"{replicas(service)} running, {service.updated} up to date",
        "Image": service.image,
        "Ports": ports(service.ports),
        "Health": service.health,
        "Converged": yes_no(service.converged),
        "Message": service.message,
        "Frozen": service.frozen,
        "Changed by hand": yes_no(service.override) if service.override else "",
        "Revision": service.revision,
        "Created": ago(service.created_at, now),
        "Updated": ago(service.updated_at, now),
        "Rollout": rollout.state.replace("_", " ") if rollout else "",
        " Progress": f"{rollout.done}/{rollout.total} slots, {rollout.failed} failed" if rollout else "",
        " Started": ago(rollout.started_at, now) if rollout else "",
        " Completed": ago(rollout.completed_at, now) if rollout else "",
        " Message": rollout.message if rollout else "",
    }
    return "\n".join((page(lines), "Spec:", *_tree(detail.spec, " ")))


def _tree(value: Any, indent: str) -> list[str]:
    """A JSON object as indented lines, without its empty parts."""
    if not isinstance(value, dict):
        return [f"{indent}{_plain(value)}"]
    lines: list[str] = []
    for key, inner in value.items():
        if inner in (None, "", 0, [], {}, False):
            continue
        if isinstance(inner, dict):
            below = _tree(inner, f"{indent} ")
            lines += [f"{indent}{key}:", *below] if below else []
        else:
            lines.append(f"{indent}{key}: {_plain(inner)}")
    return lines


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
