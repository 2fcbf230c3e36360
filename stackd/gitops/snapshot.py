"""Reading a source as a whole: every stack file it has, at one moment, with everything these name.

A snapshot is all or nothing: one problem in one file makes the whole snapshot unusable, and then nothing is deployed and
nothing is removed. Reading is incremental: a stack file is parsed again only if it, or a file it reads, has changed.
Nothing here knows whether the files lie in a directory or in a git tree.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from stackd.base.errors import Position, Problem, SpecErrors, StackdError
from stackd.gitops.discovery import StackFile, find_stack_files
from stackd.spec.files import Files
from stackd.spec.load import LoadedStack, load_stack
from stackd.spec.surroundings import Surroundings


@dataclass(frozen=True, slots=True)
class SourceSnapshot:
    """A source at one moment. `label` is what a person knows it by: the commit id, or a digest of all that was read.

    With `problems`, `stacks` holds only what could be loaded, and must not be deployed."""

    label: str
    stacks: tuple[LoadedStack, ...] = ()
    problems: tuple[Problem, ...] = ()
    author: str = ""
    subject: str = ""

    def stack_names(self) -> frozenset[str]:
        return frozenset(stack.spec.name for stack in self.stacks)


class TreeFiles(Files, Protocol):
    """The files of a tree as one of its folders sees them."""

    def text(self, name: str) -> bytes:
        """The content of the stack file `name`, cut off just above the size that the loader refuses."""
        ...

    def fingerprint(self, path: str) -> str | None:
        """Equal fingerprints mean equal content, or the same error; None when that can't be told from outside."""
        ...


class Tree(Protocol):
    """A set of files at one moment."""

    def paths(self) -> Iterable[str]:
        """The files that may be stack files, relative to the root; raises StackdError `source.unreadable`."""
        ...

    def files(self, folder: str) -> TreeFiles: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found in a tree. `digest` names the content of all files that were read, under the reader's key."""

    stacks: tuple[LoadedStack, ...]
    problems: tuple[Problem, ...]
    digest: str


class StackReader:
    """Reads trees again and again and remembers what it parsed. Not to be used from two threads at once.

    `environment` is what `${VAR}` is taken from. `key` goes into the digest: it is shown to people and covers secrets,
    which a bare hash would let anyone guess."""

    def __init__(self, environment: Mapping[str, str], *, key: bytes = b"") -> None:
        self._environment = environment
        self._key = key
        self._known: dict[StackFile, _Parsed] = {}

    def read(self, tree: Tree, root_name: str) -> Reading:
        """All stacks of `tree`; raises StackdError if the tree as a whole can't be read."""
        found, problems = find_stack_files(tree.paths(), root_name)
        # Rebuilt at each reading, so that what is gone is forgotten.
        self._known = {file: self._parsed(file, tree.files(file.folder)) for file in found}
        parsed = self._known.values()
        stacks = tuple(each.stack for each in parsed if each.stack is not None)
        problems = (*problems, *(problem for each in parsed for problem in each.problems), *_namesakes(stacks))
        # Stacks that share a file find the same in it.
        return Reading(stacks=stacks, problems=tuple(dict.fromkeys(problems)), digest=self._digest())

    def files_read(self) -> tuple[tuple[str, str], ...]:
        """Folder and path of every file that the last reading looked at, also of those that weren't there."""
        return tuple((file.folder, path) for file, parsed in self._known.items() for path in parsed.seen)

    def _parsed(self, file: StackFile, files: TreeFiles) -> _Parsed:
        known = self._known.get(file)
        if known is not None and known.still_true(files):
            return known
        recorder = _Recorder(files, self._key)
        try:
            text = recorder.text(posixpath.basename(file.path))
            stack = load_stack(text, Surroundings(file.path, file.name, recorder, self._environment))
        except SpecErrors as exc:
            return _Parsed(None, exc.problems, recorder.seen)
        except StackdError as exc:
            problem = Problem(exc.code, exc.message, exc.position or Position(file.path), exc.hint)
            return _Parsed(None, (problem,), recorder.seen)
        return _Parsed(stack, (), recorder.seen)

    def _digest(self) -> str:
        total = hashlib.blake2b(digest_size=16, key=self._key)
        for file, parsed in sorted(self._known.items(), key=lambda item: item[0].path):
            for path, seen in sorted(parsed.seen.items()):
                total.update(f"{file.path}\0{path}\0{seen.digest}\0".encode(errors="surrogateescape"))
        return total.hexdigest()


@dataclass(frozen=True, slots=True)
class _Seen:
    """One file as it was when it was read."""

    fingerprint: str | None
    digest: str


@dataclass(frozen=True, slots=True)
class _Parsed:
    """What became of one stack file, and everything that was read for it."""

    stack: LoadedStack | None
    problems: tuple[Problem, ...]
    seen: Mapping[str, _Seen] = field(default_factory=dict)

    def still_true(self, files: TreeFiles) -> bool:
        return all(seen.fingerprint and seen.fingerprint == files.fingerprint(path) for path, seen in self.seen.items())


class _Recorder:
    """Hands out files and notes which, so that it is known later what a parsed stack depends on."""

    def __init__(self, files: TreeFiles, key: bytes) -> None:
        self._files = files
        self._key = key
        self.seen: dict[str, _Seen] = {}

    @property
    def directory(self) -> str | None:
        return self._files.directory

    def text(self, name: str) -> bytes:
        # Before the reading: a change in between then shows as a difference.
        fingerprint = self._files.fingerprint(name)
        data = self._files.text(name)
        self._note(name, fingerprint, data)
        return data

    def read(self, path: str) -> bytes:
        fingerprint = self._files.fingerprint(path)
        try:
            data = self._files.read(path)
        except StackdError as exc:
            self._note(path, fingerprint, exc.code.encode())
            raise
        self._note(path, fingerprint, data)
        return data

    def _note(self, path: str, fingerprint: str | None, data: bytes) -> None:
        self.seen[path] = _Seen(fingerprint, hashlib.blake2b(data, digest_size=16, key=self._key).hexdigest())


def _namesakes(stacks: Iterable[LoadedStack]) -> tuple[Problem, ...]:
    """A name is a stack's identity: two files of one source can't share it."""
    first: dict[str, str] = {}
    problems: list[Problem] = []
    for stack in stacks:
        other = first.setdefault(stack.spec.name, stack.file)
        if other != stack.file:
            problems.append(
                Problem(
                    "source.stack.duplicate",
                    f'{other} and {stack.file} are both the stack "{stack.spec.name}"',
                    position=stack.sources.position("name") or Position(stack.file),
                    hint="give one of them another name with a top-level `name:`",
                )
            )
    return tuple(problems)
