"""The one error hierarchy.

    StackdError            code, message, position, hint, retry
    ├── SpecErrors         all errors of a stack file at once
    ├── Refused            policy, stale version, needs --yes, does not fit     (exit 3)
    ├── NotFound           the named object doesn't exist
    ├── Unavailable        not now: no daemon, no leader, engine away           (retry later)
    └── TaskFault          what an executor says of one task

`code` is for machines: dotted, stable, listed in docs/errors.md. `message` is one sentence for a person, `hint` says
what to do next. `retry` is the whole contract with loops.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Retry(enum.Enum):
    """What a loop may do after an error."""

    NEVER = "never"
    NOW = "now"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file a person can open: line and column count from 1; `length` is what to underline."""

    file: str
    line: int = 0
    column: int = 0
    length: int = 1
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class StackdError(Exception):
    """Base of all errors that stackd raises on purpose."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        position: Position | None = None,
        hint: str | None = None,
        retry: Retry = Retry.NEVER,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.position = position
        self.hint = hint
        self.retry = retry

    def __str__(self) -> str:
        where = f"{self.position}: " if self.position else ""
        return f"{where}error[{self.code}]: {self.message}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about a stack file. `severity` is "error" or "warning"."""

    code: str
    message: str
    position: Position | None = None
    hint: str | None = None
    severity: str = "error"


class SpecErrors(StackdError):
    """Every error found in one pass over a set of stack files, ordered by position, and what is to be warned of as well."""

    def __init__(self, problems: Iterable[Problem], warnings: Iterable[Problem] = ()) -> None:
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)
        first = self.problems[0]
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        super().__init__(first.code, first.message + more, position=first.position, hint=first.hint)


class Refused(StackdError):
    """The request is understood and not done; nothing has changed."""


class NotFound(StackdError):
    """The named object does not exist."""


class Unavailable(StackdError):
    """Not possible at the moment; nothing has changed and the same request may succeed later."""

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(code, message, hint=hint, retry=Retry.LATER)


class TaskFault(StackdError):
    """An executor could not do a step of one task. With Retry.LATER the worker repeats the same step."""
