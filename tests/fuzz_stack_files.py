"""Fuzzing of the stack-file loader: nothing that can be in a file may raise anything but errors with a place.

    make fuzz N=200000 [SEED=1]          (or: python tests/fuzz_stack_files.py --count 200000 --seed 1)

Cases are mutations of right files: the examples, a file with every key, and the corpus where it lies beside the project.
Case k of seed s is always the same text. They run in batches in processes of their own, so that a crash of the YAML
library in C is a failure of one case and not the end of the run. A case that fails is kept as a file, and its command
printed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from stackd.base.errors import Problem, SpecErrors
from stackd.spec.digest import spec_digest
from stackd.spec.files import DictFiles
from stackd.spec.load import load_stack

from spec_builders import ENVIRONMENT, EVERY_KEY, SIDE_FILES

ROOT = Path(__file__).resolve().parent.parent
CORPUS = Path(os.environ.get("CORPUS", ROOT.parent / "shared" / "corpus" / "dev"))
BATCH = 1000
CASE_SECONDS = 20
"""A case that takes longer hangs: right files of this size take some milliseconds."""

# fmt: off
SCALARS = (
    "", "null", "~", "-1", "0", "1e999", "NaN", ".inf", "99999999999999999999", "0x10", "0o17", "08", "1_000", "true", "Yes",
    "2001-12-14", "12:30:45", '""', "' '", "{}", "[]", "{a: }", "[,]", "[[[[", "]]]]", "&a", "*a", "*web", "<<: *a",
    "${", "${}", "${X", "$$", "${X:-${Y:-${Z}}}", "${X:?}", "${é}", "$", "{{.Service.Name}}", "{{", "a" * 300, "é😀",
    "!!binary x", "!!str 1", "!foo bar", "? x", "- -", "|", ">", "|2-", '"\\x00"', '"\\u2028"', "\\", "@", "`", "%", "#",
    "k: v: w", "\u2028", "\ufeff", "\t", "\x00", "\x1b", "127.0.0.1:8080:80/tcp", "8080-8090:80-91", "1:2:3:4", "/", "..",
    "../../x", "~/x", "C:\\x", "1h1m1s1ms", "10x", "1.5.1", "64M", "node.labels.a==b", "node.role = manager", "x-", "-", ":",
)
KEYS = (
    "services", "image", "deploy", "replicas", "mode", "ports", "volumes", "networks", "configs", "secrets", "environment",
    "env_file", "healthcheck", "test", "update_config", "placement", "constraints", "resources", "limits", "x-a", "name",
    "version", "depends_on", "extends", "include", "profiles", "driver_opts", "external", "file", "target", "source", "<<",
    "ulimits", "labels",
)
# fmt: on


def seeds() -> list[str]:
    """The right files that cases are made of, in an order that doesn't depend on the machine."""
    found = [EVERY_KEY, *(path.read_text() for path in sorted((ROOT / "examples").glob("**/*.yaml")))]
    if CORPUS.is_dir():
        found += [path.read_text("utf-8", "replace") for path in sorted(CORPUS.glob("*/stack.yml"))]
    return found


def case(texts: Sequence[str], seed: int, number: int) -> bytes:
    """The text of one case."""
    rng = random.Random(f"{seed}/{number}")
    text = rng.choice(texts)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        text = rng.choices(_MUTATIONS, _WEIGHTS)[0](text, rng, texts)
    data = text.encode("utf-8", "surrogatepass")[: 64 * 1024]
    return _bytes(data, rng) if rng.random() < 0.2 else data


def _value(text: str, rng: random.Random, texts: Sequence[str]) -> str:
    """Another value behind one of the keys or dashes."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    head, separator, _ = lines[at].partition(rng.choice((": ", "- ", ":")))
    lines[at] = head + separator + rng.choice(SCALARS)
    return "\n".join(lines)


def _key(text: str, rng: random.Random, texts: Sequence[str]) -> str:
    """One key renamed, or put where it has no place."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    indent = len(lines[at]) - len(lines[at].lstrip())
    _, colon, rest = lines[at].partition(":")
    lines[at] = " " * indent + rng.choice(KEYS) + (colon or ":") + rest
    return "\n".join(lines)


