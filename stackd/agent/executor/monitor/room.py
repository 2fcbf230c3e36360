"""What a full disk looks like. It passes, so nothing is given up for it."""

from __future__ import annotations

import errno


def is_full(error: BaseException) -> bool:
    """Whether it is for lack of room on a disk, or of what its owner may use of it."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
