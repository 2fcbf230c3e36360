"""The scenarios in `scenarios/*.txt` come out as they are written. `REWRITE=1 pytest ...` writes what came out instead, to be
read and committed like any other change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from scenario_script import played

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_comes_out_as_written(path: Path) -> None:
    came_out = played(path)
    if os.environ.get("REWRITE"):
        path.write_text(came_out)
    assert came_out == path.read_text()
