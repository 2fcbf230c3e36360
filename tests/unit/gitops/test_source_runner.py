from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from stackd.base.errors import NotFound, Position, Problem, Refused, StackdError
from stackd.engine.inputs import Rejected
from stackd.gitops.runner import SourceRunner, Sources
from stackd.gitops.snapshot import SourceSnapshot

from source_builders import MemoryCluster, a_snapshot, until


class ScriptedOrigin:
    """An Origin whose content is set by the test; `touch` says that it may have changed."""

    def __init__(self, content: SourceSnapshot | Exception) -> None:
        self.content = content
        self.looks = 0
        self.closed = False
        self._hint = asyncio.Event()

    def touch(self, content: SourceSnapshot | Exception | None = None) -> None:
        self.content = content or self.content
        self._hint.set()

    async def snapshot(self) -> SourceSnapshot:
        self.looks += 1
        if isinstance(self.content, Exception):
            raise self.content
        return self.content

    async def changed(self) -> None:
        await self._hint.wait()
        self._hint.clear()

    async def close(self) -> None:
        self.closed = True


Scenario = Callable[[ScriptedOrigin, MemoryCluster, SourceRunner], Awaitable[None]]


def play(content: SourceSnapshot | Exception, scenario: Scenario) -> tuple[ScriptedOrigin, MemoryCluster]:
    """Run the scenario beside a runner that follows `content`."""

    async def main() -> tuple[ScriptedOrigin, MemoryCluster]:
        origin, cluster = ScriptedOrigin(content), MemoryCluster()
        runner = SourceRunner("infra", origin, cluster)
        following = asyncio.create_task(runner.run())
        try:
            await until(lambda: bool(cluster.reports))
            await scenario(origin, cluster, runner)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        assert origin.closed
        return origin, cluster

    return asyncio.run(main())


async def look_again(origin: ScriptedOrigin, content: SourceSnapshot | Exception | None = None) -> None:
    """One more look, and the one after it begun: then all of the first has been carried out."""
    for _ in range(2):
        before = origin.looks
        origin.touch(content)
        await until(lambda before=before: origin.looks > before)  # type: ignore[misc]


def broken() -> SourceSnapshot:
    return SourceSnapshot(
        label="bad",
        problems=(
            Problem("spec.key.unknown", 'unknown key "imaeg"', Position("web.yaml", 3, 5), hint='did you mean "image"?'),
            Problem("spec.yaml.syntax", "no YAML", Position("x.yaml", 1, 1)),
        ),
    )


def test_a_source_is_deployed_and_reported() -> None:
    async def scenario(origin: ScriptedOrigin, cluster: MemoryCluster, runner: SourceRunner) -> None:
        assert [snapshot.label for snapshot in cluster.deployed] == ["one"]
        report = cluster.reports[-1]
        assert (report.name, report.seen, report.revision, report.error) == ("infra", "one", "r1", "")

    play(a_snapshot("a"), scenario)


def test_an_unchanged_source_is_neither_proposed_nor_reported_again() -> None:
    async def scenario(origin: ScriptedOrigin, cluster: MemoryCluster, runner: SourceRunner) -> None:
        await look_again(origin)
        await look_again(origin, a_snapshot("a"))
        assert (len(cluster.deployed), len(cluster.reports)) == (1, 1)

    play(a_snapshot("a"), scenario)


def test_an_error_changes_nothing_and_is_reported_once_and_its_end_too() -> None:
    async def scenario(origin: ScriptedOrigin, cluster: MemoryCluster, runner: SourceRunner) -> None:
        await look_again(origin, broken())
        await look_again(origin, broken())
        assert len(cluster.reports) == 2
        assert cluster.reports[1].error_code == "spec.key.unknown"
        assert cluster.reports[1].error == ('web.yaml:3:5: unknown key "imaeg" (and 1 more) (did you mean "image"?)')
        await look_again(origin, a_snapshot("a"))
        assert (cluster.reports[2].error, cluster.reports[2].seen) == ("", "one")
        assert len(cluster.deployed) == 1
        assert cluster.stacks == {"a"}

    play(a_snapshot("a"), scenario)


