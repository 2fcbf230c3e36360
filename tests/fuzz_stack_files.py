"""Fuzzing of the stack-file loader: nothing that can be in a file may raise anything but errors with a place.

    make fuzz N=200000 [SEED=1]          (or: python tests/fuzz_stack_files.py --count 200000 --seed 1)

Cases are mutations of right stacks (`mutated_stacks.py`): the examples, files with every key, and the corpus where it lies
beside the project, alone or of several files. What is accepted has a long form that means the same, and requests for the
official API. Cases run in batches in processes of their own, so that a crash of the YAML library in C is a failure of one
case and not the end of the run. A case that fails is kept as a folder, and its command printed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from stackd.base.errors import Position, Problem, SpecErrors, StackdError
from stackd.cli.yamltext import yaml_text
from stackd.spec.digest import spec_digest
from stackd.spec.docker.bodies import docker_bodies
from stackd.spec.dotenv import VARIABLES_FILE
from stackd.spec.files import DictFiles
from stackd.spec.interpolate import SECTIONS
from stackd.spec.load import LoadedDocument, load_document, load_stack
from stackd.spec.problems import Problems
from stackd.spec.render import render
from stackd.spec.report import format_problem
from stackd.spec.stack import StackSpec
from stackd.spec.surroundings import FileText, Surroundings

from mutated_stacks import STACK, Case, case, kept_case, seeds
from spec_builders import ENVIRONMENT

DIRECTORY = "/srv/shop"
OTHER_FILE = b"A=1\n"
BATCH = 1000
CASE_SECONDS = 20
"""A case that takes longer hangs: right files of this size take some milliseconds."""


class Fault(AssertionError):
    """What a case did that no case may do."""


class CaseFiles(DictFiles):
    """The files of a case, which may also be named by their absolute paths, as the long form does. All others that a stack
    names are there too, or few would be accepted."""

    def read(self, path: str) -> bytes:
        inside = path.removeprefix(f"{DIRECTORY}/")
        try:
            return super().read(inside)
        except StackdError as error:
            if error.code != "spec.file.missing" or inside == VARIABLES_FILE:
                raise
            return OTHER_FILE


def check(case: Case) -> bool:
    """Load one case; whether it was accepted. Raises Fault for anything but a stack, which its long form means as well, or
    errors with places."""
    around = Surroundings(STACK, "s", CaseFiles(case.files, directory=DIRECTORY), ENVIRONMENT)
    overrides = [FileText(case.files[path], path) for path in case.overrides]
    try:
        loaded = load_stack(case.files[STACK], around, overrides)
    except SpecErrors as errors:
        _check_problems((*errors.problems, *errors.warnings), case.files)
        return False
    _check_problems(loaded.warnings, case.files)
    document = load_document(case.files[STACK], around, overrides)
    _check_bodies(document)
    _check_long_form(document, loaded.spec)
    return True


def _check_problems(problems: Sequence[Problem], files: Mapping[str, bytes]) -> None:
    for problem in problems:
        _check_problem(problem, files)
        format_problem(problem)


def _check_problem(problem: Problem, files: Mapping[str, bytes]) -> None:
    place = problem.position
    if not problem.code.startswith("spec.") or not problem.message:
        raise Fault(f"a problem without a code or a message: {problem}")
    if problem.code == "spec.more":
        return
    if place is None or not place.file:
        raise Fault(f"a problem without a place: {problem}")
    if not place.line:
        return
    text = files.get(place.file, OTHER_FILE).decode("utf-8-sig", "replace")
    # YAML 1.1 has more line ends than 1.2; which of both a file is read as depends on what is in it.
    if not any(_has_place(lines, place) for lines in (text.splitlines(), re.split("\r\n|\r|\n", text))):
        raise Fault(f"a place outside of the file: {problem}")


def _has_place(lines: Sequence[str], place: Position) -> bool:
    return place.line <= max(len(lines), 1) and 1 <= place.column <= len("".join(lines[place.line - 1 : place.line])) + 1


def _check_bodies(loaded: LoadedDocument) -> None:
    problems = Problems()
    docker_bodies(loaded.document, loaded.around, loaded.sources, problems)


def _check_long_form(loaded: LoadedDocument, meant: StackSpec) -> None:
    """The long form of what was accepted means the same, and is its own long form."""
    around = replace(loaded.around, variable_files=())
    shown = _shown(loaded)
    text = yaml_text(_literal(shown)).encode()
    try:
        again = load_stack(text, around).spec
    except SpecErrors as error:
        if {problem.code for problem in error.problems} == {"spec.list.duplicate"}:
            return  # as with the official client, lists of two files may have an item in common
        raise Fault(f"the long form is refused: {error}") from error
    if again != meant:
        raise Fault(f"the long form means something else: {_first_difference(meant, again)}")
    if [spec_digest(each.task) for each in again.services] != [spec_digest(each.task) for each in meant.services]:
        raise Fault("equal specs have different digests")
    if _shown(load_document(text, around)) != shown:
        raise Fault("the long form has another long form")


def _shown(loaded: LoadedDocument) -> dict[str, Any]:
    return render(loaded.document, loaded.around.files.directory, loaded.around.environment)


def _literal(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its dollar signs doubled where variables are looked for; the long form has none."""
    return {name: _doubled(value) if name in SECTIONS else value for name, value in document.items()}


