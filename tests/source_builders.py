"""Builders for source tests: stack files, a small git repository, and a cluster that only remembers what it was told."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from stackd.base.ids import RevisionId
from stackd.engine.inputs import Applied, Rejected, Reply, ReportSource
from stackd.gitops.snapshot import SourceSnapshot
from stackd.spec.files import DictFiles
from stackd.spec.load import LoadedStack, load_stack
from stackd.spec.surroundings import Surroundings


def a_stack_file(image: str = "app:1", extra: str = "") -> str:
    return f"services:\n  web:\n    image: {image}\n{extra}"


def a_loaded_stack(name: str) -> LoadedStack:
    text = a_stack_file().encode()
    return load_stack(text, Surroundings(f"{name}.yaml", name, DictFiles({}), {}))


def a_snapshot(*names: str, label: str = "one") -> SourceSnapshot:
    return SourceSnapshot(label=label, stacks=tuple(a_loaded_stack(name) for name in names))


def write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Returns as soon as `condition` holds; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class MemoryCluster:
    """A Deployer that owns whatever was deployed. `refuse` answers the next deployments instead."""

    def __init__(self) -> None:
        self.stacks: set[str] = set()
        self.deployed: list[SourceSnapshot] = []
        self.pruned: list[tuple[str, ...]] = []
        self.reports: list[ReportSource] = []
        self.refuse: Rejected | None = None

    def owned_stacks(self, source: str) -> frozenset[str]:
        return frozenset(self.stacks)

    async def deploy(self, source: str, snapshot: SourceSnapshot, prune: tuple[str, ...]) -> Reply:
        if self.refuse is not None:
            return self.refuse
        self.deployed.append(snapshot)
        self.pruned.append(prune)
        self.stacks = (self.stacks | snapshot.stack_names()) - set(prune)
        return Applied(changed=True, revision=RevisionId(f"r{len(self.deployed)}"))

    async def report(self, report: ReportSource) -> None:
        self.reports.append(report)


class Repository:
    """A git repository that somebody works in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        identity = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in _ANN.items()}
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.path), "GIT_CONFIG_NOSYSTEM": "1"} | identity
        done = subprocess.run(["git", *arguments], cwd=self.path, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, files: dict[str, str | None], subject: str = "work") -> str:
        """Write (or, with None, delete) files and commit; the commit's id."""
        write(self.path, {path: text for path, text in files.items() if text is not None})
        for path in (path for path, text in files.items() if text is None):
            (self.path / path).unlink()
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "HEAD")


_ANN = {"NAME": "Ann", "EMAIL": "ann@example.com"}
