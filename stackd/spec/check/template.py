"""Checks a setting that may hold a template."""

from __future__ import annotations

from stackd.base.errors import StackdError
from stackd.spec import templating
from stackd.spec.placed import PlacedProblems


def check_template(text: str, path: str, problems: PlacedProblems) -> None:
    """Reports a template in the setting at `path` that can't be filled in."""
    try:
        templating.check_setting(text)
    except StackdError as error:
        problems.error(error.code, f"{path}: {error.message}", path, error.hint)
