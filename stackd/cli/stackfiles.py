"""The stack files that `-f` names, read and checked as a source would read them.

Every problem of every file is found in one pass; two files that describe one stack are a problem too.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from stackd.base.errors import Position, Problem, SpecErrors, StackdError
from stackd.gitops.directory import DirectoryFiles, DirectoryTree
from stackd.gitops.discovery import find_stack_files
from stackd.spec.assemble import StackText
from stackd.spec.load import LoadedDocument, LoadedStack, load_document, load_stack
from stackd.spec.report import format_problems
from stackd.spec.resolve.stack import Surroundings
from stackd.spec.stack import StackSpec


@dataclass(frozen=True, slots=True)
class StackFile:
    """One stack file with what it means."""

    path: str
    loaded: LoadedStack

    @property
    def spec(self) -> StackSpec:
        return self.loaded.spec

    def position(self, key: str) -> Position | None:
        """Where `key` (such as `services.web.image`) is written, or its nearest ancestor."""
        return self.loaded.sources.position(key)


@dataclass(frozen=True, slots=True)
class Findings:
    """The outcome of reading: the files that could be read, and all problems of all files, warnings included."""

    files: int
    stacks: tuple[StackFile, ...]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity != "error")


@dataclass(frozen=True, slots=True)
class WrittenStack:
    """One stack as its files say it, whether or not it makes sense, and what its meaning depends on."""

    loaded: LoadedDocument
    around: Surroundings


def read_written(paths: Sequence[str], name: str | None, environment: Mapping[str, str]) -> WrittenStack:
    """The one stack that all `paths` say together, each put on top of those before it; warnings go to stderr. Raises
    SpecErrors where the form of a file is wrong, and what `check_stacks` raises."""
    candidates, problems = _candidates(paths)
    if problems:
        raise SpecErrors(problems)
    candidate = _merged(paths, candidates)
    loaded = load_document(
        candidate.files.text(candidate.file),
        file=candidate.shown,
        files=candidate.files,
        environment=environment,
        overrides=_texts(candidate.overrides),
    )
    loaded.problems.raise_form_errors()
    if warnings := loaded.problems.warnings():
        click.echo(format_problems(warnings), err=True)
    return WrittenStack(loaded, Surroundings(candidate.shown, name or candidate.name, candidate.files, environment))


def read_stacks(paths: Sequence[str], name: str | None, environment: Mapping[str, str]) -> tuple[StackFile, ...]:
    """The stacks of all `paths`; warnings go to stderr. Raises SpecErrors with every problem found, and what
    `check_stacks` raises."""
    findings = check_stacks(paths, name, environment)
    if findings.errors:
        raise SpecErrors(findings.problems)
    if findings.warnings:
        click.echo(format_problems(findings.warnings), err=True)
    return findings.stacks


def check_stacks(paths: Sequence[str], name: str | None, environment: Mapping[str, str]) -> Findings:
    """Everything there is to say about the stack files of `paths`. With a `name` they are one stack, each file put on top
    of those before it. Raises a usage error where no path is given, and StackdError `source.unreadable` where one can't
    be looked at."""
    candidates, problems = _candidates(paths)
    if name is not None:
        candidates = [_merged(paths, candidates)]
    stacks: list[StackFile] = []
    for candidate in candidates:
        loaded = _load(candidate, name or candidate.name, environment, problems)
        if loaded is not None:
            stacks.append(StackFile(candidate.shown, loaded))
            problems += loaded.warnings
    problems += _named_twice(stacks)
    return Findings(len(candidates), tuple(stacks), tuple(problems))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A stack file to read: its folder's files, its name there, how to show it, its stack's name by default, and the files
    that are put on top of it."""

    files: DirectoryFiles
    file: str
    shown: str
    name: str
    overrides: tuple[_Candidate, ...] = ()


def _candidates(paths: Sequence[str]) -> tuple[list[_Candidate], list[Problem]]:
    """The stack files of `paths`, and what is wrong with finding them."""
    if not paths:
        ctx = click.get_current_context()
        raise click.UsageError(f"no stack files given; say which, for example: {ctx.command_path} -f stack.yaml", ctx)
    candidates: list[_Candidate] = []
    problems: list[Problem] = []
    for path in map(Path, paths):
        found, ambiguous = _in_directory(path) if path.is_dir() else ([_single(path)], [])
        candidates += found
        problems += ambiguous
    if not candidates and not problems:
        raise StackdError("cli.files.none", f"no stack file in {', '.join(paths)}", hint="a stack file is called stack.yaml")
    return candidates, problems


def _merged(paths: Sequence[str], candidates: Sequence[_Candidate]) -> _Candidate:
    """All files as one stack; their paths start from the folder of the first one. The files that a directory holds are
    different stacks, so it may be named only if it holds one. Raises a usage error otherwise."""
    if len(candidates) != len(paths):
        message = f"only files can be put together to one stack; {', '.join(paths)} has {len(candidates)} stack files"
        raise click.UsageError(message, click.get_current_context())
    return replace(candidates[0], overrides=tuple(candidates[1:]))


def _texts(overrides: Iterable[_Candidate]) -> tuple[StackText, ...]:
    return tuple(StackText(candidate.files.text(candidate.file), candidate.shown) for candidate in overrides)


def _in_directory(root: Path) -> tuple[list[_Candidate], list[Problem]]:
    """The stack files of a directory, by the rule of sources."""
    tree = DirectoryTree(root, confined=False)
    found, problems = find_stack_files(tree.paths(), root.resolve().name)
    candidates = [
        _Candidate(tree.files(file.folder), posixpath.basename(file.path), str(root / file.path), file.name) for file in found
    ]
    return candidates, [_shown_from(root, problem) for problem in problems]


def _shown_from(root: Path, problem: Problem) -> Problem:
    if problem.position is None:
        return problem
    return replace(problem, position=replace(problem.position, file=str(root / problem.position.file)))


def _single(path: Path) -> _Candidate:
    """A file that was named: a stack file whatever it is called."""
    folder = path.resolve().parent
    found, _ = find_stack_files([path.name], folder.name)
    return _Candidate(DirectoryFiles(folder, confined=False), path.name, str(path), found[0].name if found else path.stem)


def _load(candidate: _Candidate, name: str, environment: Mapping[str, str], problems: list[Problem]) -> LoadedStack | None:
    """The stack, or None after adding what is wrong to `problems`."""
    try:
        text = candidate.files.text(candidate.file)
        return load_stack(
            text,
            file=candidate.shown,
            name=name,
            files=candidate.files,
            environment=environment,
            overrides=_texts(candidate.overrides),
        )
    except SpecErrors as error:
        problems += error.problems
    except StackdError as error:
        problems.append(Problem(error.code, error.message, error.position or Position(candidate.shown), error.hint))
    return None


def _named_twice(stacks: Iterable[StackFile]) -> list[Problem]:
    first: dict[str, str] = {}
    problems = []
    for stack in stacks:
        other = first.setdefault(stack.spec.name, stack.path)
        if other != stack.path:
            message = f'stack "{stack.spec.name}" is described by two files; the other is {other}'
            position = stack.position("name") or Position(stack.path)
            problems.append(Problem("source.stack.duplicate", message, position, "give one of them another `name:`"))
    return problems
