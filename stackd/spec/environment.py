"""Env files: one `NAME=VALUE` per line, taken literally, as the official client reads them.

No quotes are removed and nothing is interpolated; a `#` begins a comment only at the start of a line. A `NAME` alone
takes its value from the environment, or is left out where it isn't set there.
"""

from __future__ import annotations

from collections.abc import Mapping

from stackd.base.errors import StackdError
from stackd.spec.nodes import shortened


def parse(data: bytes, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an env file; raises StackdError `spec.env_file.bad`, whose message continues "the file ..."."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise StackdError("spec.env_file.bad", "is not UTF-8", hint="save it as UTF-8") from exc
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r").lstrip()
        if line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            _check(number, name, value)
            if equals or name in environment:
                found[name] = value if equals else environment[name]
    return found


def _check(number: int, name: str, value: str) -> None:
    if not name:
        raise StackdError("spec.env_file.bad", f"has no variable's name in line {number}", hint="write NAME=VALUE")
    if any(character.isspace() for character in name):
        reason = f'has blanks in the name "{shortened(name)}" in line {number}'
        raise StackdError("spec.env_file.bad", reason, hint="no blank stands before the equals sign")
    if "\0" in name + value:
        raise StackdError("spec.env_file.bad", f"has a zero byte in line {number}")
