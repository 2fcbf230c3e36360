"""Which files of a source are stack files, and what their stacks are called. Pure: paths in, stack files out.

The rule, told to users in docs/sources.md:

- every `*.yaml` or `*.yml` directly in the source's root is a stack, named after the file;
- `stack.yaml`, `compose.yaml` and `docker-compose.yaml` (or `.yml`) are stacks in the root and in any folder below it,
  named after their folder;
- hidden files and folders don't count, and a top-level `name:` in the file wins over either name.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from stackd.base.errors import Position, Problem

SUFFIXES = (".yaml", ".yml")
_NAMED_AFTER_FOLDER = ("stack", "compose", "docker-compose")


@dataclass(frozen=True, slots=True)
class StackFile:
    """A stack file by its path from the source's root; `name` is the stack's unless the file says otherwise."""

    path: str
    name: str

    @property
    def folder(self) -> str:
        """The folder the file lies in, "" for the root."""
        return posixpath.dirname(self.path)


def may_be_stack_file(name: str) -> bool:
    """Whether a file called `name` can be a stack file at all: what a walk need not look at otherwise."""
    return name.endswith(SUFFIXES) and not name.startswith(".")


def find_stack_files(paths: Iterable[str], root_name: str) -> tuple[tuple[StackFile, ...], tuple[Problem, ...]]:
    """The stack files among `paths` (relative to the root, `/` between parts), ordered by path.

    `root_name` names stacks whose folder is the root. A folder with two files that would both be its stack is a problem:
    to take one and pass over the other in silence would be a guess."""
    found: list[StackFile] = []
    problems: list[Problem] = []
    of_folder: dict[str, str] = {}
    for path in sorted(paths):
        folder, file = posixpath.split(path)
        stem, suffix = posixpath.splitext(file)
        if suffix not in SUFFIXES or any(part.startswith(".") for part in path.split("/")):
            continue
        if not path.isprintable():
            problems.append(Problem("source.path.bad", f"{path!a} has characters in its name that can't be shown"))
        elif stem in _NAMED_AFTER_FOLDER:
            if folder in of_folder:
                problems.append(_ambiguous(of_folder[folder], path))
                continue
            of_folder[folder] = path
            found.append(StackFile(path, posixpath.basename(folder) or root_name))
        elif not folder:
            found.append(StackFile(path, stem))
    return tuple(found), tuple(problems)


def _ambiguous(first: str, second: str) -> Problem:
    return Problem(
        "source.stack.ambiguous",
        f"{first} and {second} would both be the stack of their folder",
        position=Position(second),
        hint="keep one of them, or move one to a folder of its own",
    )
