"""Problems as a person reads them and as programs read them. Pure text; whether it is coloured is the terminal's affair.

stacks/shop/stack.yaml:6:7: error[spec.key.unknown]: unknown key "replcas" under services.web.deploy
   6 |       replcas: 3
     |       ^^^^^^^  did you mean "replicas"?
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from stackd.base.errors import Position, Problem

_NUMBER_WIDTH = 4
_WINDOW = 120
"""Characters of a long line that are shown around the place."""


def format_problems(problems: Iterable[Problem]) -> str:
    """All problems, one after the other; no line end at the end."""
    return "\n".join(format_problem(problem) for problem in problems)


def format_problem(problem: Problem) -> str:
    """The sentence with its place, the line with the place underlined, and the hint."""
    where = f"{problem.position}: " if problem.position else ""
    lines = [f"{where}{problem.severity}[{problem.code}]: {problem.message}"]
    position = problem.position
    if position and position.line and position.text.strip():
        lines += _excerpt(position, problem.hint)
    elif problem.hint:
        lines.append(f"{' ' * _NUMBER_WIDTH} = {problem.hint}")
    return "\n".join(lines)


def problem_record(problem: Problem) -> dict[str, str | int]:
    """One problem for JSON; what it lacks is "" or 0."""
    position = problem.position or Position(file="")
    return {
        "file": position.file,
        "line": position.line,
        "column": position.column,
        "length": position.length,
        "severity": problem.severity,
        "code": problem.code,
        "message": problem.message,
        "hint": problem.hint or "",
        "text": position.text,
    }


def _excerpt(position: Position, hint: str | None) -> list[str]:
    text, column = _window(position)
    length = max(1, min(position.length, len(text) - column + 1))
    margin = "".join(_blank(character) for character in text[: column - 1])
    marks = "^" * max(1, sum(_width(character) for character in text[column - 1 : column - 1 + length]))
    underline = f"{margin}{marks}" + (f"  {hint}" if hint else "")
    return [
        f"{position.line:>{_NUMBER_WIDTH}} | {text}",
        f"{' ' * _NUMBER_WIDTH} | {underline}",
    ]


def _window(position: Position) -> tuple[str, int]:
    """The text to show and the column in it, counted from 1; of a long line only the part around the place."""
    text, column = position.text, position.column
    if len(text) <= _WINDOW:
        return text, min(column, len(text) + 1)
    start = max(0, min(column - _WINDOW // 2, len(text) - _WINDOW))
    return text[start : start + _WINDOW], min(column - start, _WINDOW + 1)


def _blank(character: str) -> str:
    """What stands below `character` so that the marks come under the right one: a tab for a tab, two for a wide one."""
    return "\t" if character == "\t" else " " * _width(character)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
