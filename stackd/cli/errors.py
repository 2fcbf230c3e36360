"""How a command ends: what is said of an error, and the exit code. Every error takes this one way out.

0 done, converged, no difference    1 error             2 `plan --exit-code`: there are changes
3 refused                           4 timeout           5 paused or failed rollout
6 rolled back                       64 usage            130 interrupted
"""

from __future__ import annotations

import click
import msgspec

from stackd.api.views import API_VERSION
from stackd.base.errors import Position, Refused, SpecErrors, StackdError

CHANGES = 2
USAGE = 64
INTERRUPTED = 130


class RolloutTimedOut(StackdError):
    """Waiting is over; the rollout goes on."""


class RolloutFailed(StackdError):
    """A rollout is paused or has failed."""


class RolledBack(StackdError):
    """A rollout failed and the service runs its previous spec again."""


def exit_code(error: BaseException) -> int:
    """The one place where an error becomes an exit code."""
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case click.UsageError():
            return USAGE
        case KeyboardInterrupt() | click.Abort():
            return INTERRUPTED
        case Refused():
            return 3
        case RolloutTimedOut():
            return 4
        case RolloutFailed():
            return 5
        case RolledBack():
            return 6
        case _:
            return 1


def describe(error: BaseException, *, as_json: bool) -> str:
    """What stderr says of an error: "" for those that need no word (a wanted exit, an interruption)."""
    match error:
        case click.exceptions.Exit() | KeyboardInterrupt() | click.Abort():
            return ""
        case SpecErrors():
            return _as_json(_spec_document(error)) if as_json else _spec_text(error)
        case StackdError():
            return _as_json(_error_document(error)) if as_json else _error_text(error)
        case click.UsageError():
            return _as_json(_document("cli.usage", error.format_message())) if as_json else _usage_text(error)
        case click.ClickException():
            return _as_json(_document("cli.error", error.format_message())) if as_json else f"error: {error.format_message()}"
        case _:
            return f"error: {error}"


def _error_text(error: StackdError) -> str:
    return f"{error}\n  hint: {error.hint}" if error.hint else str(error)


def _spec_text(error: SpecErrors) -> str:
    from stackd.spec.report import format_problems

    return format_problems(error.problems)


def _usage_text(error: click.UsageError) -> str:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error.format_message()
    if error.ctx is None:
        return f"error: {error.format_message()}"
    usage = error.ctx.command.get_usage(error.ctx)
    return f"{usage}\n\nerror: {error.format_message()}\n  hint: `{error.ctx.command_path} --help` explains it"


def _document(code: str, message: str, *, hint: str | None = None, position: Position | None = None) -> dict[str, object]:
    document: dict[str, object] = {"apiVersion": API_VERSION, "kind": "Error", "code": code, "message": message}
    document["hint"] = hint or ""
    if position is not None:
        document |= {"file": position.file, "line": position.line, "column": position.column}
    return document


def _error_document(error: StackdError) -> dict[str, object]:
    return _document(error.code, error.message, hint=error.hint, position=error.position)


def _spec_document(error: SpecErrors) -> dict[str, object]:
    from stackd.spec.report import problem_record

    return _error_document(error) | {"items": [problem_record(problem) for problem in error.problems]}


def _as_json(document: dict[str, object]) -> str:
    return msgspec.json.encode(document).decode()
