"""Folders with a stack file and the official client's answers, and how they are compared with ours.

A folder holds `stack.yml` with its side files; `config.yml` or `config.error` (what `docker stack config` says),
`specs.json` or `deploy.error` (what `docker stack deploy` sends), and `result.json` with the class of each refusal. The
client ran in `/srv/stack`, with PATH and HOME as its only variables, and the stack is called `s`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stackd.base.errors import SpecErrors
from stackd.cli.yamltext import yaml_text
from stackd.gitops.directory import DirectoryFiles
from stackd.spec.docker.bodies import docker_bodies
from stackd.spec.load import LoadedDocument, load_document, parse
from stackd.spec.nodes import plain
from stackd.spec.problems import Problems
from stackd.spec.render import render
from stackd.spec.surroundings import Surroundings

DIRECTORY = "/srv/stack"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/srv/stack/home"}
STACK = "s"

UNORDERED = frozenset(
    {
        "Aliases", "CapabilityAdd", "CapabilityDrop", "Configs", "Constraints", "Env", "GenericResources", "Hosts", "Mounts",
        "Networks", "Ports", "Secrets", "Ulimits",
    }
)  # fmt: skip
"""Lists in a request that are sets."""

DELIBERATE = (
    # The address of a published port counts here, so it is shown.
    (".host_ip: only ours", "config"),
    # The official client forgets the `x-` keys of networks and volumes, unless these are external.
    (".x-", "config"),
    # It shows limits of 0 as an empty mapping, which it couldn't read again.
    (".soft: only ours", "config"),
    (".hard: only ours", "config"),
    # It reads oom_score_adj and neither shows nor sends it to an engine of that version.
    (".oom_score_adj: only ours", "config"),
    (".OomScoreAdj: only ours", "specs"),
    # What looks like a date is one to it, and gets a time of day.
    (" 00:00:00 +0000 UTC'", "config"),
    (" 00:00:00 +0000 UTC'", "specs"),
)
"""Differences that are meant, by the end of their path (docs/differences.md)."""


@dataclass(frozen=True)
class Answer:
    """What came of a file: a result, or the codes of what is wrong with it."""

    result: Any = None
    codes: frozenset[str] = frozenset()
    messages: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        return not self.codes


@dataclass
class Comparison:
    """What was compared, by what came of it."""

    agreed: list[str] = field(default_factory=list)
    newer: list[str] = field(default_factory=list)
    refused_by_both: list[str] = field(default_factory=list)
    differing: dict[str, list[str]] = field(default_factory=dict)


class StackFiles:
    """The side files of a folder, as if it lay where the official client ran."""

    directory = DIRECTORY

    def __init__(self, folder: Path) -> None:
        self._files = DirectoryFiles(folder, confined=False)

    def read(self, path: str) -> bytes:
        return self._files.read(path)


def our_config(folder: Path) -> Answer:
    """What `stackd config` prints, read as YAML again."""
    try:
        text = yaml_text(render(_loaded(folder).document, DIRECTORY, ENVIRONMENT))
    except SpecErrors as error:
        return _refused(error)
    return Answer(read_yaml(text.encode()))


def our_bodies(folder: Path) -> Answer:
    """What `stackd config -o docker` prints."""
    try:
        loaded = _loaded(folder)
        problems = Problems()
        bodies = docker_bodies(loaded.document, loaded.around, loaded.sources, problems)
        problems.raise_errors()
    except SpecErrors as error:
        return _refused(error)
    return Answer(json.loads(json.dumps(bodies)))


def _loaded(folder: Path) -> LoadedDocument:
    text = (folder / "stack.yml").read_bytes()
    # The official client knows no `.env`.
    loaded = load_document(text, Surroundings("stack.yml", STACK, StackFiles(folder), ENVIRONMENT, variable_files=()))
    loaded.problems.raise_form_errors()
    return loaded


def _refused(error: SpecErrors) -> Answer:
    codes = frozenset(problem.code for problem in error.problems)
    return Answer(codes=codes, messages=tuple(f"{problem.code}: {problem.message}" for problem in error.problems))


def read_yaml(text: bytes) -> Any:
    return plain(parse(text, "config.yml", Problems()))


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Where two documents differ, as paths with both values."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = [f"{path}.{name}: missing" for name in theirs.keys() - ours.keys()]
        found += [f"{path}.{name}: only ours" for name in ours.keys() - theirs.keys()]
        for name in sorted(ours.keys() & theirs.keys()):
            found += differences(ours[name], theirs[name], f"{path}.{name}")
        return sorted(found)
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [line for index, (one, other) in pairs for line in differences(one, other, f"{path}.{index}")]
    return [] if type(ours) is type(theirs) and ours == theirs else [f"{path}: {ours!r:.100} is not {theirs!r:.100}"]


def comparable(value: Any, name: str = "") -> Any:
    """A request without what says nothing, and with its sets in one order."""
    if isinstance(value, dict):
        parts = {key: comparable(item, key) for key, item in value.items()}
        return {key: item for key, item in parts.items() if item not in (None, "", 0, {}, [])}
    if isinstance(value, list):
        items = [comparable(item) for item in value]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if name in UNORDERED else items
    return value
