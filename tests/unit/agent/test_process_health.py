"""Docker's rules for health, with time as an argument."""

from __future__ import annotations

from stackd.agent.executor.process.health import Check, Health, Tally, check_of
from stackd.base.time import SECOND, Duration
from stackd.spec.stack import Healthcheck


def a_check(interval: float = 10, retries: int = 3, start_period: float = 0) -> Check:
    return Check(argv=("x",), interval=interval, timeout=1, retries=retries, start_period=start_period)


def test_dockers_defaults_fill_what_is_not_said() -> None:
    check = check_of(Healthcheck(test=("CMD", "x")))
    assert check == Check(argv=("x",), interval=30, timeout=30, retries=3, start_period=0)
    assert check_of(None) is None


def test_one_success_is_enough_to_be_healthy() -> None:
    tally = Tally(a_check(), started=0)
    assert tally.add(False, 1) is Health.STARTING
    assert tally.add(True, 2) is Health.HEALTHY


def test_until_the_first_success_checks_come_quickly_then_at_the_interval() -> None:
    tally = Tally(a_check(interval=10), started=0)
    assert tally.pause == 1
    tally.add(True, 1)
    assert tally.pause == 10
    assert Tally(a_check(interval=0.2), started=0).pause == 0.2


def test_quick_failures_count_only_once_per_interval() -> None:
    tally = Tally(a_check(interval=10, retries=3), started=0)
    states = [tally.add(False, float(second)) for second in range(1, 31)]
    assert states[:29] == [Health.STARTING] * 29
    assert states[29] is Health.UNHEALTHY


def test_failures_within_the_start_period_are_forgiven() -> None:
    tally = Tally(a_check(interval=10, retries=1, start_period=60), started=0)
    assert all(tally.add(False, float(second)) is Health.STARTING for second in range(1, 60))
    assert tally.add(False, 60) is Health.UNHEALTHY


def test_after_the_first_success_every_failure_in_a_row_counts_also_in_the_start_period() -> None:
    tally = Tally(a_check(retries=2, start_period=600), started=0)
    tally.add(True, 1)
    assert tally.add(False, 11) is Health.HEALTHY
    assert tally.add(True, 21) is Health.HEALTHY
    assert tally.add(False, 31) is Health.HEALTHY
    assert tally.add(False, 41) is Health.UNHEALTHY


def test_durations_are_converted_to_seconds() -> None:
    spec = Healthcheck(
        test=("CMD-SHELL", "x"), interval_ns=Duration(SECOND // 2), start_period_ns=Duration(3 * SECOND), retries=5
    )
    check = check_of(spec)
    assert check is not None
    assert (check.interval, check.start_period, check.retries) == (0.5, 3, 5)