def _lines(text: str, rng: random.Random, texts: Sequence[str]) -> str:
    """Lines removed, repeated or put elsewhere."""
    lines = text.split("\n")
    start = rng.randrange(len(lines))
    taken = lines[start : start + rng.randint(1, 6)]
    match rng.randrange(3):
        case 0:
            del lines[start : start + len(taken)]
        case 1:
            lines[start:start] = taken
        case _:
            del lines[start : start + len(taken)]
            target = rng.randint(0, len(lines))
            lines[target:target] = taken
    return "\n".join(lines)


def _indent(text: str, rng: random.Random, texts: Sequence[str]) -> str:
    lines = text.split("\n")
    for at in range(start := rng.randrange(len(lines)), min(len(lines), start + rng.randint(1, 5))):
        lines[at] = rng.choice((" ", "  ", "\t", "- ", "? ")) + lines[at] if rng.random() < 0.6 else lines[at][2:]
    return "\n".join(lines)


def _nest(text: str, rng: random.Random, texts: Sequence[str]) -> str:
    """Nesting, deep enough now and then to exhaust a parser that recurses."""
    depth = rng.choice((3, 20, 200, 20_000))
    opening, closing = rng.choice((("[", "]"), ("{a: ", "}"), ("- ", ""), ("${X:-", "}"), ("? ", "")))
    at = rng.randint(0, len(text))
    return text[:at] + opening * depth + closing * (depth if rng.random() < 0.5 else 0) + text[at:]


def _splice(text: str, rng: random.Random, texts: Sequence[str]) -> str:
    """The beginning of one file and the end of another."""
    other = rng.choice(texts)
    return text[: rng.randint(0, len(text))] + other[rng.randint(0, len(other)) :]


def _bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randint(0, len(changed))
        match rng.randrange(3):
            case 0:
                changed[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 4)))
            case 1:
                del changed[at : at + rng.randint(1, 4)]
            case _:
                changed[at : at + 1] = bytes([rng.randrange(256)])
    return bytes(changed)


_MUTATIONS = (_value, _key, _lines, _indent, _nest, _splice)
_WEIGHTS = (10, 4, 3, 2, 1, 1)
"""Mostly small changes: a case that is refused at its first line says little about the rest."""


class Fault(AssertionError):
    """What a case did that no case may do."""


def check(text: bytes) -> bool:
    """Load one case; whether it was accepted. Raises Fault for anything but a stack or errors with places."""
    try:
        loaded = load_stack(
            text, file="s.yaml", name="s", files=DictFiles(SIDE_FILES, directory="/srv"), environment=ENVIRONMENT
        )
    except SpecErrors as errors:
        for problem in errors.problems:
            _check_problem(problem, text)
        return False
    for problem in loaded.warnings:
        _check_problem(problem, text)
    for service in loaded.spec.services:
        spec_digest(service.task)
    return True


def _check_problem(problem: Problem, text: bytes) -> None:
    if not problem.code.startswith("spec.") or not problem.message:
        raise Fault(f"a problem without a code or a message: {problem}")
    if problem.position is None or not problem.position.file:
        raise Fault(f"a problem without a place: {problem}")
    lines = text.count(b"\n") + text.count(b"\r") + len(text.decode("utf-8", "replace").splitlines()) + 1
    if problem.position.line > lines:
        raise Fault(f"a place behind the end of the file: {problem}")


def run_batch(seed: int, first: int, count: int, folder: Path) -> int:
    """Run cases in this process. The one under way lies in `folder`, for the parent to find after a crash."""
    texts = seeds()
    signal.signal(signal.SIGALRM, _too_long)
    accepted = 0
    for number in range(first, first + count):
        text = case(texts, seed, number)
        (folder / "case").write_bytes(text)
        (folder / "number").write_text(str(number))
        signal.alarm(CASE_SECONDS)
        accepted += check(text)
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
    number = (folder / "number").read_text() if (folder / "number").exists() else "?"
    kept = Path(tempfile.gettempdir()) / f"stackd-fuzz-{seed}-{number}.yaml"
    if (folder / "case").exists():
        kept.write_bytes((folder / "case").read_bytes())
    why = f"signal {-ended.returncode}" if ended.returncode < 0 else "\n".join(ended.stderr.strip().splitlines()[-6:])
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
        print("accepted" if check(given.again.read_bytes()) else "refused, with places")
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
