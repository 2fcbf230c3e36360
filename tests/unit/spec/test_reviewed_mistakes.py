"""Mistakes as people make them, and all that `stackd validate` says about each, as it was reviewed.

    python tests/unit/spec/test_reviewed_mistakes.py --rewrite

writes down what is said now; then the difference is to be reviewed. A mistake is a file in `fixtures/mistakes`, or a
folder of files that are put on top of one another; beside it is what is said, in one form or in several.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stackd import __version__
from stackd.base.time import Instant
from stackd.cli.invocation import Invocation
from stackd.cli.main import run

MISTAKES = Path(__file__).parents[2] / "fixtures" / "mistakes"
FORMS = {".txt": "table", ".json": "json", ".github": "github", ".sarif": "sarif"}
IN_EVERY_FORM = "old-compose-file"
"""The mistake with errors and warnings, which is told in every form; the others only as a person reads them."""

ALL = sorted(path.stem for path in MISTAKES.iterdir() if path.is_dir() or path.suffix == ".yaml")
TOLD = [(name, suffix) for name in ALL for suffix in FORMS if suffix == ".txt" or name == IN_EVERY_FORM]


@pytest.mark.parametrize(("name", "suffix"), TOLD)
def test_a_mistake_is_told_as_it_was_reviewed(name: str, suffix: str) -> None:
    assert said(name, FORMS[suffix]) == (MISTAKES / f"{name}{suffix}").read_text()


def test_nothing_is_told_of_a_mistake_that_is_gone() -> None:
    known = {f"{name}{suffix}" for name, suffix in TOLD}
    assert {path.name for path in MISTAKES.iterdir() if path.suffix in FORMS} == known


def said(name: str, form: str) -> str:
    """What `stackd validate` prints about a mistake."""
    printed = io.StringIO()
    invocation = Invocation(now=lambda: Instant(0), environment={"HOME": "/home/ann"})
    with _inside(MISTAKES), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        run(["validate", *_files(name), "-o", form], invocation)
    return printed.getvalue().replace(f'"{__version__}"', '"VERSION"')


def _files(name: str) -> list[str]:
    if not (MISTAKES / name).is_dir():
        return ["-f", f"{name}.yaml"]
    return ["-n", name, "-f", f"{name}/stack.yaml", "-f", f"{name}/override.yaml"]


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def rewrite() -> None:
    for name, suffix in TOLD:
        (MISTAKES / f"{name}{suffix}").write_text(said(name, FORMS[suffix]))


if __name__ == "__main__":
    if sys.argv[1:] != ["--rewrite"]:
        sys.exit(__doc__)
    rewrite()
