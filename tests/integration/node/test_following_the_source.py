"""What happens to the tasks when files are written, changed and deleted."""

from __future__ import annotations

from node import RunningNode, free_port, http
from node_stacks import web, workers


def test_a_saved_file_is_deployed_and_answers_and_an_edit_rolls_it(node: RunningNode) -> None:
    port = free_port()
    node.write("hello.yaml", web(port, "good morning"))
    node.converged("hello_web")
    (first,) = node.tasks("hello_web")
    node.eventually(lambda: http(port) == "good morning", "the web server answers")

    node.change("hello_web", lambda: node.write("hello.yaml", web(port, "good evening")))

    node.eventually(lambda: http(port) == "good evening", "the new one answers")
    new, old = node.history("hello_web")
    assert (new.state, new.desired_state) == ("running", "running")
    assert (old.id, old.state, old.exit_code) == (first.id, "shutdown", 0)
    assert new.spec_version > old.spec_version


def test_a_deleted_file_takes_its_stack_with_it_but_the_last_one_waits_for_approval(node: RunningNode) -> None:
    node.write("one.yaml", workers(name="one", replicas=1))
    two = node.write("two.yaml", workers(name="two", replicas=1))
    node.converged("one_job", "two_job")
    (kept,) = node.tasks("one_job")

    two.unlink()
    node.until(lambda services: services["one_job"].converged and "two_job" not in services, "stack two is pruned")
    assert [stack.name for stack in node.status().stacks] == ["one"]

    (node.source / "one.yaml").unlink()
    node.eventually(lambda: node.status().sources[0].held_prune == ("one",), "the removal is held back")
    assert "stackd sync main --approve-prune" in node.cli("status").out
    assert [task.id for task in node.tasks("one_job")] == [kept.id]

    done = node.cli("sync", "--approve-prune")
    assert done.code == 0, done.err
    node.until(lambda services: not services, "stack one is pruned")
