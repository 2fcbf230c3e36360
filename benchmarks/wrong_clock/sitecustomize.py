"""Gives a Python program a clock that is off: put this directory on PYTHONPATH and name a file in WRONG_CLOCK.

The file holds eight bytes, the nanoseconds that are added to the time of day (a signed little-endian number); it may be written
to at any moment. Monotonic clocks stay right, as they do on a host whose time is set.
"""

from __future__ import annotations

import mmap
import os
import struct
import time

_right, _right_ns = time.time, time.time_ns

if _path := os.environ.get("WRONG_CLOCK"):
    with open(_path, "rb") as _file:
        _offset = mmap.mmap(_file.fileno(), 8, access=mmap.ACCESS_READ)

    def _off_ns() -> int:
        nanoseconds: int = struct.unpack("<q", _offset[:8])[0]
        return nanoseconds

    time.time_ns = lambda: _right_ns() + _off_ns()
    time.time = lambda: _right() + _off_ns() / 1e9
