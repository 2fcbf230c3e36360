"""Whatever is in a stack file, the loader ends with a stack or with errors that have places."""

from __future__ import annotations

import pytest

from fuzz_stack_files import Fault, check, fuzz
from mutated_stacks import STACK, Case


@pytest.mark.timeout(400)  # twenty seconds on an idle machine
def test_no_mutated_file_raises_anything_but_positioned_errors() -> None:
    accepted, failures = fuzz(seed=1, count=5000, processes=2)
    assert not failures, "\n".join(failures)
    assert accepted > 500  # else the cases are too wild to say anything about what comes after the syntax


def test_a_crash_of_the_parser_is_a_failure_of_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nonexistent")
    monkeypatch.setattr("sys.executable", "/bin/false")
    accepted, failures = fuzz(seed=1, count=10)
    assert accepted == 0
    assert len(failures) == 1


def test_a_problem_without_a_place_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz_stack_files.load_stack", _raise_without_place)
    with pytest.raises(Fault, match="without a place"):
        check(Case({STACK: b"services: {}"}))


def _raise_without_place(*_: object, **__: object) -> None:
    from stackd.base.errors import Problem, SpecErrors

    raise SpecErrors([Problem("spec.x", "something")])
