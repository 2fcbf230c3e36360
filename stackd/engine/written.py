"""What people have written, as one number: whoever saw a plan can ask that it be carried out on that state or not at all."""

from __future__ import annotations

import hashlib

from stackd.base.records import encode
from stackd.engine.view import View

_BYTES = 6
"""Of the digest that the number is: every reader of JSON can hold that many exactly."""


def base_version(view: View) -> int:
    """A number for what people wrote: another one after any change of a service or stack, also after one is gone, and the
    same whatever is reported. Never 0, which in a request means that the caller doesn't care."""
    written = sorted((row.key, row.version) for row in view.services.values() if not row.removing)
    written += sorted((row.key, row.version) for row in view.stacks.values())
    return int.from_bytes(hashlib.sha256(encode(written)).digest()[:_BYTES], "big") | 1
