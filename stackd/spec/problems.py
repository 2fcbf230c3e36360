"""Gathers what is wrong with a stack file, so that one pass tells everything.

Order is the file's order. A fault in an anchored node is one fault, however many aliases lead to it. Faults of form leave
no document; faults of meaning leave one that can be shown, but not deployed.
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
        self._of_meaning: set[object] = set()
        self._left_out = 0

    def error(self, code: str, message: str, position: Position | None = None, hint: str | None = None) -> None:
        """A fault of form: nobody can tell what the file says there."""
        self._add(Problem(code, message, position, hint))

    def meaning_error(self, code: str, message: str, position: Position | None = None, hint: str | None = None) -> None:
        """What the file says is clear, and can't be done."""
        identity = self._add(Problem(code, message, position, hint))
        if identity is not None:
            self._of_meaning.add(identity)

    def warning(self, code: str, message: str, position: Position | None = None, hint: str | None = None) -> None:
        self._add(Problem(code, message, position, hint, severity="warning"))

    def caught(self, error: StackdError, position: Position | None) -> None:
        """An error that a parser of a single text raised, which knows no place."""
        self.error(error.code, error.message, error.position or position, error.hint)

    def _add(self, problem: Problem) -> object | None:
        """The problem's identity; None where it is known already, or there is no room for it."""
        place = problem.position
        identity = (
            (problem.code, place.file, place.line, place.column) if place and place.line else (problem.code, problem.message)
        )
        if identity in self._kept:
            return None
        if len(self._kept) >= MAX_KEPT:
            self._left_out += 1
            return None
        self._kept[identity] = problem
        return identity

    @property
    def codes(self) -> frozenset[str]:
        """The codes of all errors so far."""
        return frozenset(problem.code for problem in self._kept.values() if problem.severity == "error")

    @property
    def form_is_wrong(self) -> bool:
        """Whether there is an error of form, so that something may be missing from the document that its file has."""
        form = (problem for identity, problem in self._kept.items() if identity not in self._of_meaning)
        return any(problem.severity == "error" for problem in form)

    def warnings(self) -> tuple[Problem, ...]:
        return in_file_order(problem for problem in self._kept.values() if problem.severity == "warning")

    def raise_errors(self, *, with_warnings: bool = False) -> None:
        """Raises SpecErrors with the first fifty errors, if there are any."""
        errors = (problem for problem in self._kept.values() if problem.severity == "error")
        self._raise(errors, self.warnings() if with_warnings else ())

    def raise_form_errors(self) -> None:
        """Raises SpecErrors if the file's form is wrong, whatever it means."""
        form = (problem for identity, problem in self._kept.items() if identity not in self._of_meaning)
        self._raise(problem for problem in form if problem.severity == "error")

    def _raise(self, found: Iterable[Problem], warnings: Iterable[Problem] = ()) -> None:
        errors = in_file_order(found)
        if not errors:
            return
        unseen = len(errors) - MAX_SHOWN + self._left_out
        if unseen > 0:
            errors = (*errors[:MAX_SHOWN], Problem("spec.more", f"{unseen} more errors are not listed"))
        raise SpecErrors(errors, warnings)


def in_file_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """What is said of no place comes last."""
    return tuple(sorted(problems, key=_place))


def _place(problem: Problem) -> tuple[str, int, int]:
    position = problem.position
    return (position.file, position.line, position.column) if position else ("\U0010ffff", 0, 0)
