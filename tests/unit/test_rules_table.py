"""The table of rules in docs/testing.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "testing.md"

_DEFINED = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
_NAMED = re.compile(r"`(test_\w+)`")


def test_every_rule_names_tests_and_they_exist() -> None:
    defined = {name for path in TESTS.rglob("test_*.py") for name in _DEFINED.findall(path.read_text())}
    defined |= {name for path in TESTS.rglob("*_contract.py") for name in _DEFINED.findall(path.read_text())}
    rules = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "`test_" in line]
    assert len(rules) > 80
    assert {name for line in rules for name in _NAMED.findall(line)} - defined == set()
