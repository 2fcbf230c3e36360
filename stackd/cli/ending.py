"""How the process of a command ends: at once when its work is done, whatever its threads still do.

Nothing here decides an exit code; that is `cli/errors.py`.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from stackd.cli.errors import INTERRUPTED


def end_after(work: Callable[[], int]) -> NoReturn:
    """Do the work and end the process with the exit code it returns. An error that nobody expected ends it with 1 and is
    shown in full."""
    code = 1
    try:
        code = work()
    except KeyboardInterrupt:
        code = INTERRUPTED  # one more Ctrl-C, while the first was being dealt with
    except BaseException:
        traceback.print_exc()
    finally:
        _end(code)


def _end(code: int) -> NoReturn:
    """Not by the interpreter's own way out, which waits for others: for pool threads, one of which may sit in a call to an
    engine that never answers, and, in the finalizers of gRPC's objects, for locks of threads that have been stopped already.
    What has to be in order is: what was printed and logged is out, and whoever started a reader has ended it."""
    try:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # its reader has gone, or it is closed: nobody is left to be told
                stream.flush()
    finally:
        os._exit(code)
