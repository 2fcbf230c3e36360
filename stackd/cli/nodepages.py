"""Nodes for people: their list with Docker's columns, and one on a page. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from stackd.api.views import NodeView
from stackd.base.time import Instant
from stackd.cli.output import page, table
from stackd.cli.wording import SHORT_ID, binary_size, until

_COLUMNS = ("ID", "HOSTNAME", "STATUS", "AVAILABILITY", "MANAGER STATUS", "ENGINE VERSION")
_MORE_COLUMNS = ("TASKS", "ADDRESS", "EXECUTORS", "CPUS", "MEMORY", "OS", "LABELS", "MESSAGE")


def node_table(nodes: Sequence[NodeView], *, wide: bool) -> str:
    """A star marks the node that was asked."""
    if not wide:
        return table(_COLUMNS, map(_row, nodes))
    return table((*_COLUMNS, *_MORE_COLUMNS), ((*_row(one), *_details(one)) for one in nodes))


def _row(one: NodeView) -> tuple[str, ...]:
    star = " *" if one.self_ else ""
    return (
        f"{one.id[:SHORT_ID]}{star}",
        one.hostname,
        one.state.capitalize(),
        one.availability.capitalize(),
        one.manager_status.capitalize(),
        one.engine_version,
    )


def _details(one: NodeView) -> tuple[str, ...]:
    return (
        str(one.tasks),
        one.address,
        ",".join(one.executors),
        _cpus(one),
        binary_size(one.memory_bytes),
        _platform(one),
        _labels(one),
        one.message,
    )


def node_page(one: NodeView, now: Instant) -> str:
    """One node, name and value on each line; what is unset is left out."""
    changing = f"{one.certificate_role}, becoming {one.role}"
    is_changing = one.certificate_role not in ("", one.role)
    return page(
        {
            "ID": one.id,
            "Hostname": one.hostname,
            "Status": one.state.capitalize(),
            "Message": one.message,
            "Availability": one.availability.capitalize(),
            "Role": changing if is_changing else one.role,
            "Manager status": one.manager_status.capitalize(),
            "Manager address": one.manager_address,
            "Address": one.address,
            "Tasks": str(one.tasks),
            "Labels": _labels(one),
            "Executors": ", ".join(one.executors),
            "Engine version": one.engine_version,
            "Platform": _platform(one),
            "CPUs": _cpus(one),
            "Memory": binary_size(one.memory_bytes),
            "Certificate": until(one.certificate_until, now),
        }
    )


def _cpus(one: NodeView) -> str:
    return f"{one.cpus:g}" if one.cpus else ""


def _platform(one: NodeView) -> str:
    return "/".join(filter(None, (one.os, one.arch)))


def _labels(one: NodeView) -> str:
    return ",".join(f"{key}={value}" if value else key for key, value in sorted(one.labels.items()))
