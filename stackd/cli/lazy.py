"""A command group that imports a command when it is called, so `stackd version` never pays for `stackd apply`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A group whose commands are named as `module:attribute`. The order of `commands_at` is the order of the help."""

    def __init__(self, *args: Any, commands_at: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        where = self._commands_at.get(cmd_name)
        if where is None:
            return None
        module, _, attribute = where.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, but a misspelt command is compared with all of ours, not only with the imported ones."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = _close_to(args[0], self._commands_at)
            if close is None or args[0].startswith("-"):
                raise
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean {close!r}?", ctx) from error


def _close_to(word: str, known: Mapping[str, str]) -> str | None:
    import difflib

    return next(iter(difflib.get_close_matches(word, known, n=1)), None)
