"""Counts which branches of the engine's decisions are taken, by name and not by line.

The functions of a module get counting bodies, in place: whoever has imported them runs these from then on. Each branch of
an `if` or `match` is named after its function and its condition, so the names survive an edit elsewhere. Meant for
histories and their table of coverage; nothing else is run with it.
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from types import CodeType, FunctionType, ModuleType

_COUNTS = "_branch_counts"


class Branches:
    """The branches of some modules. `counts` says how often each was taken, `names` which there are."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.names: list[str] = []

    def follow(self, module: ModuleType) -> None:
        """Count the branches of `module` from now on."""
        tree = ast.parse(inspect.getsource(module))
        marker = _Marker(module.__name__.rpartition(".")[2])
        marked = ast.fix_missing_locations(marker.visit(tree))
        self.names += marker.names
        module.__dict__[_COUNTS] = self.counts
        codes = {code.co_qualname: code for code in _codes_in(compile(marked, module.__file__ or "", "exec"))}
        for function in _functions_of(module):
            if code := codes.get(function.__qualname__):
                function.__code__ = code


class _Marker(ast.NodeTransformer):
    """Puts a count at the start of each branch."""

    def __init__(self, module: str) -> None:
        self.names: list[str] = []
        self._where = [module]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._where.append(node.name)
        self.generic_visit(node)
        self._where.pop()
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        condition = ast.unparse(node.test)
        self.generic_visit(node)
        node.body.insert(0, self._count(condition))
        node.orelse.insert(0, self._count(f"not ({condition})"))
        return node

    def visit_Match(self, node: ast.Match) -> ast.AST:
        subject = ast.unparse(node.subject)
        self.generic_visit(node)
        for case in node.cases:
            guard = f" if {ast.unparse(case.guard)}" if case.guard else ""
            if not _is_impossible(case):
                case.body.insert(0, self._count(f"{subject} is {ast.unparse(case.pattern)}{guard}"))
        return node

    def _count(self, condition: str) -> ast.stmt:
        name = f"{'.'.join(self._where)}: {condition}"
        self.names.append(name)
        return ast.parse(f"{_COUNTS}[{name!r}] += 1").body[0]


def _is_impossible(case: ast.match_case) -> bool:
    """Whether the case only tells the type checker that there are no others."""
    return "assert_never" in ast.unparse(case.body[-1])


def _codes_in(code: CodeType) -> list[CodeType]:
    found = [code]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found += _codes_in(constant)
    return found


def _functions_of(module: ModuleType) -> list[FunctionType]:
    """The functions and methods that the module itself defines."""
    found: list[FunctionType] = []
    for value in vars(module).values():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, FunctionType):
            found.append(value)
        elif isinstance(value, type):
            members = [getattr(one, "fget", one) for one in vars(value).values()]
            found += [one for one in members if isinstance(one, FunctionType)]
    return found
