"""Replaces `$VAR` and its forms in the values of a stack file, before anything is read from them.

    $VAR ${VAR}        the variable, or nothing if it isn't set (with a warning)
    ${VAR:-word}       word if the variable is unset or empty      ${VAR-word}    only if it is unset
    ${VAR:?message}    an error if it is unset or empty            ${VAR?message}
    ${VAR:+word}       word if it is set and not empty             ${VAR+word}
    $$                 a dollar sign

Words may hold further expressions. Keys are never touched, nor what stands under `x-` keys unless an alias brings it
into a service. Text that came from a variable is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as Environment
from dataclasses import dataclass

from stackd.base.errors import Position
from stackd.spec.nodes import Mapping, Node, Scalar, Sequence, shortened
from stackd.spec.problems import Problems

SECTIONS = ("name", "include", "services", "networks", "volumes", "configs", "secrets", "x-stackd")
"""The top-level keys whose values are interpolated."""

MAX_NESTING = 16
"""Levels of `${A:-${B:-...}}`; nobody can read more."""

MAX_GROWTH_CHARACTERS = 1024 * 1024
"""What all variables of one file may insert: a long variable named often would fill the memory."""

MAX_UNSET_WARNINGS = 100
"""Variables that are told to be unset, each once."""

_TOKEN = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)(?P<operator>:?[-?+])?|)|(?P<end>\})"
)


@dataclass(frozen=True, slots=True)
class _Reference:
    """One `${NAME operator word}`; `text` is how it is written."""

    name: str
    operator: str
    word: tuple[str | _Reference, ...]
    text: str


_Template = tuple[str | _Reference, ...]


@dataclass(eq=False)
class _Fault(Exception):
    """What is wrong with `expression`, the piece of text to point at."""

    code: str
    message: str
    expression: str
    hint: str | None = None


def interpolate(root: Node, environment: Environment[str, str], problems: Problems) -> None:
    """Replaces the expressions in the interpolated sections of `root`, in place; reports what can't be."""
    if not isinstance(root, Mapping):
        return
    interpolation = Interpolation(environment, problems)
    for section in SECTIONS:
        if section in root.entries:
            interpolation.visit(root.entries[section].value)


class Interpolation:
    """One walk over a file, a piece at a time. A node that several aliases share is visited once."""

    def __init__(self, environment: Environment[str, str], problems: Problems) -> None:
        self._environment = environment
        self._problems = problems
        self._seen: dict[int, Node] = {}
        self._unset: set[str] = set()
        self._room = MAX_GROWTH_CHARACTERS

    def visit(self, node: Node) -> None:
        match node:
            case Scalar(value=str() as text):
                if "$" in text and not node.interpolated:
                    self._replace(node, text)
            case Sequence():
                if self._is_new(node):
                    for item in node.items:
                        self.visit(item)
            case Mapping():
                if self._is_new(node):
                    for entry in node.entries.values():
                        self.visit(entry.value)

    def _is_new(self, node: Node) -> bool:
        """By identity; the nodes are kept, or another one could come to have the identity of one that is gone."""
        new = id(node) not in self._seen
        self._seen[id(node)] = node
        return new

    def _replace(self, scalar: Scalar, text: str) -> None:
        scalar.interpolated = True
        try:
            template, _ = _parse(text, 0, 0)
            scalar.value = self._expand(template, scalar)
        except _Fault as fault:
            scalar.broken = True
            self._problems.error(fault.code, fault.message, _place(scalar, fault.expression), fault.hint)

    def _expand(self, template: _Template, scalar: Scalar) -> str:
        pieces = [part if isinstance(part, str) else self._value(part, scalar) for part in template]
        return "".join(pieces)

    def _value(self, reference: _Reference, scalar: Scalar) -> str:
        value = self._environment.get(reference.name)
        given = bool(value) if reference.operator.startswith(":") else value is not None
        operator = reference.operator[-1:]
        if operator == "+":
            return self._expand(reference.word, scalar) if given else ""
        if operator == "-" and not given:
            return self._expand(reference.word, scalar)
        if operator == "?" and not given:
            self._required(reference, scalar)
        if operator == "" and value is None:
            self._warn_of_unset(reference, scalar)
        return self._inserted(value or "", reference)

    def _warn_of_unset(self, reference: _Reference, scalar: Scalar) -> None:
        if reference.name in self._unset or len(self._unset) >= MAX_UNSET_WARNINGS:
            return
        self._unset.add(reference.name)
        message = f'the variable "{shortened(reference.name)}" is not set; it is taken as empty'
        hint = f"give it a default: ${{{shortened(reference.name)}:-value}}"
        self._problems.warning("spec.variable.unset", message, _place(scalar, reference.text), hint)

    def _required(self, reference: _Reference, scalar: Scalar) -> None:
        said = self._expand(reference.word, scalar).strip()
        message = f'the variable "{shortened(reference.name)}" must be set' + (f": {shortened(said)}" if said else "")
        raise _Fault("spec.variable.required", message, reference.text)

    def _inserted(self, value: str, reference: _Reference) -> str:
        self._room -= len(value)
        if self._room < 0:
            message = f"variables insert more than {MAX_GROWTH_CHARACTERS} characters into this file"
            raise _Fault("spec.limit.size", message, reference.text)
        return value


def _parse(text: str, start: int, depth: int) -> tuple[_Template, int]:
    """The template that begins at `start`, and where it ends: at the `}` of the expression around it, or with the text."""
    parts: list[str | _Reference] = []
    while found := _TOKEN.search(text, start):
        if found["end"] and depth == 0:
            parts.append(text[start : found.end()])
            start = found.end()
            continue
        parts.append(text[start : found.start()])
        start = found.end()
        if found["end"]:
            return tuple(parts), start
        if found["dollar"]:
            parts.append("$")
        elif found["name"]:
            parts.append(_Reference(found["name"], "", (), found[0]))
        elif found["braced"]:
            reference, start = _braced(text, found, depth)
            parts.append(reference)
        else:
            raise _Fault(
                "spec.variable.syntax",
                f'"{shortened(text[found.start() : found.start() + 12])}" is no variable',
                "$",
                "write $$ for a dollar sign",
            )
    if depth:
        raise _Fault("spec.variable.syntax", 'a "${" is not closed', "${", "add the missing }")
    return (*parts, text[start:]), len(text)


def _braced(text: str, found: re.Match[str], depth: int) -> tuple[_Reference, int]:
    opening = found[0]
    if depth >= MAX_NESTING:
        raise _Fault("spec.variable.syntax", f"expressions are nested more than {MAX_NESTING} levels deep", opening)
    if not found["operator"] and text[found.end() : found.end() + 1] != "}":
        message = f'"{shortened(text[found.start() : found.start() + 24])}" is not an expression'
        raise _Fault(
            "spec.variable.syntax",
            message,
            opening,
            "the forms are ${NAME}, ${NAME:-default}, ${NAME:?message} and ${NAME:+value}",
        )
    word, end = _parse(text, found.end(), depth + 1)
    return _Reference(found["braced"], found["operator"] or "", word, text[found.start() : end]), end


def _place(scalar: Scalar, expression: str) -> Position:
    """Where `expression` stands within the scalar; the scalar itself where quoting hides it (an escape, a fold)."""
    lines = scalar.source.lines
    for line in range(scalar.line, min(scalar.end_line + 1, len(lines))):
        column = lines[line].find(expression, scalar.column if line == scalar.line else 0)
        if column >= 0:
            return scalar.source.position(line, column, len(expression))
    return scalar.position()
