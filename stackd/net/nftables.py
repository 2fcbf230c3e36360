"""nftables in process through libnftables (a transaction takes about a millisecond), else through the `nft` command (20 ms).

A ruleset is text, the same for both, so what is loaded can be read and tested as text. A text is one transaction: all of
it is applied or nothing.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from typing import Protocol

from stackd.base.errors import StackdError

_LIBRARY = "libnftables.so.1"


class NftFailed(StackdError):
    """The kernel refused a ruleset; nothing of it was applied."""

    def __init__(self, text: str) -> None:
        super().__init__("net.nftables", f"nftables: {text.strip().splitlines()[0] if text.strip() else 'unknown error'}")


class Nft(Protocol):
    """One transaction at a time; not for use by two threads at once."""

    def run(self, ruleset: str) -> str:
        """Apply `ruleset` and return what it printed; raises NftFailed."""
        ...


def open_nft() -> Nft | None:
    """The best way this host has; None if it has neither library nor command."""
    try:
        return _Library(ctypes.CDLL(_LIBRARY))
    except OSError:
        command = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
        return _Command(command) if command else None


class _Library:
    """libnftables(3) with a context in the network namespace of the thread that made it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for name in ("output", "error"):
            getattr(library, f"nft_ctx_buffer_{name}").argtypes = [ctypes.c_void_p]
            getter = getattr(library, f"nft_ctx_get_{name}_buffer")
            getter.argtypes = [ctypes.c_void_p]
            getter.restype = ctypes.c_char_p
        self._library = library
        self._context = library.nft_ctx_new(0)
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)

    def run(self, ruleset: str) -> str:
        code = self._library.nft_run_cmd_from_buffer(self._context, ruleset.encode())
        output: bytes = self._library.nft_ctx_get_output_buffer(self._context)
        error: bytes = self._library.nft_ctx_get_error_buffer(self._context)
        if code != 0:
            raise NftFailed(error.decode(errors="replace"))
        return output.decode(errors="replace")


class _Command:
    """The same through a process per transaction."""

    def __init__(self, command: str) -> None:
        self._command = command

    def run(self, ruleset: str) -> str:
        done = subprocess.run([self._command, "-f", "-"], input=ruleset, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NftFailed(done.stderr)
        return done.stdout
