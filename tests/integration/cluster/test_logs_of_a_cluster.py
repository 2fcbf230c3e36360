"""`service logs` brings together what a service writes on all nodes, whichever manager is asked; a node that is away costs a
warning, and nothing of the others' lines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cluster import Cluster, ClusterNode, cluster_of
from node_stacks import workers

pytestmark = [pytest.mark.needs("root", "net"), pytest.mark.timeout(240)]

JOB = "work_job"
MANAGERS = 3
AWAY_SECONDS = 10.0
"""How long anybody has to wait for the lines of the nodes that are there."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three managers and a worker, with a task of the service on each."""
    with cluster_of(MANAGERS + 1) as cluster:
        cluster.form(MANAGERS)
        file = cluster[0].home / "stack.yaml"
        file.write_text(workers(replicas=MANAGERS + 1))
        done = cluster[0].cli("apply", "-f", file)
        assert done.code == 0, f"{done.err}\n{cluster.report()}"
        yield cluster


def logs(manager: ClusterNode, *options: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """What the command shows: the lines of each node, and what it warns of, by node."""
    done = manager.cli("service", "logs", JOB, "-o", "json", *options)
    assert done.code == 0, f"{done.err}\n{manager.report()}"
    shown: list[dict[str, Any]] = [json.loads(line) for line in done.out.splitlines()]
    lines: dict[str, list[str]] = {}
    for one in shown:
        if not one["warning"]:
            lines.setdefault(one["node"], []).append(one["line"])
    return lines, {one["node"]: one["warning"] for one in shown if one["warning"]}


def everything(cluster: Cluster) -> dict[str, list[str]]:
    return {node.name: ["release 1"] for node in cluster.nodes}


def test_every_manager_shows_the_lines_of_all_nodes(cluster: Cluster) -> None:
    for manager in cluster.nodes[:MANAGERS]:
        assert logs(manager) == (everything(cluster), {})


def test_a_node_that_is_cut_off_costs_a_warning_from_whichever_manager(cluster: Cluster) -> None:
    worker = cluster[MANAGERS]
    cluster.network.pull(worker.host_of)
    try:
        began = time.monotonic()
        with ThreadPoolExecutor() as pool:
            shown = list(pool.map(logs, cluster.nodes[:MANAGERS]))
        assert time.monotonic() - began < AWAY_SECONDS
        for lines, warnings in shown:
            assert lines == {name: said for name, said in everything(cluster).items() if name != worker.name}
            assert warnings.keys() == {worker.name}
    finally:
        cluster.network.plug(worker.host_of)


def test_following_brings_the_lines_of_the_others_while_a_node_is_cut_off(cluster: Cluster) -> None:
    cluster.until_ready(MANAGERS)
    worker = cluster[MANAGERS]
    cluster.network.pull(worker.host_of)
    try:
        with cluster[1].cli_in_background("service", "logs", JOB, "--follow", "-o", "json") as following:
            assert following.stdout is not None
            awaited = {node.name for node in cluster.nodes[:MANAGERS]}
            while awaited:
                awaited.discard(json.loads(following.stdout.readline())["node"])
    finally:
        cluster.network.plug(worker.host_of)