def test_a_source_that_cannot_be_read_loses_nothing() -> None:
    async def scenario(origin: ScriptedOrigin, cluster: MemoryCluster, runner: SourceRunner) -> None:
        await look_again(origin, StackdError("source.git.failed", "git fetch: no route to host"))
        assert cluster.stacks == {"a", "b"}
        assert cluster.pruned == [()]
        assert (cluster.reports[-1].error_code, cluster.reports[-1].seen) == ("source.git.failed", "one")

    play(a_snapshot("a", "b"), scenario)


def test_a_removed_stack_is_pruned() -> None:
    async def scenario(origin: ScriptedOrigin, cluster: MemoryCluster, runner: SourceRunner) -> None:
        await look_again(origin, a_snapshot("a", label="two"))
        assert cluster.stacks == {"a"}
        assert cluster.pruned == [(), ("b",)]

    play(a_snapshot("a", "b"), scenario)


def test_a_held_removal_is_reported_and_goes_ahead_when_approved() -> None:
    async def scenario(origin: ScriptedOrigin, cluster: MemoryCluster, runner: SourceRunner) -> None:
        await look_again(origin, a_snapshot(label="two"))
        assert cluster.stacks == {"a", "b"}
        assert cluster.reports[-1].held_prune == ("a", "b")
        await runner.sync_now()
        assert cluster.stacks == {"a", "b"}
        await runner.sync_now(approve_prune=True)
        assert cluster.stacks == set()
        assert cluster.reports[-1].held_prune == ()

    play(a_snapshot("a", "b"), scenario)


def test_a_stack_that_was_removed_by_hand_comes_back() -> None:
    async def scenario(origin: ScriptedOrigin, cluster: MemoryCluster, runner: SourceRunner) -> None:
        cluster.stacks.discard("a")
        await look_again(origin)
        assert cluster.stacks == {"a", "b"}

    play(a_snapshot("a", "b"), scenario)


def test_a_refused_deployment_is_an_error_of_the_source_and_is_tried_again() -> None:
    async def scenario(origin: ScriptedOrigin, cluster: MemoryCluster, runner: SourceRunner) -> None:
        cluster.refuse = Rejected(code="deploy.owner", message="somebody else owns it")
        await look_again(origin, a_snapshot("a", "b", label="two"))
        assert cluster.reports[-1].error_code == "deploy.owner"
        with pytest.raises(Refused):
            await runner.sync_now()
        cluster.refuse = None
        await look_again(origin)
        assert (cluster.reports[-1].error, cluster.stacks) == ("", {"a", "b"})

    play(a_snapshot("a"), scenario)


def test_sync_now_proposes_what_was_proposed_before() -> None:
    async def scenario(origin: ScriptedOrigin, cluster: MemoryCluster, runner: SourceRunner) -> None:
        await runner.sync_now()
        assert [snapshot.label for snapshot in cluster.deployed] == ["one", "one"]

    play(a_snapshot("a"), scenario)


def test_a_fault_in_the_reading_is_contained() -> None:
    async def scenario(origin: ScriptedOrigin, cluster: MemoryCluster, runner: SourceRunner) -> None:
        assert cluster.reports[-1].error_code == "source.failed"
        await look_again(origin, a_snapshot("a"))
        assert cluster.stacks == {"a"}

    play(ValueError("a bug"), scenario)


def test_all_sources_are_followed_until_stopped() -> None:
    async def main() -> None:
        origins, cluster = [ScriptedOrigin(a_snapshot("a")), ScriptedOrigin(a_snapshot("b"))], MemoryCluster()
        sources = Sources([SourceRunner(f"s{number}", origin, cluster) for number, origin in enumerate(origins)])
        running = asyncio.create_task(sources.run())
        await until(lambda: len(cluster.reports) == 2)
        await sources.sync_now("s1", approve_prune=False)
        await sources.sync_now("", approve_prune=False)
        assert [origin.looks for origin in origins] == [2, 3]
        with pytest.raises(NotFound):
            await sources.sync_now("s2", approve_prune=False)
        await sources.stop()
        assert all(origin.closed for origin in origins)
        await running

    asyncio.run(main())
