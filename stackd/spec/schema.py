"""The JSON schema of the stack file, for editors and as the oracle of tests.

The loader never asks it: the readers in `read/` decide, because they know places, units and near misses. Tests prove that
both accept the same documents. The schema lies here so that it is inside of the wheel; `schemas/` has a copy, because an
editor that fetches it by address would be handed the text of a link instead of the file, and a test keeps the two equal.
"""

from __future__ import annotations

from importlib.resources import files


def schema_text() -> str:
    """The schema (JSON Schema draft-07) as it is shipped."""
    return files("stackd.spec").joinpath("stack.schema.json").read_text("utf-8")
