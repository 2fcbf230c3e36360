"""Small changes made by a program in the modules that decide, and which of them the tests notice.

    python tests/mutants/generated.py --seed 1 --count 60

draws mutants with a seed, one changed place each, in a copy of the package, and runs on each the unit and property tests that
are about such modules, then a few histories. What survives is printed with its place: either no test looks there, or it
changes nothing. With --first 25 a run that was interrupted after the 24th goes on; --only restart draws in that module alone.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[2]

SERVICES = ("update.py", "rollout.py", "restart.py", "restart_policy.py", "evict.py")
PLACEMENT = (
    "assign.py",
    "schedule/filters.py",
    "schedule/placement.py",
    "schedule/spread.py",
    "schedule/constraints.py",
    "schedule/resources.py",
)
TARGETS = (*SERVICES, *PLACEMENT)
"""Of stackd/engine. Each half has tests that are about it; others would notice more, but no sooner."""

_UNIT, _PROPERTY = "tests/unit/engine", "tests/property/engine"

_SERVICE_TESTS = (
    f"{_UNIT}/test_update.py",
    f"{_UNIT}/test_progress.py",
    f"{_UNIT}/test_restart.py",
    f"{_UNIT}/test_drain.py",
    f"{_UNIT}/test_dropped_successors.py",
    f"{_UNIT}/test_orchestrate.py",
    f"{_UNIT}/test_containment.py",
    f"{_UNIT}/test_jobs.py",
    f"{_UNIT}/test_order.py",
    f"{_UNIT}/test_rebalance.py",
    f"{_UNIT}/test_scheduling.py",
    f"{_UNIT}/test_step.py",
    f"{_UNIT}/test_cost_of_a_step.py",
    f"{_PROPERTY}/test_mixtures.py",
    f"{_PROPERTY}/test_decisions.py",
)
_PLACEMENT_TESTS = (
    f"{_UNIT}/schedule",
    f"{_UNIT}/test_scheduling.py",
    f"{_UNIT}/test_update.py",
    f"{_UNIT}/test_explain.py",
    f"{_UNIT}/test_cost_of_a_step.py",
    f"{_PROPERTY}/test_scheduling_properties.py",
    f"{_PROPERTY}/test_placement_properties.py",
    f"{_PROPERTY}/test_accounts_properties.py",
    f"{_PROPERTY}/test_decisions.py",
)
HISTORIES = 8
CPU_SECONDS = 240
"""A mutant that needs more than this is killed, and counts as noticed: it hangs."""

_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """`number` is the place's number in the file's order."""

    file: str
    number: int
    line: int

    def __str__(self) -> str:
        """The statement before and after."""
        tree = ast.parse(_path(ROOT, self.file).read_text())
        pairs = zip(_unparsed(tree, -1), _unparsed(tree, self.number), strict=False)
        before, after = next(((old, new) for old, new in pairs if old != new), ("", ""))
        return f"{self.file}:{self.line}  {before.strip()}  ->  {after.strip()}"


class _Places:
    """Goes through the places of a tree that can be changed, and changes the one with the wanted number."""

    def __init__(self, wanted: int = -1) -> None:
        self.found: list[ast.AST] = []
        self._wanted = wanted

    def _is_it(self, node: ast.AST) -> bool:
        self.found.append(node)
        return len(self.found) - 1 == self._wanted

    def visit(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            self.visit(child)
        match node:
            case ast.Compare():
                for at, operator in enumerate(node.ops):
                    if type(operator) in _SWAPPED and self._is_it(node):
                        node.ops[at] = _SWAPPED[type(operator)]()  # type: ignore[call-overload]
            case ast.BoolOp() | ast.BinOp():
                if type(node.op) in _SWAPPED and self._is_it(node):
                    node.op = _SWAPPED[type(node.op)]()  # type: ignore[assignment]
            case ast.UnaryOp(op=ast.Not()):
                if self._is_it(node):
                    node.operand = ast.UnaryOp(op=ast.Not(), operand=node.operand)
            case ast.Constant(value=int()) if not isinstance(node.value, bool):
                if self._is_it(node):
                    node.value += 1
            case ast.FunctionDef() | ast.If() | ast.For() | ast.While():
                self._statements(node.body)
            case _:
                pass

    def _statements(self, body: list[ast.stmt]) -> None:
        """A call for its effect, a `continue`, or an early return is left out."""
        for at, statement in enumerate(body):
            is_call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            is_early = isinstance(statement, ast.Return | ast.Continue) and len(body) == 1
            if (is_call or is_early) and self._is_it(statement):
                body[at] = ast.copy_location(ast.Pass(), statement)


def mutants() -> list[Mutant]:
    """All there are."""
    return [mutant for file in TARGETS if _path(ROOT, file).exists() for mutant in _mutants_of(file)]


def _mutants_of(file: str) -> Iterator[Mutant]:
    places = _Places()
    places.visit(ast.parse(_path(ROOT, file).read_text()))
    for number, node in enumerate(places.found):
        yield Mutant(file, number, getattr(node, "lineno", 0))


def _unparsed(tree: ast.Module, number: int) -> list[str]:
    changed = copy.deepcopy(tree)
    _Places(number).visit(changed)
    return ast.unparse(ast.fix_missing_locations(changed)).splitlines()


def _path(root: Path, file: str) -> Path:
    return root / "stackd" / "engine" / file


def verdict(mutant: Mutant, copied: Path) -> str:
    """Who notices the mutant: `tests`, `histories`, or nobody: "". `copied` is a copy of the project to change."""
    path = _path(copied, mutant.file)
    right = path.read_text()
    path.write_text("\n".join(_unparsed(ast.parse(right), mutant.number)) + "\n")
    try:
        return _noticed(copied, _PLACEMENT_TESTS if mutant.file in PLACEMENT else _SERVICE_TESTS)
    finally:
        path.write_text(right)


def _noticed(copied: Path, tests: tuple[str, ...]) -> str:
    if _fails(copied, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--hypothesis-profile=mutants", *tests):
        return "tests"
    if _fails(copied, "-m", "stackd.simulation", "--count", str(HISTORIES), "--processes", "1"):
        return "histories"
    return ""


def _fails(copied: Path, *arguments: str) -> bool:
    environment = {**os.environ, "PYTHONPATH": str(copied), "CI": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    limited = ("prlimit", f"--cpu={CPU_SECONDS}", sys.executable, *arguments)
    return subprocess.run(limited, cwd=copied, env=environment, capture_output=True, check=False).returncode != 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=60, help="0 for all")
    parser.add_argument("--first", type=int, default=1, help="of those drawn, the one to begin with")
    parser.add_argument("--only", default="", help="modules whose name contains this")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    every = [mutant for mutant in mutants() if options.only in mutant.file]
    drawn = random.Random(options.seed).sample(every, min(options.count or len(every), len(every)))
    chosen = drawn[options.first - 1 :]
    verdicts = _verdicts(chosen, options.processes)
    print(f"seed {options.seed}: {len(chosen)} of {len(every)} mutants")
    for file in TARGETS:
        of_file = Counter(verdict for mutant, verdict in zip(chosen, verdicts, strict=True) if mutant.file == file)
        noticed = of_file["tests"] + of_file["histories"]
        print(f"{file:<24} {of_file.total():>3} mutants, {noticed:>3} noticed ({of_file['histories']} by histories only)")
    survivors = [mutant for mutant, found in zip(chosen, verdicts, strict=True) if not found]
    noticed = len(chosen) - len(survivors)
    print(f"noticed: {noticed} of {len(chosen)} ({noticed / len(chosen):.0%}); survivors:")
    for one in survivors:
        print(f"  {one}")
    return 0


def _verdicts(chosen: list[Mutant], processes: int) -> list[str]:
    """One copy of the project per process, each used for one mutant at a time. What fails without any change can't tell."""
    copies: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="stackd-mutants-") as directory, ThreadPoolExecutor(processes) as pool:
        for number in range(processes):
            copies.put(_copy(Path(directory) / str(number)))
        for tests in (_SERVICE_TESTS, _PLACEMENT_TESTS):
            if found := pool.submit(_noticed, Path(directory) / "0", tests).result():
                raise SystemExit(f"the {found} fail without any change")

        def judge(mutant: Mutant) -> str:
            copied = copies.get()
            try:
                found = verdict(mutant, copied)
            finally:
                copies.put(copied)
            print(f"{found or 'SURVIVED':<10} {mutant}", flush=True)
            return found

        return list(pool.map(judge, chosen))


def _copy(to: Path) -> Path:
    for name in ("stackd", "tests", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to / name)
    return to


if __name__ == "__main__":
    sys.exit(main())
