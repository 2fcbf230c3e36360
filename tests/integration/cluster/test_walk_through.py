"""A cluster of three from the first command to the last, typed as a person types them; one node's tasks are containers of a
real engine, the others' are processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from cluster import Cluster, ClusterNode, cluster_of
from dockerd import private_dockerd
from images import busybox_archive
from node import alive
from node_stacks import workers

pytestmark = [pytest.mark.needs("root", "net", "docker"), pytest.mark.timeout(300)]

JOB = "work_job"
IMAGE = "python:3-alpine"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Three daemons that belong to no cluster yet; the first one has an engine."""
    with private_dockerd(hostname="node1") as engine:
        engine.import_image(IMAGE, busybox_archive())
        with cluster_of(3, engines=(engine,)) as cluster:
            yield cluster


def ran(node: ClusterNode, *arguments: str) -> str:
    """What the command says that did its work."""
    done = node.cli(*arguments)
    assert done.code == 0, f"stackd {' '.join(arguments)}: {done.err}\n{node.report()}"
    return done.out


def refused(node: ClusterNode, *arguments: str) -> str:
    done = node.cli(*arguments)
    assert done.code == 3, f"stackd {' '.join(arguments)}: {done}"
    return done.err


def table(node: ClusterNode) -> dict[str, tuple[str, str, str]]:
    """What `node ls` shows: status, availability and manager status by hostname."""
    lines = ran(node, "node", "ls").splitlines()
    columns = [lines[0].index(word) for word in ("HOSTNAME", "STATUS", "AVAILABILITY", "MANAGER STATUS")]
    rows = [[line[start:].split("  ")[0].strip() for start in columns] for line in lines[1:]]
    return {name: (status, availability, manager) for name, status, availability, manager in rows}


def form(cluster: Cluster) -> None:
    first, *others = cluster.nodes
    said = ran(first, "cluster", "init", "--listen-addr", first.address, "--advertise-addr", first.address)
    command = next(line.split() for line in said.splitlines() if "cluster join --token" in line)
    for node in others:
        ran(node, *command[1:], "--listen-addr", node.address, "--advertise-addr", node.address)


def running_on(cluster: Cluster, manager: ClusterNode) -> Counter[str]:
    return Counter(task.node for task in manager.running_tasks(JOB))


def test_from_init_to_leave(cluster: Cluster) -> None:
    one, two, three = cluster.nodes
    assert "no cluster" in refused(one, "node", "ls")
    form(cluster)
    assert table(one) == {
        "node1": ("Ready", "Active", "Leader"),
        "node2": ("Ready", "Active", ""),
        "node3": ("Ready", "Active", ""),
    }
    assert "not a manager" in refused(two, "node", "ls") or "worker" in refused(two, "node", "ls")

    # create and scale
    stack = one.home / "stack.yaml"
    stack.write_text(workers("1", replicas=3, update="parallelism: 1, monitor: 100ms"))
    ran(one, "apply", "-f", str(stack))
    assert running_on(cluster, one) == {"node1": 1, "node2": 1, "node3": 1}
    ran(one, "service", "scale", f"{JOB}=6")
    assert running_on(cluster, one) == {"node1": 2, "node2": 2, "node3": 2}
    assert len(one.containers()) == 2
    assert "release 1" in ran(one, "service", "logs", JOB)

    # a rolling update leaves nothing of the old release
    stack.write_text(workers("2", replicas=6, update="parallelism: 2, monitor: 100ms"))
    ran(one, "apply", "-f", str(stack))
    tasks = one.running_tasks(JOB)
    assert len(tasks) == 6
    assert len({task.spec_version for task in tasks}) == 1

    # drain and activate
    ran(one, "node", "update", "--availability", "drain", "node1")
    cluster.eventually(lambda: running_on(cluster, one) == {"node2": 3, "node3": 3}, "the engine's tasks are elsewhere")
    one.eventually(lambda: not running_containers(one), "the engine has nothing to do")
    assert table(one)["node1"] == ("Ready", "Drain", "Leader")
    ran(one, "node", "update", "--availability", "active", "node1")
    ran(one, "service", "scale", f"{JOB}=9")
    assert running_on(cluster, one)["node1"] == 3

    # promote: tasks don't notice
    before = {task.id: task.pid for task in one.running_tasks(JOB)}
    ran(one, "node", "promote", "node2", "node3")
    cluster.until_ready(3)
    assert [row[2] for _, row in sorted(table(three).items())] == ["Leader", "Reachable", "Reachable"]
    assert {task.id: task.pid for task in two.running_tasks(JOB)} == before

    # a demotion that would leave too few is refused, and says what to do
    three.kill()
    cluster.eventually(lambda: table(one)["node3"][2] == "Unreachable", "the dead manager is noticed")
    assert "hint:" in refused(one, "node", "demote", "node2")
    three.start()
    cluster.until_ready(3)

    # demote the leader: another one leads, and the tasks still don't notice
    ran(two, "node", "demote", "node1")
    cluster.eventually(lambda: one.state == "worker", "the first node is a worker")
    statuses = sorted(row[2] for row in table(two).values())
    assert statuses == ["", "Leader", "Reachable"]
    assert {task.id: task.pid for task in two.running_tasks(JOB)} == before
    assert all(alive(pid) for pid in before.values())

    # leave: what ran there runs elsewhere
    ran(one, "cluster", "leave")
    assert one.state == "idle"
    cluster.eventually(lambda: sum(running_on(cluster, two).values()) == 9, "the others have taken over")
    assert "node1" not in running_on(cluster, two)
    assert not running_containers(one)
    cluster.eventually(lambda: "node1" not in table(two), "it is no node any more")
    ran(two, "node", "demote", "node3")
    assert "hint:" in refused(two, "cluster", "leave")  # the only manager


def running_containers(node: ClusterNode) -> list[str]:
    assert node.engine is not None
    return node.engine.docker("ps", "--quiet").split()
