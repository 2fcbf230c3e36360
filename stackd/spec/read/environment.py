"""Reads a service's environment, and warns of what looks like a secret written out in it."""

from __future__ import annotations

import re

from stackd.spec.nodes import Scalar
from stackd.spec.read.value import Value

_SECRETIVE = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|pw|secret|token|apikey|api_key|private_key|secret_key|access_key)$", re.IGNORECASE
)
_ADDRESS_WITH_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^\s:/@]*:[^\s/@]{4,}@", re.IGNORECASE)
_LETTERS_AT_LEAST = 4
"""Shorter values are switches and numbers."""


def read_environment(value: Value) -> dict[str, str | None]:
    """The variables. Whoever can read the stack file, or look at a task, knows what stands there."""
    for name, item in _named(value):
        if not _is_written_out(item):
            continue
        if _SECRETIVE.search(name) and _is_plain_secret(item, name):
            message = f"{item.path}: {name} looks like a secret, and everyone can read it here"
            item.warning("spec.environment.secret", message, f"use secrets: and {name}_FILE, or take it from a variable")
        elif _ADDRESS_WITH_PASSWORD.search(item.text()):
            message = f"{item.path}: the address in {name} has a password, and everyone can read it here"
            item.warning("spec.environment.secret", message, "take the password from a variable: ${NAME:?}")
    return value.text_pairs()


def _named(value: Value) -> list[tuple[str, Value]]:
    """The variables that have a value, each with the place that it is written at."""
    if value.is_mapping():
        return list(value.entries().items())
    items = value.items() if value.is_list() else []
    return [(item.text().partition("=")[0], item) for item in items if item.is_text()]


def _is_written_out(item: Value) -> bool:
    """Whether the value is a text that the file itself has, without variables."""
    return isinstance(item.node, Scalar) and item.is_text() and item.node.written == item.node.value


def _is_plain_secret(item: Value, name: str) -> bool:
    """Whether the text is long enough, and neither a path nor a template."""
    text = item.text().removeprefix(f"{name}=")
    return len(text) >= _LETTERS_AT_LEAST and not text.startswith(("/", "{{"))
