"""Real stack files mean the same here as to the official client, or are refused for the same reason.

make corpus CORPUS=FOLDER
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from jsonschema import Draft7Validator
from stackd.base.errors import SpecErrors
from stackd.spec.interpolate import interpolate
from stackd.spec.load import parse
from stackd.spec.nodes import plain
from stackd.spec.problems import Problems
from stackd.spec.read.stack import read_stack
from stackd.spec.schema import schema_text

from official_client import (
    DELIBERATE,
    ENVIRONMENT,
    Answer,
    Comparison,
    comparable,
    differences,
    our_bodies,
    our_config,
    read_yaml,
)

BESIDE = Path(__file__).parents[2].parent / "shared" / "corpus" / "dev"
CORPUS = Path(os.environ.get("CORPUS") or BESIDE)

CODES = {
    "bad-version-type": {"spec.type", "spec.version.unsupported"},
    "decode": {"spec.value.range", "spec.mount.bad", "spec.port.bad", "spec.type", "spec.size.bad", "spec.command.bad"},
    "decode-volume": {"spec.mount.bad"},
    "external-conflict": {"spec.external.conflict"},
    "file-is-directory": {"spec.file.missing", "spec.file.unreadable"},
    "image": {"spec.image.missing", "spec.image.bad"},
    "interpolation-format": {"spec.variable.syntax", "spec.variable.required"},
    "interpolation-required": {"spec.variable.required"},
    "interpolation-type": {"spec.type", "spec.value.form"},
    "missing-file": {"spec.file.missing", "spec.file.unnamed"},
    "schema-additional-property": {"spec.name.bad", "spec.key.unknown", "spec.key.unsupported"},
    "schema-format": {"spec.port.bad", "spec.duration.bad", "spec.type"},
    "schema-type": {"spec.type", "spec.yaml.empty", "spec.value.choice", "spec.value.form"},
    "schema-unique": {"spec.list.duplicate"},
    "top-level-type": {"spec.type", "spec.yaml.empty"},
    "undefined-reference": {"spec.reference.undefined"},
    "unsupported-option": {"spec.key.unsupported"},
    "unsupported-version": {"spec.version.unsupported"},
    "yaml-duplicate-key": {"spec.yaml.duplicate"},
    "yaml-syntax": {"spec.yaml.syntax", "spec.yaml.tab", "spec.yaml.alias", "spec.yaml.key", "spec.yaml.character"},
}
"""Our codes for each class of refusal."""

NEWER = (
    "Additional property name is not allowed",
    "Additional property platform is not allowed",
    "Additional property runtime is not allowed",
    "Additional property group_add is not allowed",
    "Additional property profiles is not allowed",
    "Additional property pull_policy is not allowed",
    "Additional property pids_limit is not allowed",
    "Configuration contains forbidden properties",
    "extends: Support for `extends` is not implemented yet",
    "deploy.replicas must be a integer",
    "command must be a string",
    ":+",
    "depends_on must be a list",
    "must be a string, number or null",
)
"""What the official client refuses, and the newer Compose specification allows: keys that it has gained, `depends_on` with
conditions, truth values as the values of variables and labels, numbers in quotes, an empty command, `${NAME:+word}`."""


FAULTS_OF_FORM = frozenset({"spec.key.unknown", "spec.key.unsupported", "spec.type", "spec.list.duplicate"})
"""Faults that a schema sees; others need units, other sections, or the grammar of a short form."""


def folders() -> list[Path]:
    return sorted(path.parent for path in CORPUS.glob("*/stack.yml"))


def compare(kind: str, ours: Callable[[Path], Answer], accepted: str, refused: str) -> Comparison:
    """Every folder's answer of `kind` (`config` or `deploy` in result.json) with ours."""
    comparison = Comparison()
    for folder in folders():
        answer = ours(folder)
        if (folder / accepted).exists():
            found = _agreement(folder / accepted, answer, kind)
            outcome = comparison.agreed
        else:
            found = _refusal(folder, refused, kind, answer)
            outcome = comparison.newer if answer.accepted else comparison.refused_by_both
        if found:
            comparison.differing[folder.name] = found
        else:
            outcome.append(folder.name)
    return comparison


def _agreement(theirs: Path, answer: Answer, kind: str) -> list[str]:
    if not answer.accepted:
        return list(answer.messages)
    if theirs.suffix == ".json":
        found = differences(comparable(answer.result), comparable(json.loads(theirs.read_text())))
    else:
        found = differences(answer.result, read_yaml(theirs.read_bytes()))
    form = "config" if kind == "config" else "specs"
    return [line for line in found if not any(part in line for part, where in DELIBERATE if where == form)]


def _refusal(folder: Path, refused: str, kind: str, answer: Answer) -> list[str]:
    text = (folder / refused).read_text()
    if answer.accepted:
        return [] if any(part in text for part in NEWER) else [f"only the official client refuses: {text}"]
    result = json.loads((folder / "result.json").read_text())
    expected = CODES.get(result[kind]["class"])
    if expected is None:  # a class that nobody has named: both refuse, and for what reason is for a person to compare
        return []
    return [] if answer.codes & expected or any(part in text for part in NEWER) else [text, *answer.messages]


def show(title: str, comparison: Comparison) -> None:
    agreed, newer, refused = len(comparison.agreed), len(comparison.newer), len(comparison.refused_by_both)
    print(f"\n{title}: {agreed} agree, {refused} are refused by both, {newer} only the newer specification allows,", end=" ")
    print(f"{len(comparison.differing)} differ")
    for name, lines in comparison.differing.items():
        print(f"  {name}")
        print("\n".join(f"    {line}" for line in lines))


def test_every_file_reads_as_the_official_client_shows_it() -> None:
    comparison = compare("config", our_config, "config.yml", "config.error")
    show("config", comparison)
    assert not comparison.differing
    assert comparison.agreed


def test_every_file_means_the_requests_that_the_official_client_sends() -> None:
    comparison = compare("deploy", our_bodies, "specs.json", "deploy.error")
    show("config -o docker", comparison)
    assert not comparison.differing
    assert comparison.agreed


def test_the_schema_and_the_loader_agree_about_the_form_of_every_file() -> None:
    validator = Draft7Validator(json.loads(schema_text()))
    disagreements = []
    for folder in folders():
        problems = Problems()
        try:
            root = parse((folder / "stack.yml").read_bytes(), "stack.yml", problems)
        except SpecErrors:
            continue  # no YAML, so there is nothing that a schema could look at
        interpolate(root, ENVIRONMENT, problems)
        if problems.form_is_wrong:
            continue
        read_stack(root, problems)
        seen = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(plain(root))]
        if (seen and not problems.codes) or (problems.codes & FAULTS_OF_FORM and not seen):
            disagreements.append(f"{folder.name}: schema {seen}, loader {sorted(problems.codes)}")
    assert disagreements == []
