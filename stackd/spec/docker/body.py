"""Request bodies as plain data, in the form that they have in the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Body = dict[str, Any]

NAMESPACE_LABEL = "com.docker.stack.namespace"
"""Says on every object which stack it belongs to."""

IMAGE_LABEL = "com.docker.stack.image"
"""Says on a service which image its file names."""


def said(**fields: Any) -> Body:
    """The fields that say something. The API takes what isn't there for the same as an empty value, except where it is
    told apart from it (`None` here, and an empty body that is there)."""
    return {name: value for name, value in fields.items() if value is not None and value not in ("", 0, [], ())}


def labels(stack: str, own: Mapping[str, str]) -> Body:
    return {**own, NAMESPACE_LABEL: stack}
