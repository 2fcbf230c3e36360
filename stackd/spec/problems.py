"""Gathers what is wrong with a stack file, so that one pass tells everything.

Order is the file's order. A fault in an anchored node is one fault, however many aliases lead to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from stackd.base.errors import Position, Problem, SpecErrors, StackdError

MAX_SHOWN = 50
"""More errors than this help nobody; the last line says how many are left out."""

MAX_KEPT = 2000
"""A large file of nothing but mistakes must not fill the memory with their descriptions."""


class Problems:
    """A growing list of findings; errors and warnings."""

    def __init__(self) -> None:
        self._kept: dict[object, Problem] = {}
        self._left_out = 0

    def error(self, code: str, message: str, position: Position | None = None, hint: str | None = None) -> None:
        self._add(Problem(code, message, position, hint))

    def warning(self, code: str, message: str, position: Position | None = None, hint: str | None = None) -> None:
        self._add(Problem(code, message, position, hint, severity="warning"))

    def caught(self, error: StackdError, position: Position | None) -> None:
        """An error that a parser of a single text raised, which knows no place."""
        self.error(error.code, error.message, error.position or position, error.hint)

    def _add(self, problem: Problem) -> None:
        place = problem.position
        identity = (
            (problem.code, place.file, place.line, place.column) if place and place.line else (problem.code, problem.message)
        )
        if identity in self._kept:
            return
        if len(self._kept) < MAX_KEPT:
            self._kept[identity] = problem
        else:
            self._left_out += 1

    @property
    def codes(self) -> frozenset[str]:
        """The codes of all errors so far."""
        return frozenset(problem.code for problem in self._kept.values() if problem.severity == "error")

    def warnings(self) -> tuple[Problem, ...]:
        return _in_file_order(problem for problem in self._kept.values() if problem.severity == "warning")

    def raise_errors(self) -> None:
        """Raises SpecErrors with the first fifty errors, if there are any."""
        errors = _in_file_order(problem for problem in self._kept.values() if problem.severity == "error")
        if not errors:
            return
        unseen = len(errors) - MAX_SHOWN + self._left_out
        if unseen > 0:
            errors = (*errors[:MAX_SHOWN], Problem("spec.more", f"{unseen} more errors are not listed"))
        raise SpecErrors(errors)


def _in_file_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=_place))


def _place(problem: Problem) -> tuple[str, int, int]:
    position = problem.position
    return (position.file, position.line, position.column) if position else ("", 0, 0)
