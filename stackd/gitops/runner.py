"""Follows sources: look, decide, propose, report; again when something has changed or somebody asks.

A runner holds no state that matters. What the source owns is asked of the cluster each time, and a proposal that changes
nothing is a no-op there, so a restart or a new leader begins with a full look. Each error is reported once, not at every
look, and so is its end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Protocol, assert_never

from stackd.base.errors import NotFound, Refused, SpecErrors, StackdError
from stackd.base.ids import RevisionId
from stackd.engine.inputs import Applied, Rejected, Reply, ReportSource
from stackd.gitops.snapshot import SourceSnapshot
from stackd.gitops.sync import SyncDecision, decide

_log = logging.getLogger(__name__)


class Origin(Protocol):
    """Where snapshots come from."""

    async def snapshot(self) -> SourceSnapshot:
        """The source as it is now; raises StackdError if it can't be reached or read."""
        ...

    async def changed(self) -> None:
        """Returns when it is time to look again. A wake-up for nothing is allowed, a missed change isn't for long."""
        ...

    async def close(self) -> None: ...


class Deployer(Protocol):
    """What a runner needs of the cluster."""

    def owned_stacks(self, source: str) -> Collection[str]:
        """The names of the stacks that the source owns at present."""
        ...

    async def deploy(self, source: str, snapshot: SourceSnapshot, prune: tuple[str, ...]) -> Reply:
        """Flip to the snapshot and remove the stacks in `prune`, or change nothing. Raises StackdError if it can't be
        asked for now."""
        ...

    async def report(self, report: ReportSource) -> None: ...


class SourceRunner:
    """Runs one source. `run` and `sync_now` may overlap; looks are made one after the other."""

    def __init__(self, name: str, origin: Origin, deployer: Deployer) -> None:
        self.name = name
        self._origin = origin
        self._deployer = deployer
        self._turn = asyncio.Lock()
        self._seen = ""
        self._deployed = ""
        self._revision = RevisionId("")
        self._reported: ReportSource | None = None

    async def run(self) -> None:
        """Follow the source until cancelled."""
        try:
            while True:
                await self._look()
                await self._origin.changed()
        finally:
            await self._origin.close()

    async def sync_now(self, *, approve_prune: bool = False) -> None:
        """Look at once, and propose even what was proposed before: that takes back what was changed by hand. Raises the
        error that is also reported."""
        error = await self._look(insist=True, approve_prune=approve_prune)
        if error is not None:
            raise error

    async def _look(self, *, insist: bool = False, approve_prune: bool = False) -> StackdError | None:
        async with self._turn:
            decision, error = SyncDecision(deploy=False), None
            try:
                snapshot = await self._origin.snapshot()
                self._seen = snapshot.label
                decision = await self._propose(snapshot, insist=insist, approve_prune=approve_prune)
            except StackdError as exc:
                error = exc
            except Exception as exc:  # contained: a fault in one source must stop neither the others nor the daemon
                _log.exception("source %s: reading it failed", self.name)
                error = StackdError("source.failed", f"reading the source failed: {exc!r}")
            await self._report(decision, error)
            return error

    async def _propose(self, snapshot: SourceSnapshot, *, insist: bool, approve_prune: bool) -> SyncDecision:
        if snapshot.problems:
            raise SpecErrors(snapshot.problems)
        owned = frozenset(self._deployer.owned_stacks(self.name))
        decision = decide(owned, snapshot, approve_prune=approve_prune)
        news = snapshot.label != self._deployed or bool(decision.prune) or not snapshot.stack_names() <= owned
        if decision.deploy and (insist or news):
            reply = await self._deployer.deploy(self.name, snapshot, decision.prune)
            self._accept(reply)
        self._deployed = snapshot.label
        return decision

    def _accept(self, reply: Reply) -> None:
        match reply:
            case Rejected(code=code, message=message, hint=hint):
                raise Refused(code, message, hint=hint or None)
            case Applied(revision=revision):
                self._revision = revision or self._revision
            case other:
                assert_never(other)

    async def _report(self, decision: SyncDecision, error: StackdError | None) -> None:
        """Tell the cluster what this look has come to, unless it was told just that before."""
        report = ReportSource(
            name=self.name,
            seen=self._seen,
            revision=self._revision,
            error=_sentence(error) if error else "",
            error_code=error.code if error else "",
            held_prune=decision.held,
        )
        if report == self._reported:
            return
        self._log(decision, error)
        try:
            await self._deployer.report(report)
        except StackdError as exc:
            _log.info("source %s: not reported now, but at the next look: %s", self.name, exc)
            return
        self._reported = report

    def _log(self, decision: SyncDecision, error: StackdError | None) -> None:
        if isinstance(error, SpecErrors):
            for problem in error.problems:
                where = f"{problem.position}: " if problem.position else ""
                _log.warning("source %s: %serror[%s]: %s", self.name, where, problem.code, problem.message)
        elif error is not None:
            _log.warning("source %s: %s", self.name, error)
        elif self._reported is not None and self._reported.error:
            _log.info("source %s: usable again", self.name)
        if decision.held:
            _log.warning("source %s: not removing %s: %s", self.name, ", ".join(decision.held), decision.reason)


class Sources:
    """All sources that this manager follows."""

    def __init__(self, runners: Sequence[SourceRunner]) -> None:
        self._runners = {runner.name: runner for runner in runners}
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Follow them all, until cancelled or stopped."""
        async with asyncio.TaskGroup() as group:
            self._tasks = [group.create_task(runner.run(), name=f"source {name}") for name, runner in self._runners.items()]

    async def sync_now(self, source: str, *, approve_prune: bool) -> None:
        """Look at `source` ("" is all) and propose what it says. Raises NotFound, or the source's own error."""
        if source and source not in self._runners:
            raise NotFound("source.not_found", f'there is no source "{source}"', hint="`stackd status` names the sources")
        for runner in [self._runners[source]] if source else list(self._runners.values()):
            await runner.sync_now(approve_prune=approve_prune)

    async def stop(self) -> None:
        """Follow no source any more; returns once none is being looked at."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _sentence(error: StackdError) -> str:
    where = f"{error.position}: " if error.position else ""
    hint = f" ({error.hint})" if error.hint else ""
    return f"{where}{error.message}{hint}"
