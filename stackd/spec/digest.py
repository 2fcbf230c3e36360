"""Content digests: 32 hexadecimal characters of SHA-256 over the one binary form of a record."""

from __future__ import annotations

import hashlib

import msgspec

from stackd.base.ids import BlobDigest, SpecDigest
from stackd.base.records import encode
from stackd.spec.stack import Placement, TaskSpec

_LENGTH = 32


def spec_digest(spec: TaskSpec) -> SpecDigest:
    """The name of a task spec: two spellings of one meaning have one digest."""
    return SpecDigest(hashlib.sha256(encode(spec)).hexdigest()[:_LENGTH])


def blob_digest(data: bytes) -> BlobDigest:
    """The name of a config's content."""
    return BlobDigest(hashlib.sha256(data).hexdigest()[:_LENGTH])


def without_placement(spec: TaskSpec) -> TaskSpec:
    """`spec` with no placement: what is left decides whether a task on a still suitable node may stay (semantics 8.2)."""
    return msgspec.structs.replace(spec, placement=Placement())
