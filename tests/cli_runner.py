"""Runs the command line in this process against a control service that lives in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from stackd.base.time import SECOND, Instant
from stackd.cli.invocation import Invocation
from stackd.cli.main import run

from cli_control import MemoryControl

NOW = Instant(round(datetime.fromisoformat("2026-05-01T12:00:00+00:00").timestamp()) * SECOND)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class Stackd:
    """`stackd("service", "ls")` runs a command; `control` is what answers it, `read` gives what was printed since."""

    def __init__(self, read: Callable[[], tuple[str, str]]) -> None:
        self.control = MemoryControl()
        self.interactive = False
        self.environment: dict[str, str] = {"STACKD_HOST": "unix:///run/stackd.sock"}
        self._read = read

    def __call__(self, *arguments: str) -> Ended:
        invocation = Invocation(
            connect=self.control.connect,
            now=lambda: NOW,
            environment=self.environment,
            interactive=self.interactive,
        )
        code = run(arguments, invocation)
        out, err = self._read()
        return Ended(code, out, err)
