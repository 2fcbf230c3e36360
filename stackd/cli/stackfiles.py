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
from stackd.cli.options import StackSelection
from stackd.gitops.directory import DirectoryFiles, DirectoryTree
from stackd.gitops.discovery import find_stack_files
from stackd.spec.load import LoadedDocument, LoadedStack, load_document, load_stack
from stackd.spec.problems import in_file_order
from stackd.spec.report import format_problems
from stackd.spec.stack import StackSpec
from stackd.spec.surroundings import FileText, Surroundings


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


def read_written(selection: StackSelection, environment: Mapping[str, str]) -> LoadedDocument:
    """The one stack that all files say together, each put on top of those before it; warnings go to stderr. Raises
    SpecErrors where the form of a file is wrong, and what `check_stacks` raises."""
    candidates, problems = _candidates(selection)
    if problems:
        raise SpecErrors(problems)
    candidate = _merged(selection.paths, candidates)
    loaded = load_document(
        candidate.files.text(candidate.file),
        _surroundings(candidate, selection, environment),
        _texts(candidate.overrides),
    )
    loaded.problems.raise_form_errors()
    if warnings := loaded.problems.warnings():
        click.echo(format_problems(warnings), err=True)
    return loaded


def read_stacks(selection: StackSelection, environment: Mapping[str, str]) -> tuple[StackFile, ...]:
    """The stacks of all files; warnings go to stderr. Raises SpecErrors with every problem found, and what
    `check_stacks` raises."""
    findings = check_stacks(selection, environment)
    if findings.errors:
        raise SpecErrors(findings.problems)
    if findings.warnings:
        click.echo(format_problems(findings.warnings), err=True)
    return findings.stacks


def check_stacks(selection: StackSelection, environment: Mapping[str, str]) -> Findings:
    """Everything there is to say about the stack files of `selection`. With a name they are one stack, each file put on
    top of those before it. Raises a usage error where no path is given, and StackdError `source.unreadable` or
    `spec.file.missing` where a path, or a file with variables, can't be read."""
    candidates, problems = _candidates(selection)
    if selection.name is not None:
        candidates = [_merged(selection.paths, candidates)]
    stacks: list[StackFile] = []
    for candidate in candidates:
        loaded = _load(candidate, _surroundings(candidate, selection, environment), problems)
        if loaded is not None:
            stacks.append(StackFile(candidate.shown, loaded))
            problems += loaded.warnings
    problems += _named_twice(stacks)
    return Findings(len(candidates), tuple(stacks), _each_once(problems))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A stack file to read: its folder's files, its name there, how to show it, its stack's name by default, and the files
    that are put on top of it."""

    files: DirectoryFiles
    file: str
    shown: str
    name: str
    overrides: tuple[_Candidate, ...] = ()


def _candidates(selection: StackSelection) -> tuple[list[_Candidate], list[Problem]]:
    """The stack files that are selected, and what is wrong with finding them."""
    if not selection.paths:
        ctx = click.get_current_context()
        raise click.UsageError(f"no stack files given; say which, for example: {ctx.command_path} -f stack.yaml", ctx)
    candidates: list[_Candidate] = []
    problems: list[Problem] = []
    for path in map(Path, selection.paths):
        found, ambiguous = _in_directory(path) if path.is_dir() else ([_single(path, selection.project_directory)], [])
        candidates += found
        problems += ambiguous
    if not candidates and not problems:
        message = f"no stack file in {', '.join(selection.paths)}"
        raise StackdError("cli.files.none", message, hint="a stack file is called stack.yaml")
    return candidates, problems


def _surroundings(candidate: _Candidate, selection: StackSelection, environment: Mapping[str, str]) -> Surroundings:
    """What the stack is read with; paths start from the candidate's folder, or from the one that was chosen."""
    folder = selection.project_directory
    return Surroundings(
        candidate.shown,
        selection.name or candidate.name,
        candidate.files if folder is None else DirectoryFiles(Path(folder), confined=False),
        environment,
        variable_files=_variable_files(selection.env_files) if selection.env_files else None,
        profiles=frozenset(selection.profiles),
        folder=folder,
    )


def _variable_files(paths: Sequence[str]) -> tuple[FileText, ...]:
    return tuple(FileText(_variable_file(path), path) for path in paths)


def _variable_file(path: str) -> bytes:
    try:
        return DirectoryFiles(Path(), confined=False).read(path)
    except StackdError as error:
        raise StackdError(error.code, error.message, hint="--env-file starts from the current directory") from error


def _merged(paths: Sequence[str], candidates: Sequence[_Candidate]) -> _Candidate:
    """All files as one stack; their paths start from the folder of the first one. The files that a directory holds are
    different stacks, so it may be named only if it holds one. Raises a usage error otherwise."""
    if len(candidates) != len(paths):
        message = f"only files can be put together to one stack; {', '.join(paths)} has {len(candidates)} stack files"
        raise click.UsageError(message, click.get_current_context())
    return replace(candidates[0], overrides=tuple(candidates[1:]))


def _texts(overrides: Iterable[_Candidate]) -> tuple[FileText, ...]:
    return tuple(FileText(candidate.files.text(candidate.file), candidate.shown) for candidate in overrides)


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


def _single(path: Path, project_directory: str | None) -> _Candidate:
    """A file that was named: a stack file whatever it is called. One that is called like any other is named after the
    project's folder."""
    folder = path.resolve().parent
    project = folder if project_directory is None else Path(project_directory).resolve()
    found, _ = find_stack_files([path.name], project.name)
    return _Candidate(DirectoryFiles(folder, confined=False), path.name, str(path), found[0].name if found else path.stem)


def _load(candidate: _Candidate, around: Surroundings, problems: list[Problem]) -> LoadedStack | None:
    """The stack, or None after adding what is wrong to `problems`."""
    try:
        return load_stack(candidate.files.text(candidate.file), around, _texts(candidate.overrides))
    except SpecErrors as error:
        problems += in_file_order((*error.problems, *error.warnings))
    except StackdError as error:
        hint = "-f starts from the current directory" if error.code == "spec.file.missing" else error.hint
        problems.append(Problem(error.code, error.message, error.position or Position(candidate.shown), hint))
    return None


def _each_once(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Several stacks may read one file, and find the same in it."""
    return tuple(dict.fromkeys(problems))


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
