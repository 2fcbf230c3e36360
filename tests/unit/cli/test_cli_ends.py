"""How commands end: exit codes, errors as text and as JSON, usage, help, interruption."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
import pytest
from stackd import __version__
from stackd.api.control import DownProgress, DownRequest
from stackd.base.errors import NotFound, Position, Refused, StackdError, Unavailable
from stackd.cli.errors import RolledBack, RolloutFailed, RolloutTimedOut, exit_code
from stackd.cli.main import cli

from cli_runner import Stackd


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StackdError("a.b", "no"), 1),
        (NotFound("a.b", "no"), 1),
        (Unavailable("a.b", "no"), 1),
        (Refused("a.b", "no"), 3),
        (RolloutTimedOut("a.b", "no"), 4),
        (RolloutFailed("a.b", "no"), 5),
        (RolledBack("a.b", "no"), 6),
        (click.UsageError("no"), 64),
        (click.exceptions.Exit(2), 2),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_errors_are_text_with_a_hint(stackd: Stackd) -> None:
    stackd.control.failure = Unavailable("api.no_daemon", "no daemon answers", hint="start one with `stackd up DIR`")
    ended = stackd("service", "ls")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "error[api.no_daemon]: no daemon answers\n  hint: start one with `stackd up DIR`\n"


def test_errors_are_json_where_json_was_asked_for(stackd: Stackd) -> None:
    stackd.control.failure = StackdError("a.b", "no", position=Position("f.yaml", 3, 5), hint="do")
    assert json.loads(stackd("service", "ls", "-o", "json").err) == {
        "apiVersion": "stackd/v1",
        "kind": "Error",
        "code": "a.b",
        "message": "no",
        "hint": "do",
        "file": "f.yaml",
        "line": 3,
        "column": 5,
    }


def test_usage_errors_are_json_too(stackd: Stackd) -> None:
    ended = stackd("service", "ls", "-o", "json", "--nothing")
    assert ended.code == 64
    assert json.loads(ended.err)["code"] == "cli.usage"


@pytest.mark.parametrize("arguments", [("service", "ls", "--nothing"), ("nothing",), ("service", "ls", "-o", "xml"), ()])
def test_wrong_usage_ends_with_64(stackd: Stackd, arguments: tuple[str, ...]) -> None:
    ended = stackd(*arguments)
    assert ended.code == 64
    assert "stackd" in ended.err


def test_a_misspelt_command_is_guessed(stackd: Stackd) -> None:
    assert "Did you mean 'service'?" in stackd("servce", "ls").err


def test_the_daemon_is_found_by_option_before_environment(stackd: Stackd) -> None:
    stackd("service", "ls")
    stackd("service", "ls", "--host", "unix:///elsewhere.sock")
    assert stackd.control.hosts == ["unix:///run/stackd.sock", "unix:///elsewhere.sock"]


def test_interruption_ends_with_130_and_says_that_the_rollout_goes_on(stackd: Stackd, monkeypatch: pytest.MonkeyPatch) -> None:
    from cli_control import a_service

    stackd.control.service_list = (a_service(),)

    def interrupted(*_: object) -> Iterator[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr("stackd.cli.progress._snapshots", interrupted)
    ended = stackd("service", "scale", "shop_web=4")
    assert ended.code == 130
    assert ended.err == "interrupted: the rollout goes on; `stackd status` shows it\n"


def test_a_reader_that_leaves_early_is_no_error(stackd: Stackd, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError

    forgotten: list[bool] = []
    monkeypatch.setattr("stackd.cli.main._forget_stdout", lambda: forgotten.append(True))
    monkeypatch.setattr("click.echo", gone)
    assert stackd("service", "ls").code == 0
    assert forgotten == [True]


def test_version_asks_nobody(stackd: Stackd) -> None:
    assert stackd("version").out == f"stackd {__version__}\n"
    assert stackd.control.hosts == []


def test_version_of_the_daemon(stackd: Stackd) -> None:
    assert stackd("version", "--daemon").out.splitlines()[1] == "daemon 0.1.0 (pid 77, data in /var/lib/stackd)"
    assert json.loads(stackd("version", "--daemon", "-o", "json").out)["daemon"]["pid"] == 77


def test_down_ends_the_daemon_of_the_data_directory(stackd: Stackd) -> None:
    stackd.control.down_progress = (DownProgress(remaining=3), DownProgress(remaining=0, done=True))
    ended = stackd("down", "--data-dir", "/srv/node")
    assert (ended.out, ended.err) == ("Everything is down.\n", "3 tasks left\n")
    assert stackd.control.hosts == ["unix:///srv/node/stackd.sock"]
    assert stackd.control.requests == [DownRequest(remove=True)]


def test_down_can_keep_tasks(stackd: Stackd) -> None:
    stackd.control.down_progress = (DownProgress(remaining=3, done=True),)
    assert stackd("down", "--keep-tasks").out == "The daemon has ended.\n"
    assert stackd.control.requests == [DownRequest(remove=False)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", ".", "--git", "https://git.example.org/ops.git"),
        ("up", ".", "--ref", "main"),
        ("up", "--executor", "magic"),
        ("up", "--interval", "soon"),
        ("up", "/no/such/directory"),
    ],
)
def test_up_refuses_what_does_not_go_together(stackd: Stackd, arguments: tuple[str, ...]) -> None:
    assert stackd(*arguments).code == 64


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_the_command_back(stackd: Stackd, shell: str) -> None:
    ended = stackd("completion", shell)
    assert ended.code == 0
    assert "_STACKD_COMPLETE" in ended.out


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))


@pytest.mark.parametrize("path", list(_commands(cli)), ids=" ".join)
def test_the_help_of_each_command_ends_with_an_example(stackd: Stackd, path: tuple[str, ...]) -> None:
    ended = stackd(*path, "--help")
    assert ended.code == 0
    assert ended.out.splitlines()[-1].startswith("    stackd") or 'eval "$(stackd' in ended.out
    assert "Example" in ended.out
