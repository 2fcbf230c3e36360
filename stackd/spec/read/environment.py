"""Reads a service's environment, and warns of what looks like a secret written out in it."""

from __future__ import annotations

import re

from stackd.spec.nodes import Scalar
from stackd.spec.read.value import Value

_SECRETIVE = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|pw|secret|token|apikey|api_key|private_key|secret_key|access_key)$", re.IGNORECASE
)
_LETTERS_AT_LEAST = 4
"""Shorter values are switches and numbers."""


def read_environment(value: Value) -> dict[str, str | None]:
    """The variables. Whoever can read the stack file, or look at a task, knows what stands there."""
    for name, item in _named(value):
        if _SECRETIVE.search(name) and _is_plain_secret(item, name):
            message = f"{item.path}: {name} looks like a secret, and everyone can read it here"
            item.warning("spec.environment.secret", message, f"use secrets: and {name}_FILE, or take it from a variable")
    return value.text_pairs()


def _named(value: Value) -> list[tuple[str, Value]]:
    """The variables that have a value, each with the place that it is written at."""
    if value.is_mapping():
        return list(value.entries().items())
    items = value.items() if value.is_list() else []
    return [(item.text().partition("=")[0], item) for item in items if item.is_text()]


def _is_plain_secret(item: Value, name: str) -> bool:
    """Whether the file itself has the value: neither a variable, nor a path, nor a template."""
    node = item.node
    if not isinstance(node, Scalar) or not isinstance(node.value, str) or node.written != node.value:
        return False
    text = node.value.removeprefix(f"{name}=")
    return len(text) >= _LETTERS_AT_LEAST and not text.startswith(("/", "{{"))
