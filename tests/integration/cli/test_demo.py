"""The demo as a newcomer runs it: a node, the hello stack, a real request, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LIMIT_SECONDS = 90.0


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose temporary files we see."""
    yield os.environ | {"TMPDIR": str(tmp_path)}
    assert list(tmp_path.iterdir()) == []


def demo(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "stackd.cli.demo", "--executor", "process", *arguments]


def test_the_demo_answers_a_request_and_leaves_nothing_behind(temporary: dict[str, str], port: int) -> None:
    ended = subprocess.run(
        demo("--once", "--port", str(port)), env=temporary, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert f"http://127.0.0.1:{port}/ answers: Hello from stackd" in ended.stdout
    assert "Everything is down." in ended.stdout


def test_interrupting_the_demo_takes_everything_down(temporary: dict[str, str], port: int) -> None:
    running = subprocess.Popen(demo("--port", str(port)), env=temporary, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    try:
        for line in running.stdout:
            if "Ctrl-C takes everything down" in line:
                running.send_signal(signal.SIGINT)
                break
        rest, _ = running.communicate(timeout=LIMIT_SECONDS)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 0
    assert "Everything is down." in rest


def test_a_port_in_use_is_said_before_anything_is_started(temporary: dict[str, str]) -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        ended = subprocess.run(
            demo("--once", "--port", port), env=temporary, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
    assert ended.returncode == 1
    assert f"error[demo.port.taken]: port {port} is already in use" in ended.stderr
