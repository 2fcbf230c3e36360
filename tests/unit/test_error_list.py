"""docs/errors.md lists exactly the error codes that the program can raise or store.

The codes are read from the source, not by running it. The rule that makes this possible: whatever takes an error code (an
error class, a record, a function that builds one) calls that parameter or field `code`.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import stackd

SOURCE = Path(stackd.__file__).parent
DOCUMENT = SOURCE.parent / "docs" / "errors.md"

CODE = re.compile(r"[a-z]+(\.[a-z][a-z_]*){1,3}")
LISTED = re.compile(r"^\| `([a-z._]+)` \|", re.MULTILINE)

NOT_THE_PROGRAM = {"simulation"}
"""Packages whose errors nobody meets outside of the tests."""


@functools.cache
def trees() -> dict[Path, ast.Module]:
    paths = [path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] not in NOT_THE_PROGRAM]
    return {path: ast.parse(path.read_text()) for path in sorted(paths)}


@functools.cache
def takers() -> dict[str, set[int]]:
    """What takes a code, by name: the positions at which callers write it (apart from the keyword `code`)."""
    modules = trees().values()
    found: dict[str, set[int]] = {}
    classes = [node for module in modules for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
    for module in modules:
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef) and node.name != "__init__":
                _note(found, node.name, _parameters(node))
    for node in classes:
        _note(found, node.name, _fields(node))
    for _ in classes:  # subclasses take what their bases take, however deep
        known = len(found)
        for node in classes:
            bases = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id in found]
            if bases and _constructor(node) is None:
                found.setdefault(node.name, found[bases[0]])
        if len(found) == known:
            break
    return found


def _note(found: dict[str, set[int]], name: str, parameters: list[str]) -> None:
    if "code" in parameters:
        found.setdefault(name, set()).add(parameters.index("code"))


def _parameters(function: ast.FunctionDef) -> list[str]:
    names = [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)


def _fields(node: ast.ClassDef) -> list[str]:
    constructor = _constructor(node)
    if constructor is not None:
        return _parameters(constructor)
    return [part.target.id for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]


def codes_in(module: ast.Module) -> Iterator[str]:
    """Every code that is written in the module where a code is taken."""
    constants = {
        target.id: node.value
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and any(isinstance(it, ast.Name) and it.id == "code" for it in node.targets):
            yield from _literals(node.value, constants)
        if isinstance(node, ast.For):
            for value in _loop_values(node):
                yield from _literals(value, constants)
        if isinstance(node, ast.Call):
            for argument in _code_arguments(node):
                yield from _literals(argument, constants)


def _loop_values(loop: ast.For) -> Iterator[ast.expr]:
    """The codes of a loop such as `for state, code in ((..., "a.b"), (..., "c.d"))`."""
    if not isinstance(loop.target, ast.Tuple) or not isinstance(loop.iter, ast.Tuple):
        return
    names = [name.id for name in loop.target.elts if isinstance(name, ast.Name)]
    if "code" in names:
        yield from (row.elts[names.index("code")] for row in loop.iter.elts if isinstance(row, ast.Tuple))


def _code_arguments(call: ast.Call) -> Iterator[ast.expr]:
    yield from (keyword.value for keyword in call.keywords if keyword.arg == "code")
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            if name == "__init__":  # super().__init__ of an error with a code of its own
                yield from call.args[:1]
            yield from (call.args[position] for position in takers().get(name, ()) if position < len(call.args))


def _literals(value: ast.expr, constants: dict[str, ast.expr]) -> Iterator[str]:
    for node in ast.walk(value):
        if isinstance(node, ast.Name) and node.id in constants:
            node = constants[node.id]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
            yield node.value


@functools.cache
def codes_in_source() -> set[str]:
    return {code for module in trees().values() for code in codes_in(module)}


def computed_codes() -> Iterator[str]:
    """Where a code is put together from pieces, so that nobody could find it in the source."""
    for path, module in trees().items():
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and any(isinstance(it, ast.JoinedStr) for it in _code_arguments(node)):
                yield f"{path}:{node.lineno}"


def codes_in_document() -> list[str]:
    return LISTED.findall(DOCUMENT.read_text())


def test_every_code_of_the_program_is_listed() -> None:
    assert sorted(codes_in_source() - set(codes_in_document())) == []


def test_every_listed_code_is_one_of_the_program() -> None:
    assert sorted(set(codes_in_document()) - codes_in_source()) == []


def test_no_code_is_listed_twice() -> None:
    assert [code for code, times in Counter(codes_in_document()).items() if times > 1] == []


def test_no_code_is_put_together_from_pieces() -> None:
    assert list(computed_codes()) == []


def test_codes_are_listed_under_their_area() -> None:
    area = ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("## "):
            area = line
        if listed := LISTED.match(line):
            assert f"`{listed[1].split('.')[0]}" in area, f"{listed[1]} stands under {area}"
