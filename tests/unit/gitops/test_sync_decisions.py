from __future__ import annotations

from stackd.base.errors import Problem
from stackd.gitops.snapshot import SourceSnapshot
from stackd.gitops.sync import SyncDecision, decide

from source_builders import a_snapshot


def test_what_the_source_holds_is_deployed() -> None:
    assert decide([], a_snapshot("a", "b")) == SyncDecision(deploy=True)


def test_a_stack_that_is_gone_is_pruned() -> None:
    assert decide(["a", "b"], a_snapshot("a")) == SyncDecision(deploy=True, prune=("b",))


def test_nothing_is_pruned_or_deployed_while_a_file_has_an_error() -> None:
    broken = SourceSnapshot(label="x", stacks=a_snapshot("a").stacks, problems=(Problem("spec.yaml.syntax", "no YAML"),))
    assert decide(["a", "b"], broken, approve_prune=True) == SyncDecision(deploy=False)


def test_a_source_that_suddenly_matches_nothing_loses_nothing() -> None:
    decision = decide(["a"], a_snapshot())
    assert (decision.deploy, decision.prune, decision.held) == (False, (), ("a",))
    assert decision.reason == "the source suddenly holds no stack at all"


def test_losing_more_than_half_is_held_back_while_the_rest_is_deployed() -> None:
    decision = decide(["a", "b", "c"], a_snapshot("a"))
    assert (decision.deploy, decision.prune, decision.held) == (True, (), ("b", "c"))
    assert decision.reason == "the source has lost 2 of 3 stacks at once"


def test_losing_half_is_pruned() -> None:
    assert decide(["a", "b", "c", "d"], a_snapshot("a", "b")).prune == ("c", "d")


def test_a_renamed_single_stack_is_replaced() -> None:
    assert decide(["a"], a_snapshot("b")) == SyncDecision(deploy=True, prune=("a",))


def test_an_approval_lets_what_was_held_go_ahead() -> None:
    assert decide(["a", "b", "c"], a_snapshot("a"), approve_prune=True) == SyncDecision(deploy=True, prune=("b", "c"))
    assert decide(["a"], a_snapshot(), approve_prune=True) == SyncDecision(deploy=True, prune=("a",))


def test_an_empty_source_that_owns_nothing_asks_for_nothing() -> None:
    assert decide([], a_snapshot()) == SyncDecision(deploy=False)
