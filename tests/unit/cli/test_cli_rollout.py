"""When a change counts as done. Pure functions on what the daemon pushes."""

from __future__ import annotations

import pytest
from stackd.api.views import ServiceView
from stackd.cli.rollout import Expectation, Standing, outcome, progress_lines, rollouts_of, verdicts

from cli_control import a_rollout, a_service

WEB = Expectation(services=("shop_web",))


def standing(service: ServiceView, expectation: Expectation = WEB) -> Standing:
    return outcome(verdicts([service], expectation))


def test_a_converged_service_is_done() -> None:
    assert standing(a_service()) is Standing.CONVERGED


def test_a_service_that_is_not_there_yet_is_waited_for() -> None:
    assert outcome(verdicts([], WEB)) is Standing.WAITING


def test_a_rollout_under_way_is_waited_for() -> None:
    assert standing(a_service(converged=False, rollout=a_rollout("updating"))) is Standing.WAITING


@pytest.mark.parametrize("state", ["paused", "rollback_paused"])
def test_a_paused_rollout_has_failed_even_if_tasks_run(state: str) -> None:
    assert standing(a_service(rollout=a_rollout(state))) is Standing.FAILED


def test_a_rolled_back_service_is_no_success_although_it_runs() -> None:
    assert standing(a_service(rollout=a_rollout("rollback_completed"))) is Standing.ROLLED_BACK


def test_a_rollback_to_a_spec_that_does_not_run_either_is_not_waited_for() -> None:
    service = a_service(converged=False, running=1, rollout=a_rollout("rollback_completed"))
    assert standing(service) is Standing.ROLLED_BACK


def test_a_rollback_of_an_earlier_change_says_nothing_about_this_one() -> None:
    before = a_service(rollout=a_rollout("rollback_completed"))
    expectation = Expectation(services=("shop_web",), earlier_rollouts=rollouts_of([before]))
    assert standing(before, expectation) is Standing.CONVERGED


def test_a_second_rollback_counts_although_there_was_one_before() -> None:
    before = a_service(rollout=a_rollout("rollback_completed", started_at="2026-05-01T09:00:00.000Z"))
    expectation = Expectation(services=("shop_web",), earlier_rollouts=rollouts_of([before]))
    assert standing(a_service(rollout=a_rollout("rollback_completed")), expectation) is Standing.ROLLED_BACK


def test_a_rollback_that_was_asked_for_is_a_success() -> None:
    expectation = Expectation(services=("shop_web",), rollback=True)
    assert standing(a_service(rollout=a_rollout("rollback_completed")), expectation) is Standing.CONVERGED


def test_a_rollback_under_way_is_waited_for() -> None:
    service = a_service(converged=False, rollout=a_rollout("rollback_started"))
    assert standing(service) is Standing.WAITING


def test_a_frozen_service_has_failed_and_says_why() -> None:
    (verdict,) = verdicts([a_service(frozen="division by zero")], WEB)
    assert (verdict.standing, verdict.reason) == (Standing.FAILED, "frozen: division by zero")


def test_a_service_without_a_rollout_fails_by_its_health() -> None:
    assert standing(a_service(converged=False, health="failed", message="image not found")) is Standing.FAILED


def test_removed_services_are_waited_for_until_they_are_gone() -> None:
    expectation = Expectation(services=(), gone=("shop_web",))
    assert standing(a_service(), expectation) is Standing.WAITING
    assert outcome(verdicts([], expectation)) is Standing.CONVERGED


def test_the_whole_waits_for_all_and_is_then_as_bad_as_the_worst() -> None:
    both = Expectation(services=("shop_web", "shop_db"))
    paused = a_service(rollout=a_rollout("paused"))
    assert outcome(verdicts([paused, a_service("shop_db", converged=False)], both)) is Standing.WAITING
    rolled_back = a_service("shop_db", rollout=a_rollout("rollback_completed"))
    assert outcome(verdicts([paused, rolled_back], both)) is Standing.FAILED
    assert outcome(verdicts([a_service(), rolled_back], both)) is Standing.ROLLED_BACK


def test_progress_has_one_aligned_line_per_service() -> None:
    services = [
        a_service(converged=False, updated=1, rollout=a_rollout("updating"), message="waiting for shop_web.2"),
        a_service("shop_database"),
    ]
    lines = progress_lines(verdicts(services, Expectation(services=("shop_web", "shop_database", "shop_new"))), services)
    assert list(lines.values()) == [
        "shop_web       [###-------] 1/3 up to date, 3 running  updating  waiting for shop_web.2",
        "shop_database  [##########] 3/3 up to date, 3 running  converged",
        "shop_new       not there yet",
    ]


def test_a_service_scaled_to_nothing_shows_a_full_bar() -> None:
    service = a_service(replicas=0, running=0, updated=0)
    (line,) = progress_lines(verdicts([service], WEB), [service]).values()
    assert line == "shop_web  [##########] 0/0 up to date, 0 running  converged"


def test_the_progress_of_a_job_is_what_has_completed() -> None:
    job = a_service(converged=False, replicas=4, completed=1, running=2, iteration=1, message="1 of 4 runs have completed")
    (line,) = progress_lines(verdicts([job], WEB), [job]).values()
    assert line == "shop_web  [##--------] 1/4 completed, 2 running  1 of 4 runs have completed"
