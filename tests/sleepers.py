"""A stack that does nothing for a long time: four tasks of one service, spread over the nodes."""

from __future__ import annotations

from cluster import ClusterNode

SLEEPERS = """
name: shop
services:
  sleeper:
    image: busybox
    command: ["sleep", "1000"]
    deploy:
      replicas: 4
"""


def deploy(node: ClusterNode) -> None:
    """Deploy it with the command, and return when it runs."""
    done = node.cli("apply", "-f", node.write("stack.yaml", SLEEPERS), "--yes")
    assert done.code == 0, done.err


def running(node: ClusterNode) -> set[tuple[str, int]]:
    """The tasks that run, as this manager knows them, with the process of each: the same as before if nothing has happened to
    them."""
    return {(task.id, task.pid) for task in node.running_tasks()}
