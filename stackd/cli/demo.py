"""`make demo`: a node of its own, the hello stack on it, and nothing left behind.

It runs the same `stackd up` and `stackd down` that a person types, on a temporary data directory and a copy of the
example. With `--once` it ends after a real HTTP request through the published port: exit code 0, or the reason.
"""

from __future__ import annotations

import errno
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

import stackd
from stackd.api.locations import socket_path
from stackd.base.errors import StackdError
from stackd.base.time import SECOND, Duration
from stackd.cli.ending import end_after
from stackd.cli.errors import describe, exit_code
from stackd.cli.invocation import Invocation
from stackd.cli.options import example
from stackd.cli.progress import NoLines, wait_for
from stackd.cli.rollout import Expectation

EXAMPLE = Path(stackd.__file__).parent.parent / "examples" / "stacks" / "hello"
SERVICE = "hello_web"
EXAMPLE_PORT = 8080

START_SECONDS = 30.0
"""A daemon that doesn't answer after this time won't."""

CONVERGE = Duration(300 * SECOND)
"""Leaves time to pull the image over a slow line."""

ANSWER_SECONDS = 20.0
"""From the start of the task to its first answer: Python has to start and listen."""

STOP_SECONDS = 60.0

_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM)

_LOOK_AGAIN_SECONDS = 0.05


@click.command(epilog=example("python -m stackd.cli.demo", "python -m stackd.cli.demo --once --executor process"))
@click.option("--once", is_flag=True, help="Make one request, take everything down and end.")
@click.option("--executor", type=click.Choice(("auto", "docker", "process")), default="auto", show_default=True)
@click.option("--docker-host", default="", metavar="URL", help="The engine's address.")
@click.option("--port", type=click.IntRange(1, 65535), default=EXAMPLE_PORT, show_default=True, help="Port to publish.")
def demo(once: bool, executor: str, docker_host: str, port: int) -> None:
    """Run the hello stack on a node of its own and take everything down afterwards."""
    _check_port(port)
    with _workplace(port) as (source, data_dir):
        engine = ("--executor", executor, *(("--docker-host", docker_host) if docker_host else ()))
        with _node(source, data_dir, engine) as node:
            _converge(data_dir, node)
            answer = _first_answer(f"http://127.0.0.1:{port}/")
            click.echo(f"\nhttp://127.0.0.1:{port}/ answers: {answer}")
            if not once:
                click.echo(f"Edit {source / 'stack.yaml'} and watch it roll. Ctrl-C takes everything down.")
                node.wait()
                raise StackdError("demo.node.ended", "the node has ended by itself")


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as exc:
            taken = exc.errno == errno.EADDRINUSE
            reason = "is already in use on this machine" if taken else f"can't be used: {exc.strerror}"
            hint = f"choose another one: make demo ARGS='--port {port + 1}'"
            raise StackdError("demo.port.taken", f"port {port} {reason}", hint=hint) from exc


@contextmanager
def _workplace(port: int) -> Iterator[tuple[Path, Path]]:
    """A copy of the example, publishing `port`, and a data directory; both are gone afterwards."""
    if not EXAMPLE.is_dir():
        raise StackdError("demo.example.missing", f"there is no {EXAMPLE}", hint="run it in a checkout of the project")
    place = Path(tempfile.mkdtemp(prefix="stackd-demo-"))
    try:
        source = place / "hello"
        source.mkdir()
        text = (EXAMPLE / "stack.yaml").read_text(encoding="utf-8").replace(str(EXAMPLE_PORT), str(port))
        (source / "stack.yaml").write_text(text, encoding="utf-8")
        yield source, place / "data"
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _node(source: Path, data_dir: Path, engine: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A running node; afterwards it has ended and all of its tasks are removed.

    It has a session of its own, so that Ctrl-C reaches only the demo, which then takes everything down in order."""
    node = subprocess.Popen(_stackd("up", str(source), "--data-dir", str(data_dir), *engine), start_new_session=True)
    try:
        yield node
    finally:
        with _without_interruptions():
            _take_down(node, data_dir, engine)


def _stackd(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "stackd.cli", *arguments]


@contextmanager
def _without_interruptions() -> Iterator[None]:
    """An impatient second Ctrl-C must not leave half of it standing."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _INTERRUPTIONS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _take_down(node: subprocess.Popen[bytes], data_dir: Path, engine: Sequence[str]) -> None:
    """End the node in order; one that doesn't answer is ended first, and its tasks are then removed without it."""
    click.echo("\nTaking everything down.")
    try:
        if node.poll() is None and not socket_path(data_dir).exists():
            node.terminate()
            node.wait(STOP_SECONDS)
        _down(data_dir, engine)
        node.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()
        _down(data_dir, engine)


def _down(data_dir: Path, engine: Sequence[str]) -> None:
    if data_dir.exists():
        docker_host = engine[2:]
        subprocess.run(_stackd("down", "--data-dir", str(data_dir), *docker_host), timeout=STOP_SECONDS, check=False)


def _converge(data_dir: Path, node: subprocess.Popen[bytes]) -> None:
    """Wait until the node answers and the service runs; the node itself shows the progress."""
    invocation = Invocation(host=f"unix://{socket_path(data_dir)}")

    def answers() -> bool:
        if node.poll() is not None:
            raise StackdError("demo.node.ended", f"the node has ended with exit code {node.returncode}")
        return socket_path(data_dir).exists()

    _wait_until(answers, START_SECONDS, "the node does not answer")
    with invocation.daemon() as daemon:
        wait_for(daemon, NoLines(), Expectation(services=(SERVICE,)), CONVERGE)


def _first_answer(url: str) -> str:
    """The first line that the service answers with. Raises StackdError if it never does."""
    lines: list[str] = []
    reasons: list[str] = []

    def asked() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
                lines.append(answer.readline().decode().strip())
        except OSError as exc:
            reasons.append(str(exc.reason if isinstance(exc, urllib.error.URLError) else exc))
        return bool(lines)

    _wait_until(asked, ANSWER_SECONDS, f"{url} does not answer", reasons)
    return lines[0]


def _wait_until(condition: Callable[[], bool], seconds: float, otherwise: str, reasons: Sequence[str] = ()) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            last = f" ({reasons[-1]})" if reasons else ""
            raise StackdError("demo.timeout", f"{otherwise} after {seconds:g} s{last}")
        time.sleep(_LOOK_AGAIN_SECONDS)


def main() -> NoReturn:
    """Entry point of `python -m stackd.cli.demo`. Also ends in order when it is terminated, or runs in the background."""
    for number in _INTERRUPTIONS:
        signal.signal(number, signal.default_int_handler)
    end_after(lambda: _run(sys.argv[1:]))


def _run(arguments: Sequence[str]) -> int:
    """The demo's exit code: being interrupted is how it is meant to end."""
    try:
        with demo.make_context("stackd-demo", list(arguments)) as context:
            demo.invoke(context)
    except (click.exceptions.Exit, click.Abort, click.ClickException, StackdError, KeyboardInterrupt) as error:
        if text := describe(error, as_json=False):
            click.echo(text, err=True)
        return 0 if isinstance(error, KeyboardInterrupt) else exit_code(error)
    return 0


if __name__ == "__main__":
    main()
