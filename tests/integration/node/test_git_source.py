"""A node that follows a git repository: commits in, running tasks out."""

from __future__ import annotations

import pytest

from node import RunningNode, free_port, http
from node_stacks import web
from source_builders import Repository

pytestmark = pytest.mark.needs("git")


def test_a_commit_is_deployed_a_push_rolls_and_a_bad_commit_changes_nothing(idle_node: RunningNode) -> None:
    node, port = idle_node, free_port()
    node.follows = ("--git", str(node.home / "infra"), "--path", "stacks", "--interval", "1h")  # it looks when asked to
    repository = Repository(node.home / "infra")
    first = repository.commit({"stacks/hello.yaml": web(port, "first")})
    node.start().converged("hello_web")
    node.eventually(lambda: http(port) == "first", "the first commit answers")
    assert node.status().sources[0].label == first

    second = repository.commit({"stacks/hello.yaml": web(port, "second")})
    done = node.cli("sync")
    assert done.code == 0, done.err
    node.eventually(lambda: http(port) == "second", "the second commit answers")
    node.converged("hello_web")
    before = node.tasks("hello_web")

    repository.commit({"stacks/hello.yaml": web(port, "third").replace("ports:", "prots:")})
    done = node.cli("sync")
    assert done.code == 1
    assert "hello.yaml:22:5" in done.err
    assert 'did you mean "ports"?' in done.err
    status = node.status()
    assert (status.sync, status.sources[0].label) == ("error", second)
    assert node.tasks("hello_web") == before

    relative = web(port, "fourth") + "    volumes:\n      - ./data:/data\n"
    repository.commit({"stacks/hello.yaml": relative})
    done = node.cli("sync")
    assert done.code == 1
    assert '"./data" is relative, and a stack from git has no folder' in done.err
    assert node.tasks("hello_web") == before
    assert http(port) == "second"

    repository.commit({"stacks/hello.yaml": web(port, "fifth")})
    assert node.cli("sync").code == 0
    node.eventually(lambda: http(port) == "fifth", "the repaired commit answers")