def _doubled(value: Any) -> Any:
    match value:
        case str():
            return value.replace("$", "$$")
        case dict():
            return {name: _doubled(item) for name, item in value.items()}
        case list() | tuple():
            return [_doubled(item) for item in value]
        case _:
            return value


def _first_difference(one: StackSpec, other: StackSpec) -> str:
    for left, right in zip(one.services, other.services, strict=False):
        if left != right:
            return f"{left!r} is not {right!r}"
    return f"{one!r} is not {other!r}"


def run_batch(seed: int, first: int, count: int, folder: Path) -> int:
    """Run cases in this process. The number of the one under way lies in `folder`, for the parent to find
    after a crash."""
    texts = seeds()
    signal.signal(signal.SIGALRM, _too_long)
    accepted = 0
    for number in range(first, first + count):
        (folder / "number").write_text(str(number))
        signal.alarm(CASE_SECONDS)
        accepted += check(case(texts, seed, number))
        signal.alarm(0)
    return accepted


def _too_long(number: int, frame: FrameType | None) -> None:
    raise Fault(f"a case took more than {CASE_SECONDS} s")


def fuzz(seed: int, count: int, processes: int = 1) -> tuple[int, list[str]]:
    """Run cases 0 to `count` of `seed`; how many were accepted as right files, and what failed."""
    with ThreadPoolExecutor(processes) as pool:
        results = list(pool.map(lambda first: _batch(seed, first, min(BATCH, count - first)), range(0, count, BATCH)))
    return sum(accepted for accepted, _ in results), [failure for _, failure in results if failure]


def _batch(seed: int, first: int, count: int) -> tuple[int, str]:
    with tempfile.TemporaryDirectory(prefix="stackd-fuzz-") as folder:
        command = [
            sys.executable,
            __file__,
            "--batch",
            folder,
            "--seed",
            str(seed),
            "--first",
            str(first),
            "--count",
            str(count),
        ]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode == 0:
            return int(ended.stdout), ""
        return 0, _failure(seed, Path(folder), ended)


def _failure(seed: int, folder: Path, ended: subprocess.CompletedProcess[str]) -> str:
    why = f"signal {-ended.returncode}" if ended.returncode < 0 else "\n".join(ended.stderr.strip().splitlines()[-6:])
    if not (folder / "number").exists():
        return f"a batch of seed {seed} didn't start: {why}"
    number = int((folder / "number").read_text())
    kept = Path(tempfile.gettempdir()) / f"stackd-fuzz-{seed}-{number}"
    shutil.rmtree(kept, ignore_errors=True)
    case(seeds(), seed, number).write(kept)
    return f"case {number} of seed {seed}, kept as {kept}: {why}\n  again: {sys.executable} {__file__} --again {kept}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz the stack-file loader.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--batch", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--again", type=Path, help="run one kept case in this process")
    return parser.parse_args()


def _lines_of(failures: Sequence[str]) -> Iterator[str]:
    yield from failures
    if not failures:
        yield "no failures"


def main() -> int:
    given = _arguments()
    if given.again:
        print("accepted" if check(kept_case(given.again)) else "refused, with places")
        return 0
    if given.batch:
        print(run_batch(given.seed, given.first, given.count, given.batch))
        return 0
    start = time.monotonic()
    accepted, failures = fuzz(given.seed, given.count, os.cpu_count() or 1)
    print(f"{given.count} cases of seed {given.seed} in {time.monotonic() - start:.0f} s, {accepted} accepted as right files")
    print("\n".join(_lines_of(failures)))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
