"""The sources a node follows, and how what they say reaches the writer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from stackd.base.errors import NotFound, StackdError
from stackd.base.time import SECOND, Duration
from stackd.daemon.options import UpOptions
from stackd.daemon.sources import MAIN, Proposals, asked_source, open_sources
from stackd.engine.inputs import Applied, PutSource, ReportSource
from stackd.engine.model import Source
from stackd.engine.parts import SYSTEM, SourceKind
from stackd.gitops.runner import Sources

from control_builders import LiveManager, play
from source_builders import a_snapshot


def options(tmp_path: Path, **fields: Any) -> UpOptions:
    return UpOptions(data_dir=tmp_path / "data", **fields)


def git(location: str) -> Source:
    return Source(name=MAIN, kind=SourceKind.GIT, location=location, ref="main")


def test_no_source_is_asked_for_by_default(tmp_path: Path) -> None:
    assert asked_source(options(tmp_path)) is None


def test_a_directory_is_known_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = asked_source(options(tmp_path, source_dir=Path("stacks")))
    assert source == Source(name=MAIN, kind=SourceKind.DIRECTORY, location=str(tmp_path / "stacks"))


@pytest.mark.parametrize("url", ["https://git.test/ops.git", "ssh://git@git.test/ops.git", "git@git.test:ops.git"])
def test_a_repository_is_known_by_its_url(tmp_path: Path, url: str) -> None:
    interval = Duration(5 * SECOND)
    source = asked_source(options(tmp_path, git=url, ref="live", path="stacks", interval_ns=interval))
    assert source == Source(name=MAIN, kind=SourceKind.GIT, location=url, ref="live", path="stacks", interval_ns=interval)


def test_a_repository_on_this_host_is_known_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = asked_source(options(tmp_path, git="./ops"))
    assert source is not None
    assert source.location == str(tmp_path / "ops")


def test_an_address_that_cannot_be_followed_is_an_error_and_not_recorded(tmp_path: Path) -> None:
    async def story(manager: LiveManager) -> None:
        for fields in ({"git": "ext::sh -c id"}, {"git": "https://git.test/x", "ref": "-x"}):
            with pytest.raises(StackdError):
                await open_sources(options(tmp_path, **fields), manager.writer, manager.key)
        assert len(manager.view.sources) == 0

    play(story)


def test_the_source_that_is_asked_for_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    async def story(manager: LiveManager) -> None:
        await manager.submit(PutSource(source=git("https://git.test/old"), principal=SYSTEM))
        sources = await open_sources(options(tmp_path, git="https://git.test/new"), manager.writer, manager.key)
        assert isinstance(sources, Sources)
        (recorded,) = manager.view.sources.values()
        assert recorded.location == "https://git.test/new"

    play(story)


def test_without_a_wish_the_node_goes_on_with_what_the_cluster_knows(tmp_path: Path) -> None:
    async def story(manager: LiveManager) -> None:
        await manager.submit(PutSource(source=git("https://git.test/old"), principal=SYSTEM))
        index = manager.log.last_index
        sources = await open_sources(options(tmp_path), manager.writer, manager.key)
        assert manager.log.last_index == index
        with pytest.raises(NotFound):
            await sources.sync_now("another", approve_prune=False)

    play(story)


def test_a_snapshot_becomes_a_revision_of_its_source() -> None:
    async def story(manager: LiveManager) -> None:
        proposals = Proposals(manager.writer, manager.key)
        reply = await proposals.deploy("main", a_snapshot("shop", "blog", label="abc"), ())
        assert isinstance(reply, Applied)
        assert sorted(proposals.owned_stacks("main")) == ["blog", "shop"]
        assert proposals.owned_stacks("another") == []
        revision = manager.view.revisions.get(reply.revision)
        assert revision is not None
        assert (revision.label, revision.source, str(revision.principal)) == ("abc", "main", "source:main")
        again = await proposals.deploy("main", a_snapshot("shop", "blog", label="abc"), ())
        assert again == Applied(changed=False, revision=reply.revision)

    play(story)


def test_what_a_source_no_longer_has_is_pruned() -> None:
    async def story(manager: LiveManager) -> None:
        proposals = Proposals(manager.writer, manager.key)
        await proposals.deploy("main", a_snapshot("shop", "blog"), ())
        await proposals.deploy("main", a_snapshot("shop", label="two"), ("blog",))
        assert proposals.owned_stacks("main") == ["shop"]
        async with asyncio.timeout(60):
            await manager.until(lambda: {service.stack for service in manager.view.services.values()} == {"shop"})

    play(story)


def test_a_look_that_failed_is_on_record() -> None:
    async def story(manager: LiveManager) -> None:
        proposals = Proposals(manager.writer, manager.key)
        await proposals.report(ReportSource(name="main", seen="abc", error="gone", error_code="source.git.failed"))
        status = manager.view.source_statuses.get("main")
        assert status is not None
        assert (status.seen, status.error) == ("abc", "gone")

    play(story)
