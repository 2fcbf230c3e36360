"""What the objects of a stack are called in the cluster: by their own name, or by the stack's and their key."""

from __future__ import annotations

from typing import Protocol

PREDEFINED_NETWORKS = frozenset({"host", "none", "bridge", "default"})
"""Networks that every engine has; they are no objects of the cluster, and tasks have no other names there."""


class Named(Protocol):
    """An object of the top level."""

    @property
    def name(self) -> str: ...


def scoped(stack: str, key: str) -> str:
    """The name of what belongs to a stack."""
    return f"{stack}_{key}"


def name_of(stack: str, key: str, item: Named | None) -> str:
    """The name of the object that the top level has under `key`; None is one that isn't written there."""
    return item.name if item is not None and item.name else scoped(stack, key)
