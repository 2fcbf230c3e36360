"""Problems as SARIF 2.1.0 (OASIS), the form that code scanners and editors read. Pure: problems in, a document out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from stackd import __version__
from stackd.base.errors import Position, Problem

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(problems: Iterable[Problem]) -> str:
    """The whole log as JSON: one run, one rule per code, one result per problem."""
    found = tuple(problems)
    codes = sorted({problem.code for problem in found})
    driver = {"name": "stackd", "version": __version__, "rules": [{"id": code} for code in codes]}
    results = [_result(problem, codes.index(problem.code)) for problem in found]
    log = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }
    return msgspec.json.format(msgspec.json.encode(log), indent=2).decode()


def _result(problem: Problem, rule: int) -> dict[str, Any]:
    text = f"{problem.message} ({problem.hint})" if problem.hint else problem.message
    result: dict[str, Any] = {
        "ruleId": problem.code,
        "ruleIndex": rule,
        "level": problem.severity,
        "message": {"text": text},
    }
    if problem.position is not None:
        result["locations"] = [{"physicalLocation": _location(problem.position)}]
    return result


def _location(position: Position) -> dict[str, Any]:
    """The file, and the region in it where the line is known. SARIF's end column is the one behind the last character."""
    location: dict[str, Any] = {"artifactLocation": {"uri": _uri(position.file)}}
    if position.line:
        location["region"] = {
            "startLine": position.line,
            "startColumn": position.column,
            "endColumn": position.column + max(1, position.length),
        }
    return location


def _uri(path: str) -> str:
    """A relative reference, or an absolute file URI (RFC 3986)."""
    from urllib.parse import quote

    return f"file://{quote(path)}" if path.startswith("/") else quote(path)
