"""The sources a node follows while it leads: what `up` named, else what the cluster knows; and how they reach the writer."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection
from pathlib import Path

from stackd.base.errors import Retry, StackdError
from stackd.base.ids import NodeId
from stackd.daemon.options import UpOptions
from stackd.engine.inputs import DeployRevision, PutSource, Reply, ReportSource
from stackd.engine.model import Source
from stackd.engine.parts import SYSTEM, NodeState, Owner, Principal, PrincipalKind, SourceKind
from stackd.gitops.remote import checked_remote
from stackd.gitops.runner import Origin, SourceRunner, Sources
from stackd.gitops.snapshot import SourceSnapshot
from stackd.gitops.source_git import GitLocation, GitSource
from stackd.manager.intake import deploy, prepare
from stackd.manager.reply import accepted
from stackd.manager.writer import Writer
from stackd.security.keys import RootKey

log = logging.getLogger(__name__)

MAIN = "main"
"""The name of the source that `stackd up` follows. Pointed elsewhere it is still the same source: stacks of one name go
on, and what the new place lacks is pruned under the usual safety rules."""


class Proposals:
    """Implements `gitops.runner.Deployer`: a snapshot becomes one revision."""

    def __init__(self, writer: Writer, key: RootKey) -> None:
        self._writer = writer
        self._key = key

    def owned_stacks(self, source: str) -> Collection[str]:
        return [stack.name for stack in self._writer.view.stacks.values() if stack.owner.source == source]

    async def deploy(self, source: str, snapshot: SourceSnapshot, prune: tuple[str, ...]) -> Reply:
        owned = ((stack.spec, Owner(source=source, file=stack.file)) for stack in snapshot.stacks)
        prepared = prepare(owned, self._key)
        command = DeployRevision(
            label=snapshot.label,
            source=source,
            stacks=prepared.manifests,
            principal=Principal(kind=PrincipalKind.SOURCE, name=source),
            prune=prune,
            author=snapshot.author,
            subject=snapshot.subject,
        )
        return await deploy(self._writer, prepared, command)

    async def report(self, report: ReportSource) -> None:
        await self._writer.submit(report)


REGISTER_SECONDS = 10.0
"""How long the first look waits for the leader's own agent: without any node every task would be unplaced for a moment."""

RECORD_AGAIN_SECONDS = 1.0
"""Between attempts to record the source that the command line names."""


class Following:
    """The leader's duty to follow the sources (`run`), and what clients ask of them (`manager.control.SourceControl`). Give it
    the writer before it runs."""

    def __init__(self, options: UpOptions, node_id: NodeId, key: RootKey) -> None:
        self._options = options
        self._node_id = node_id
        self._key = key
        self._writer: Writer | None = None
        self._sources = Sources(())
        self._is_over = False

    def attach(self, writer: Writer) -> None:
        self._writer = writer

    async def run(self) -> None:
        """Follow them until cancelled or stopped. Raises StackdError for one that can't be followed at all."""
        assert self._writer is not None
        await self._wait_for_agent(self._writer)
        if self._is_over:
            return
        self._sources = await open_sources(self._options, self._writer, self._key)
        try:
            await self._sources.run()
        finally:
            self._sources = Sources(())

    async def sync_now(self, source: str, *, approve_prune: bool) -> None:
        await self._sources.sync_now(source, approve_prune=approve_prune)

    async def stop_sources(self) -> None:
        self._is_over = True
        await self._sources.stop()

    async def _wait_for_agent(self, writer: Writer) -> None:
        try:
            async with asyncio.timeout(REGISTER_SECONDS):
                while not _is_ready(writer, self._node_id):
                    await writer.feed.wait_past(writer.feed.index)
        except TimeoutError:
            pass  # other nodes can do without


def _is_ready(writer: Writer, node_id: NodeId) -> bool:
    status = writer.view.node_statuses.get(node_id)
    return status is not None and status.state is NodeState.READY


def asked_source(options: UpOptions) -> Source | None:
    """The source that the command line names, if it does; a path becomes absolute, since a later start may come from another
    working directory. Raises StackdError `source.url.*`."""
    if options.git is not None:
        return Source(
            name=MAIN,
            kind=SourceKind.GIT,
            location=checked_remote(options.git, allow_local=True).url,
            ref=options.ref,
            path=options.path,
            interval_ns=options.interval_ns,
        )
    if options.source_dir is not None:
        return Source(name=MAIN, kind=SourceKind.DIRECTORY, location=os.path.abspath(options.source_dir))
    return None


async def open_sources(options: UpOptions, writer: Writer, key: RootKey) -> Sources:
    """The runners of all sources, after recording the one that was asked for. Raises StackdError for one that can't be
    followed at all (a bad address)."""
    asked = asked_source(options)
    known = {source.name: source for source in writer.view.sources.values()}
    is_new = asked is not None and known.get(asked.name) != asked
    if asked is not None:
        known[asked.name] = asked
    proposals = Proposals(writer, key)
    runners = [SourceRunner(source.name, _origin(source, options, key), proposals) for source in known.values()]
    if asked is not None and is_new:
        await _record(asked, writer)
    return Sources(runners)


async def _record(source: Source, writer: Writer) -> None:
    """Once the log can take it: another manager may be about to lead, or the disk be full. Raises what the state refuses."""
    while True:
        try:
            accepted(await writer.submit(PutSource(source=source, principal=SYSTEM)))
            return
        except StackdError as error:
            if error.retry is Retry.NEVER:
                raise
            log.info("source not recorded yet: source=%s code=%s", source.name, error.code)
        await asyncio.sleep(RECORD_AGAIN_SECONDS)


def _origin(source: Source, options: UpOptions, key: RootKey) -> Origin:
    if source.kind is SourceKind.GIT:
        location = GitLocation(
            url=source.location,
            ref=source.ref,
            path=source.path,
            interval_ns=source.interval_ns or options.interval_ns,
            allow_local=True,
        )
        return GitSource(location, home=options.data_dir / "git" / source.name, environment=os.environ)
    from stackd.gitops.source_dir import DirectorySource  # watchdog, which a git source doesn't need

    return DirectorySource(
        Path(source.location),
        environment=os.environ,
        key=key.name_secret(b"labels of directory sources").encode(),
        exclude=(options.data_dir,),
    )
