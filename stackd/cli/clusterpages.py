"""The cluster for people: its settings, its state, and what is said when nodes come and go. Pure."""

from __future__ import annotations

from stackd.api.addresses import ManagerAddress
from stackd.api.cluster import JoinTokenResponse
from stackd.api.local import LocalNodeView
from stackd.api.views import ClusterInfoView, ClusterView
from stackd.base.time import Instant
from stackd.cli.output import page
from stackd.cli.wording import about, ago, count, until

_STATES = {
    "idle": "in no cluster; `stackd cluster init` founds one, `stackd cluster join` joins one",
    "locked": "a manager that waits for its unlock key",
    "alone": "a cluster of one",
    "worker": "worker",
    "manager": "manager",
}
_PORTS_BEFORE_JOINERS = 2


def settings_page(info: ClusterInfoView) -> str:
    """What `stackd cluster update` can change."""
    return page(_settings(info.cluster) | {"Autolock": _autolock(info), "Certificates": _life(info)})


def _settings(settings: ClusterView) -> dict[str, str]:
    rebalance = f"{settings.rebalance_tasks} tasks at a time" if settings.rebalance_tasks else "off"
    return {
        "ID": settings.id,
        "History": f"{settings.history_limit} tasks per slot",
        "Rebalance": rebalance,
        "Subnets": f"/{settings.subnet_bits} of {', '.join(settings.address_pools)}",
    }


def info_page(here: LocalNodeView | None, cluster: ClusterInfoView | None, now: Instant) -> str:
    """This node, if it is one that was asked about itself, then the cluster as far as it is known here."""
    place = _place(here, now) if here is not None else {}
    return page(place | (_cluster(cluster, now) if cluster is not None else {}))


def _place(here: LocalNodeView, now: Instant) -> dict[str, str]:
    return {
        "This node": _STATES.get(here.state, here.state),
        "Node ID": here.node_id,
        "Waits for": here.message if here.state != "idle" else "",
        "Executor": here.executor,
        "Advertises": here.advertise if here.state == "manager" else "",
        "Knows managers": ", ".join(here.managers) if here.state == "worker" else "",
        "Certificate": until(here.certificate_until, now),
    }


def _cluster(info: ClusterInfoView, now: Instant) -> dict[str, str]:
    settings = _settings(info.cluster)
    return {
        "Cluster": settings.pop("ID"),
        "Leader": info.leader,
        "Managers": ", ".join(info.managers),
        "Nodes": f"{info.nodes}, {info.nodes_ready} ready",
        "Autolock": _autolock(info),
        **settings,
        **authority_lines(info, now),
    }


def authority_lines(info: ClusterInfoView, now: Instant) -> dict[str, str]:
    """The certificate authority; nothing while the cluster has none."""
    if not info.root_digest:
        return {}
    rotation = info.rotation
    return {
        "Root digest": info.root_digest,
        "Certificates": _life(info),
        "New root": f"{rotation.digest}, since {ago(rotation.started_at, now)}" if rotation else "",
        "Still behind": f"{count(len(rotation.behind), 'node')}: {', '.join(rotation.behind)}" if rotation else "",
    }


def _life(info: ClusterInfoView) -> str:
    return f"issued for {about(info.certificate_life_seconds)}" if info.root_digest else ""


def _autolock(info: ClusterInfoView) -> str:
    return "on" if info.autolock else "off"


def join_page(role: str, answer: JoinTokenResponse) -> str:
    """How another node joins, in Docker's words."""
    return "\n".join(
        (
            f"To add a {role} to this cluster, run this on a host where `stackd daemon` runs:",
            "",
            f"    stackd cluster join --token {answer.token} {join_address(answer)}",
            "",
        )
    )


def join_address(answer: JoinTokenResponse) -> str:
    """Where a manager is reached, by the one port that people see; "" if no manager serves others yet."""
    if not answer.addresses:
        return ""
    joiners = ManagerAddress.parse(answer.addresses[0])
    return str(ManagerAddress(joiners.host, joiners.port - _PORTS_BEFORE_JOINERS))


def unlock_key_page(key: str) -> str:
    return "\n".join(
        (
            "To unlock a manager after it restarts, run `stackd cluster unlock` there and give this key:",
            "",
            f"    {key}",
            "",
            "Keep it outside of the cluster: without it a manager that restarts can't be used again.",
        )
    )
