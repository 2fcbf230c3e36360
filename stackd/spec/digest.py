"""Content digests: 32 hexadecimal characters of SHA-256.

A spec's digest is taken over its fields by name, without those that have their default: a later version that knows more
fields gives an old spec its old digest, so upgrading replaces no task.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import msgspec

from stackd.base.ids import BlobDigest, SpecDigest
from stackd.base.records import Record
from stackd.spec.stack import Placement, TaskSpec

_LENGTH = 32


def spec_digest(spec: TaskSpec) -> SpecDigest:
    """The name of a task spec: two spellings of one meaning have one digest."""
    return SpecDigest(hashlib.sha256(_encode(_named(spec))).hexdigest()[:_LENGTH])


_encode = msgspec.json.Encoder().encode


@cache
def _fields(kind: type[Record]) -> tuple[tuple[str, Any], ...]:
    """Names and defaults of a record's fields; one without a default has a value that equals nothing."""
    return tuple((field.name, field.default) for field in msgspec.structs.fields(kind))


def _named(value: Any) -> Any:
    """`value` with each record in it as a mapping of the fields that don't have their default."""
    if isinstance(value, Record):
        return {name: _named(present) for name, default in _fields(type(value)) if (present := getattr(value, name)) != default}
    if isinstance(value, tuple):
        return [_named(item) for item in value]
    return value


def blob_digest(data: bytes) -> BlobDigest:
    """The name of a config's content."""
    return BlobDigest(hashlib.sha256(data).hexdigest()[:_LENGTH])


def without_placement(spec: TaskSpec) -> TaskSpec:
    """`spec` with no placement: what is left decides whether a task on a still suitable node may stay (semantics 8.2)."""
    return msgspec.structs.replace(spec, placement=Placement())
