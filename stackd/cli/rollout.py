"""When is a change done, and how did it end? Pure: the services as the daemon pushes them in, a verdict out.

The result is the truth: a rollout that was paused or rolled back is never a success, also when tasks run.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stackd.api.views import ServiceView

_BAR_WIDTH = 10


class Standing(enum.Enum):
    """Where one service, or all of them together, stands."""

    WAITING = "waiting"
    CONVERGED = "converged"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a command waits for: `services` to converge and `gone` to have left, by scoped name.

    `earlier_rollouts` holds when the rollout that a service showed before the command had started, so that an old
    rollback isn't taken for the outcome of a new change. `rollback` says that a rollback is what was asked for."""

    services: tuple[str, ...]
    gone: tuple[str, ...] = ()
    earlier_rollouts: Mapping[str, str | None] = field(default_factory=dict)
    rollback: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one service stands and the sentence that says why."""

    name: str
    standing: Standing
    reason: str = ""


def rollouts_of(services: Iterable[ServiceView]) -> dict[str, str | None]:
    """When the present rollout of each service has started: what `Expectation.earlier_rollouts` wants to know."""
    return {service.name: service.rollout.started_at for service in services if service.rollout}


def verdicts(services: Iterable[ServiceView], expectation: Expectation) -> tuple[Verdict, ...]:
    """One verdict for each service that is waited for, in the order of the expectation."""
    present = {service.name: service for service in services}
    waited = [_judge(name, present.get(name), expectation) for name in expectation.services]
    leaving = [_judge_leaving(name, present.get(name)) for name in expectation.gone]
    return (*waited, *leaving)


def outcome(judged: Iterable[Verdict]) -> Standing:
    """The standing of the whole: waiting while one waits, then the worst of all."""
    standings = {verdict.standing for verdict in judged}
    for standing in (Standing.WAITING, Standing.FAILED, Standing.ROLLED_BACK):
        if standing in standings:
            return standing
    return Standing.CONVERGED


def _judge_leaving(name: str, service: ServiceView | None) -> Verdict:
    if service is None:
        return Verdict(name, Standing.CONVERGED, "removed")
    return Verdict(name, Standing.WAITING, "being removed")


def _judge(name: str, service: ServiceView | None, expectation: Expectation) -> Verdict:
    if service is None:
        return Verdict(name, Standing.WAITING, "not there yet")
    if service.frozen:
        return Verdict(name, Standing.FAILED, f"frozen: {service.frozen}")
    if (ended := _judge_rollout(service, expectation)) is not None:
        return ended
    if service.converged:
        return Verdict(name, Standing.CONVERGED)
    if service.health == "failed":
        return Verdict(name, Standing.FAILED, service.message or "failed")
    return Verdict(name, Standing.WAITING, service.message)


def _judge_rollout(service: ServiceView, expectation: Expectation) -> Verdict | None:
    """What the rollout alone decides: None while it goes on, has succeeded, or is an older one."""
    rollout = service.rollout
    if rollout is None:
        return None
    if rollout.state in ("paused", "rollback_paused"):
        return Verdict(service.name, Standing.FAILED, rollout.message or "the rollout is paused")
    if rollout.state != "rollback_completed" or expectation.rollback:
        return None
    if expectation.earlier_rollouts.get(service.name) == rollout.started_at:
        return None
    # Decided, whether or not the previous spec runs well: waiting longer would change nothing about this change.
    return Verdict(service.name, Standing.ROLLED_BACK, rollout.message or "rolled back to the previous spec")


def progress_lines(judged: Iterable[Verdict], services: Iterable[ServiceView]) -> dict[str, str]:
    """One line per service: its name, a bar, counts, and what goes on. The columns are aligned."""
    listed = tuple(judged)
    present = {service.name: service for service in services}
    width = max((len(verdict.name) for verdict in listed), default=0)
    return {verdict.name: f"{verdict.name.ljust(width)}  {_progress(verdict, present.get(verdict.name))}" for verdict in listed}


def _progress(verdict: Verdict, service: ServiceView | None) -> str:
    if service is None:
        return verdict.reason
    word = "completed" if service.iteration else "up to date"
    counts = f"{_bar(service)} {_reached(service)}/{service.replicas} {word}, {service.running} running"
    state = _state_words(verdict, service)
    return f"{counts}  {state}" if state else counts


def _reached(service: ServiceView) -> int:
    """How many of its tasks are as wanted: they have the new spec, or, those of a job, have completed."""
    return service.completed if service.iteration else service.updated


def _bar(service: ServiceView) -> str:
    wanted = max(service.replicas, 1)
    filled = _BAR_WIDTH * min(_reached(service), wanted) // wanted if service.replicas else _BAR_WIDTH
    return f"[{'#' * filled}{'-' * (_BAR_WIDTH - filled)}]"


def _state_words(verdict: Verdict, service: ServiceView) -> str:
    if verdict.standing is Standing.WAITING:
        state = service.rollout.state.replace("_", " ") if service.rollout and not service.rollout.completed_at else ""
        return "  ".join(filter(None, (state, verdict.reason)))
    word = verdict.standing.value.replace("-", " ")
    return f"{word}: {verdict.reason}" if verdict.reason else word
