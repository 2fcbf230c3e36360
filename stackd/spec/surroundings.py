"""What a stack's meaning depends on beside the text of its files: where they stand, and what is set outside of them."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from stackd.spec.files import Files


@dataclass(frozen=True, slots=True)
class FileText:
    """One file: its text, and its path as errors shall show it."""

    text: bytes
    file: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`file` is the path of the (first) stack file as errors shall show it; `name` names the stack where the file itself
    doesn't. All relative paths start from the folder that `files` reads in, the project's, which errors show as `folder`
    (None: the folder of `file`).

    `environment` is what expressions and bare environment keys are looked up in, and has the active profiles in
    COMPOSE_PROFILES, beside `profiles`. What it lacks is taken from `variable_files`, or where that is None from the file
    `.env` of the project's folder, if there is one.
    """

    file: str
    name: str | None
    files: Files
    environment: Mapping[str, str]
    variable_files: Sequence[FileText] | None = None
    profiles: Set[str] = frozenset()
    folder: str | None = None

    def shown(self, path: str) -> str:
        """How errors show a file that is at `path`, seen from the project's folder."""
        folder = posixpath.dirname(self.file) if self.folder is None else self.folder
        return posixpath.normpath(posixpath.join(folder, path))
