"""`apply` waits and tells the truth: each way a rollout ends has its own exit code."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from stackd.api.control import ApplyRequest, ApplyResponse
from stackd.base.errors import Refused

from cli_control import a_plan, a_rollout, a_service, a_service_plan, a_stack
from cli_runner import Stackd

SHOP = "name: shop\nservices:\n  web:\n    image: nginx:1.25\n"


@pytest.fixture
def shop(stackd: Stackd, tmp_path: Path) -> str:
    """A stack file, and a cluster that takes it and converges at once."""
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP)
    stackd.control.planned = a_plan(a_service_plan(action="create"))
    stackd.control.apply_response = ApplyResponse(revision="r2", changed=True, services=("shop_web",))
    stackd.control.pushed = ([a_service()],)
    return str(path)


def applied(stackd: Stackd) -> list[ApplyRequest]:
    return [request for request in stackd.control.requests if isinstance(request, ApplyRequest)]


def test_apply_waits_until_everything_has_converged(stackd: Stackd, shop: str) -> None:
    stackd.control.pushed = ([], [a_service(converged=False, updated=0, running=0)], [a_service()])
    ended = stackd("apply", "-f", shop)
    assert ended.code == 0
    assert ended.out.startswith("Converged: 1 service in ")
    assert ended.err.splitlines() == [
        "Plan: 1 to create.",
        "shop_web  not there yet",
        "shop_web  [----------] 0/3 up to date, 0 running",
        "shop_web  [##########] 3/3 up to date, 3 running  converged",
    ]


def test_the_stack_and_its_file_are_sent(stackd: Stackd, shop: str) -> None:
    stackd("apply", "-f", shop)
    (request,) = applied(stackd)
    assert [stack.name for stack in request.stacks] == ["shop"]
    assert request.files == (shop,)
    assert request.base_version == 0


def test_lines_that_do_not_change_are_not_repeated(stackd: Stackd, shop: str) -> None:
    waiting = a_service(converged=False, updated=1)
    stackd.control.pushed = ([waiting], [waiting, a_service("other")], [a_service()])
    assert stackd("apply", "-f", shop).err.count("1/3 up to date") == 1


def test_a_paused_rollout_ends_with_5(stackd: Stackd, shop: str) -> None:
    stackd.control.pushed = ([a_service(rollout=a_rollout("paused", message="1 of 3 tasks failed"))],)
    ended = stackd("apply", "-f", shop)
    assert ended.code == 5
    assert "error[rollout.failed]: shop_web: 1 of 3 tasks failed" in ended.err
    assert "stackd service ps shop_web" in ended.err


def test_a_rolled_back_rollout_ends_with_6(stackd: Stackd, shop: str) -> None:
    stackd.control.pushed = ([a_service(rollout=a_rollout("rollback_completed"))],)
    assert stackd("apply", "-f", shop).code == 6


def test_the_timeout_ends_with_4_and_says_that_the_rollout_goes_on(stackd: Stackd, shop: str) -> None:
    stackd.control.pushed = ([a_service(converged=False)],)
    stackd.control.silent = True
    ended = stackd("apply", "-f", shop, "--timeout", "50ms")
    assert ended.code == 4
    assert "the rollout goes on" in ended.err


def test_a_daemon_that_goes_away_is_an_error(stackd: Stackd, shop: str) -> None:
    stackd.control.pushed = ([a_service(converged=False)],)
    ended = stackd("apply", "-f", shop)
    assert ended.code == 1
    assert "cli.watch.ended" in ended.err


def test_detached_apply_returns_at_once(stackd: Stackd, shop: str) -> None:
    stackd.control.pushed = ()
    ended = stackd("apply", "-f", shop, "--detach")
    assert (ended.code, ended.out) == (0, "Revision r2: 1 service under way.\n")


def test_an_unchanged_stack_is_still_waited_for(stackd: Stackd, shop: str) -> None:
    stackd.control.apply_response = ApplyResponse(revision="", changed=False, services=("shop_web",))
    stackd.control.pushed = ([a_service(rollout=a_rollout("paused"))],)
    ended = stackd("apply", "-f", shop)
    assert ended.code == 5
    assert "No changes" in ended.err


def test_the_result_as_json(stackd: Stackd, shop: str) -> None:
    ended = stackd("apply", "-f", shop, "-o", "json")
    assert json.loads(ended.out) == {
        "apiVersion": "stackd/v1",
        "kind": "ApplyResult",
        "revision": "r2",
        "changed": True,
        "converged": True,
        "services": ["shop_web"],
    }


def test_removals_are_refused_where_nobody_can_be_asked(stackd: Stackd, shop: str) -> None:
    stackd.control.planned = a_plan(a_service_plan("shop_cron", "remove"))
    ended = stackd("apply", "-f", shop)
    assert ended.code == 3
    assert "This removes 1 service (shop_cron)." in ended.err
    assert "--yes" in ended.err
    assert not applied(stackd)


def test_yes_goes_ahead_and_waits_until_removed_services_are_gone(stackd: Stackd, shop: str) -> None:
    stackd.control.planned = a_plan(a_service_plan("shop_cron", "remove"))
    stackd.control.pushed = ([a_service(), a_service("shop_cron")], [a_service()])
    ended = stackd("apply", "-f", shop, "--yes")
    assert ended.code == 0
    assert "shop_cron  removed" in ended.err


def test_a_person_is_asked_and_may_decline(stackd: Stackd, shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stackd.control.planned = a_plan(a_service_plan("shop_cron", "remove"))
    stackd.interactive = True
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    ended = stackd("apply", "-f", shop)
    assert ended.code == 3
    assert "Go ahead? [y/N]" in ended.err
    assert not applied(stackd)


def test_what_a_person_agreed_to_is_bound_to_the_state_they_saw(
    stackd: Stackd, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stackd.control.planned = a_plan(a_service_plan("shop_cron", "remove"))
    stackd.control.pushed = ([a_service()],)
    stackd.interactive = True
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert stackd("apply", "-f", shop).code == 0
    assert applied(stackd)[0].base_version == 42


def test_taking_over_a_stack_needs_a_yes(stackd: Stackd, shop: str) -> None:
    stackd.control.stack_list = (a_stack(),)
    ended = stackd("apply", "-f", shop, "--adopt")
    assert ended.code == 3
    assert "takes stack shop from source main" in ended.err
    assert stackd("apply", "-f", shop, "--adopt", "--yes").code == 0
    assert applied(stackd)[0].adopt


def test_what_the_cluster_would_refuse_is_not_sent(stackd: Stackd, shop: str) -> None:
    stackd.control.planned = a_plan(refused="stack shop belongs to source main", refused_hint="edit shop/stack.yaml")
    ended = stackd("apply", "-f", shop)
    assert ended.code == 3
    assert ended.err == ("error[apply.refused]: stack shop belongs to source main\n  hint: edit shop/stack.yaml\n")
    assert not applied(stackd)


def test_a_refusal_of_the_daemon_ends_with_3(stackd: Stackd, shop: str) -> None:
    stackd.control.failure = Refused("plan.stale", "the cluster has changed since the plan was made")
    assert stackd("apply", "-f", shop).code == 3


def test_apply_without_files_is_wrong_usage(stackd: Stackd) -> None:
    ended = stackd("apply")
    assert ended.code == 64
    assert "stackd apply -f stack.yaml" in ended.err


def test_a_broken_file_changes_nothing(stackd: Stackd, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP + "    replcas: 2\n")
    ended = stackd("apply", "-f", str(path))
    assert ended.code == 1
    assert "spec.key.unknown" in ended.err
    assert stackd.control.requests == []
