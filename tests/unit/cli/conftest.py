"""Gives tests the command line as `stackd`."""

from __future__ import annotations

import pytest

from cli_runner import Stackd


@pytest.fixture
def stackd(capsys: pytest.CaptureFixture[str]) -> Stackd:
    def read() -> tuple[str, str]:
        captured = capsys.readouterr()
        return captured.out, captured.err

    return Stackd(read)
