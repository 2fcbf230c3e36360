"""The base of every stored record: frozen, keyword-only, encoded as an array so that fields are only ever added at the end.

The same form lies in the store, in a Raft entry and on an agent's stream. Mappings inside a record are tuples of pairs
sorted by key (`Pairs`), so equal meaning is equal bytes and a digest of the bytes is a digest of the meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, dataclass_transform

import msgspec

Pairs = tuple[tuple[str, str], ...]
"""A mapping of strings, sorted by key."""


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class _RecordMeta(msgspec.StructMeta):
    """Gives every subclass of Record the same settings, in a form that type checkers understand."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> Any:
        return super().__new__(cls, name, bases, namespace, frozen=True, kw_only=True, array_like=True, **options)


class Record(msgspec.Struct, metaclass=_RecordMeta):
    """Base class of records. Members of a union are told apart by `tag=`."""


_encode = msgspec.msgpack.Encoder().encode


def encode(record: Any) -> bytes:
    """The one binary form of a record."""
    return _encode(record)


def decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    """A reusable decoder for `kind`; raises msgspec.DecodeError on anything else."""
    return msgspec.msgpack.Decoder(kind)


def pairs(mapping: Mapping[str, str]) -> Pairs:
    """`mapping` as sorted pairs."""
    return tuple(sorted(mapping.items()))
