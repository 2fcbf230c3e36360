"""Cases for fuzzing the stack-file loader: right stacks with damage, of one file or of several that belong together.

Case k of seed s is always the same. Most changes are small: a case that is refused at its first line says little about
the rest.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spec_builders import EVERY_KEY, FURTHER_KEYS, SIDE_FILES

ROOT = Path(__file__).resolve().parent.parent
CORPUS = Path(os.environ.get("CORPUS") or ROOT.parent / "shared" / "corpus" / "dev")
MAX_BYTES = 64 * 1024

STACK, OVERRIDE, PART = "stack.yaml", "override.yaml", "parts/part.yml"

# fmt: off
SCALARS = (
    "", "null", "~", "-1", "0", "1e999", "NaN", ".inf", "99999999999999999999", "0x10", "0o17", "08", "1_000", "true", "Yes",
    "2001-12-14", "12:30:45", '""', "' '", "{}", "[]", "{a: }", "[,]", "[[[[", "]]]]", "&a", "*a", "*web", "<<: *a",
    "${", "${}", "${X", "$$", "${X:-${Y:-${Z}}}", "${X:?}", "${é}", "$", "{{.Service.Name}}", "{{", "a" * 300, "é😀",
    "!!binary x", "!!str 1", "!foo bar", "? x", "- -", "|", ">", "|2-", '"\\x00"', '"\\u2028"', "\\", "@", "`", "%", "#",
    "k: v: w", "\u2028", "\ufeff", "\t", "\x00", "\x1b", "127.0.0.1:8080:80/tcp", "8080-8090:80-91", "1:2:3:4", "/", "..",
    "../../x", "~/x", "C:\\x", "1h1m1s1ms", "10x", "1.5.1", "64M", "node.labels.a==b", "node.role = manager", "x-", "-", ":",
    "!reset null", "!override [a]",
)
KEYS = (
    "services", "image", "deploy", "replicas", "mode", "ports", "volumes", "networks", "configs", "secrets", "environment",
    "env_file", "healthcheck", "test", "update_config", "placement", "constraints", "resources", "limits", "x-a", "name",
    "version", "depends_on", "extends", "include", "profiles", "driver_opts", "external", "file", "target", "source", "<<",
    "ulimits", "labels",
)
VARIABLES = (
    "TAG=1.4\nNAME='a b'  # c\nexport PORT: 8080\nLONG=\"x\ny\"\nOTHER=${TAG}-$NAME\n",
    "IMAGE=nginx\nEMPTY=\nHOME\nCOMPOSE_PROFILES=all,debug\nX=${Y:-${Z:-z}}\nTAG=\"${TAG:?say}\"\n",
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Case:
    """A stack file with the files beside it, by path; `overrides` are those that are put on top."""

    files: Mapping[str, bytes]
    overrides: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        for path, data in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)


def kept_case(folder: Path) -> Case:
    """A case that was written to a folder."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return Case(files, (OVERRIDE,) if OVERRIDE in files else ())


def seeds() -> list[str]:
    """The right files that cases are made of, in an order that doesn't depend on the machine."""
    found = [EVERY_KEY, FURTHER_KEYS, *(path.read_text() for path in sorted((ROOT / "examples").glob("**/*.yaml")))]
    if CORPUS.is_dir():
        found += [path.read_text("utf-8", "replace") for path in sorted(CORPUS.glob("*/stack.yml"))]
    return found


def case(texts: Sequence[str], seed: int, number: int) -> Case:
    rng = random.Random(f"{seed}/{number}")
    files = dict(SIDE_FILES)
    if rng.random() < 0.2:
        files[".env"] = _mutated(rng.choice(VARIABLES), rng, VARIABLES)
    if rng.random() < 0.1:
        files["app.env"] = _mutated("A=1\n# c\nB= 2 \nHOME\n", rng, VARIABLES)
    text, overrides = rng.choice(texts), ()
    match rng.choices(("alone", "override", "include", "extends"), (7, 1, 1, 1))[0]:
        case "override":
            overrides = (OVERRIDE,)
            files[OVERRIDE] = _mutated(text if rng.random() < 0.5 else rng.choice(texts), rng, texts)
        case "include":
            files[PART] = _mutated(rng.choice(texts), rng, texts)
            text = f"include: [{PART}]\n{text}"
        case "extends":
            files[PART] = _mutated(text, rng, texts)
            text = _extending(text, rng)
    return Case({**files, STACK: _mutated(text, rng, texts)}, overrides)


def _extending(text: str, rng: random.Random) -> str:
    """A stack whose services extend those of `text` (which is the part), and each other."""
    services = re.findall(r"^  ([a-z][a-z0-9_-]*):", text, re.MULTILINE) or ["web"]
    lines = [f"  {name}: {{extends: {{file: {PART}, service: {name}}}, user: u}}" for name in services]
    lines.append(f"  more: {{extends: {rng.choice(services)}, labels: [a=b]}}")
    return "\n".join(["services:", *lines, ""])


def _mutated(text: str, rng: random.Random, texts: Sequence[str]) -> bytes:
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 6))):
        text = rng.choices(_MUTATIONS, _WEIGHTS)[0](text, rng, texts)
    data = text.encode("utf-8", "surrogatepass")[:MAX_BYTES]
    return _bytes(data, rng) if rng.random() < 0.15 else data


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
