"""The systemd unit keeps its promises: the daemon comes back, and tasks outlive it."""

from __future__ import annotations

import configparser
from pathlib import Path

import stackd
from stackd.cli.main import cli

UNIT = Path(stackd.__file__).parents[1] / "packaging/stackd.service"


def test_the_daemon_is_restarted_and_only_it_is_ended() -> None:
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read_string(UNIT.read_text())
    service = dict(unit["Service"])
    assert (service["Restart"], service["KillMode"], service["Delegate"]) == ("always", "process", "yes")
    assert int(service["LimitNOFILE"]) >= 4096


def test_the_command_line_in_it_is_one_that_there_is() -> None:
    (line,) = (line for line in UNIT.read_text().splitlines() if line.startswith("ExecStart="))
    name, *arguments, more = line.partition("stackd ")[2].split()
    command = cli.get_command(cli.make_context("stackd", [], resilient_parsing=True), name)
    assert command is not None
    command.make_context(name, arguments, resilient_parsing=False)
    assert more == "$STACKD_OPTIONS"  # without braces: split into words, and nothing where it isn't set
