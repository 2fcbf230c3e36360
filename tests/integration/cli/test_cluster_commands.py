"""A cluster by its commands alone, as a person forms it, uses it from afar, and brings it back after a loss."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from stackd.api.views import NodeView

from cluster import Cluster, ClusterNode, cluster_of
from node import STACKD, WAIT_SECONDS

pytestmark = pytest.mark.needs("root", "net")

SPEAKERS = """name: talk
services:
  speaker:
    image: any
    command: ["sh", "-c", "echo hello; trap 'exit 0' TERM; while true; do sleep 0.1; done"]
    deploy: {replicas: 2, placement: {max_replicas_per_node: 1}}
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Two daemons, and no cluster yet."""
    with cluster_of(2) as cluster:
        yield cluster


def run(node: ClusterNode, *arguments: str | Path) -> str:
    """What a command prints that has to work."""
    done = node.cli(*arguments)
    assert done.code == 0, f"{arguments}: {done.err}\n{node.report()}"
    return done.out


def found(node: ClusterNode) -> None:
    run(node, "cluster", "init", "--listen-addr", node.address, "--advertise-addr", node.address)


def join(node: ClusterNode, first: ClusterNode, role: str) -> str:
    token = run(first, "cluster", "join-token", "--quiet", role).strip()
    here = ("--listen-addr", node.address, "--advertise-addr", node.address)
    return run(node, "cluster", "join", "--token", token, *here, first.address)


def from_afar(node: ClusterNode, context: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command on the node's host that knows nothing but a context."""
    command = [*node.host_of.enter, *STACKD, *arguments, "--context", str(context)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STACKD_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False, env=environment)


def test_a_cluster_is_formed_used_from_afar_and_taken_apart(cluster: Cluster, tmp_path: Path) -> None:
    one, two = cluster.nodes
    assert one.cli("node", "ls").err.startswith("error[daemon.no_cluster]")
    found(one)
    assert "joined the cluster as a worker." in join(two, one, "worker")
    _, first, second = run(one, "node", "ls").splitlines()
    assert first.split()[1:] == ["*", "node1", "Ready", "Active", "Leader"]
    assert second.split()[1:] == ["node2", "Ready", "Active"]
    assert two.cli("node", "ls").err.startswith("error[daemon.not_a_manager]")

    stack = tmp_path / "talk.yaml"
    stack.write_text(SPEAKERS)
    run(one, "apply", "-f", stack)
    assert {line.partition("@")[2] for line in run(one, "service", "logs", "talk_speaker").splitlines()} == {
        "node1 | hello",
        "node2 | hello",
    }

    run(two, "cluster", "info")
    viewer, admin = tmp_path / "viewer.json", tmp_path / "admin.json"
    run(one, "cluster", "ca", "user", "ann", "--role", "viewer", "--out", viewer)
    run(one, "cluster", "ca", "user", "bob", "--role", "admin", "--out", admin)
    assert from_afar(two, viewer, "service", "ls", "-o", "name").stdout == "talk_speaker\n"
    token = run(one, "cluster", "ca", "user", "ci", "--role", "viewer", "--token").strip()
    assert from_afar(two, token, "service", "ls", "-o", "name").stdout == "talk_speaker\n"
    refused = from_afar(two, viewer, "node", "update", "--availability", "drain", "node2")
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (
        3,
        "error[api.access.denied]: ann has the role viewer, and UpdateNode needs admin",
    )
    assert from_afar(two, admin, "node", "promote", "node2").stdout == "node2 is a manager\n"
    audit = json.loads(run(one, "events", "--audit", "-o", "json"))["items"]
    assert audit[-1]["principal"] == "certificate:bob"
    run(one, "cluster", "ca", "user", "ann", "--rm")
    assert from_afar(two, viewer, "service", "ls").returncode == 3
    rotated = from_afar(two, admin, "cluster", "ca", "rotate")
    assert rotated.stdout.startswith("Every node uses the new root certificate"), rotated.stderr
    assert f"the context {admin} is a new one\n" in rotated.stderr
    assert from_afar(two, admin, "node", "ls", "-o", "name").stdout == "node1\nnode2\n"
    token = from_afar(two, admin, "cluster", "ca", "user", "ci", "--role", "admin", "--token").stdout.strip()
    rotated = from_afar(two, token, "cluster", "ca", "rotate")
    assert rotated.stderr.splitlines()[-1].startswith("Every node uses the new root certificate"), rotated.stderr
    assert from_afar(two, rotated.stdout.strip(), "node", "ls", "-o", "name").stdout == "node1\nnode2\n"
    assert from_afar(two, token, "node", "ls").returncode == 1

    run(two, "node", "demote", "self")
    assert run(two, "cluster", "leave") == "Node left the cluster.\n"
    assert "node.demote.last" in one.cli("cluster", "leave").err


def test_logs_of_a_node_that_is_away_are_missing_with_a_warning(cluster: Cluster, tmp_path: Path) -> None:
    one, two = cluster.nodes
    found(one)
    join(two, one, "worker")
    stack = tmp_path / "talk.yaml"
    stack.write_text(SPEAKERS)
    run(one, "apply", "-f", stack)
    two.kill()
    logs = one.cli("service", "logs", "talk_speaker")
    assert logs.code == 0
    assert logs.out.rstrip().endswith("@node1 | hello")
    assert "@node2" not in logs.out
    assert "warning: " in logs.err
    assert "@node2: " in logs.err


def test_a_cluster_comes_back_from_a_backup_and_its_workers_with_it(cluster: Cluster, tmp_path: Path) -> None:
    one, two = cluster.nodes
    found(one)
    join(two, one, "worker")
    run(one, "node", "update", "--label-add", "disk=ssd", "node2")
    backup = tmp_path / "cluster.backup"
    run(one, "cluster", "backup", backup)
    one.kill()

    one.data = tmp_path / "restored"
    place = ("--listen-addr", one.address, "--advertise-addr", one.address)
    said = run(one, "cluster", "restore", "--data-dir", one.data, "--executor", "process", *place, backup)
    assert "no stacks, 2 nodes" in said
    assert "daemon.restore.not_empty" in one.cli("cluster", "restore", "--data-dir", one.data, backup).err
    one.start_soon()
    one.wait_started()
    cluster.eventually(lambda: worker(one, two).state == "ready", "the worker has come back")
    assert worker(one, two).labels == {"disk": "ssd"}


def worker(one: ClusterNode, two: ClusterNode) -> NodeView:
    return one.nodes()[two.name]


def test_a_manager_that_has_lost_its_quorum_goes_on_alone_when_it_is_told_to(cluster: Cluster, tmp_path: Path) -> None:
    one, two = cluster.nodes
    found(one)
    join(two, one, "manager")
    run(one, "cluster", "update", "--history", "7")
    two.kill()
    assert one.cli("cluster", "force-new", "--yes").err.startswith("error[raft.directory.in_use]")
    one.stop()
    offline = tmp_path / "offline.backup"
    run(one, "cluster", "backup", "--data-dir", one.data, offline)
    assert one.cli("cluster", "force-new").err.startswith("error[cli.confirm]")
    assert "is the only manager" in run(one, "cluster", "force-new", "--yes")
    one.start_soon()
    one.wait_started()
    cluster.eventually(lambda: one.nodes()["node1"].state == "ready", "it goes on alone")
    assert json.loads(run(one, "cluster", "info", "-o", "json"))["cluster"]["cluster"]["history_limit"] == 7
    run(one, "node", "demote", "node2")
    run(one, "node", "rm", "--force", "node2")
    assert run(one, "node", "ls", "-o", "name") == "node1\n"
