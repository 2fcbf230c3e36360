"""Problems of things that are known by their path in the file only: shown at the place that the source map has for it."""

from __future__ import annotations

from stackd.spec.document import Said
from stackd.spec.problems import Problems
from stackd.spec.sourcemap import SourceMap


class PlacedProblems:
    """Reports what a document means wrongly, after the tree that it was read from has been left behind."""

    def __init__(self, problems: Problems, sources: SourceMap) -> None:
        self._problems = problems
        self._sources = sources

    @property
    def form_is_wrong(self) -> bool:
        return self._problems.form_is_wrong

    def error(self, code: str, message: str, path: str, hint: str | None = None) -> None:
        self._problems.meaning_error(code, message, self._sources.position(path), hint)

    def key_error(self, code: str, message: str, path: str, hint: str | None = None) -> None:
        """Shown at the key: something is missing below it, or it shouldn't be there at all. Where nothing of the path is
        written, the file is shown."""
        self._problems.meaning_error(code, message, self._sources.key(path) or self._sources.start(), hint)

    def error_at(self, code: str, message: str, said: Said[object], hint: str | None = None) -> None:
        self._problems.meaning_error(code, message, said.node.position(), hint)

    def warning(self, code: str, message: str, path: str, hint: str | None = None) -> None:
        self._problems.warning(code, message, self._sources.position(path), hint)

    def key_warning(self, code: str, message: str, path: str, hint: str | None = None) -> None:
        self._problems.warning(code, message, self._sources.key(path), hint)

    def place(self, path: str) -> tuple[str, int]:
        """Where a value stands, to go through several in the order in which a person reads them."""
        position = self._sources.key(path)
        return (position.file, position.line) if position else ("", 0)

    def line(self, said: Said[object]) -> int:
        """The line of a value, to name it in another message."""
        return said.node.line + 1
