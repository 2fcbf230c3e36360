"""Which executor a node gets."""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from stackd.agent.executor.docker import DockerExecutor
from stackd.agent.executor.process import ProcessExecutor
from stackd.base.errors import Refused
from stackd.base.ids import NodeId
from stackd.daemon import executors
from stackd.daemon.executors import build_executor, choose_executor, docker_host
from stackd.daemon.identity import Identity
from stackd.daemon.options import UpOptions


def options(tmp_path: Path, executor: str = "auto", docker_host: str = "") -> UpOptions:
    return UpOptions(data_dir=tmp_path, executor=executor, docker_host=docker_host)


def identity(executor: str, docker_host: str = "") -> Identity:
    return Identity(node_id=NodeId("n"), cluster_id="c", executor=executor, docker_host=docker_host)


class _Engine(BaseHTTPRequestHandler):
    """As much of a Docker engine as says that it is one."""

    def do_GET(self) -> None:
        body = json.dumps({"ApiVersion": "1.43", "MinAPIVersion": "1.12", "Version": "24"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a unix socket"

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def an_engine(path: Path) -> Iterator[None]:
    with socketserver.ThreadingUnixStreamServer(os.fspath(path), _Engine) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def usual_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the engine of this test's host would be."""
    path = tmp_path / "docker.sock"
    monkeypatch.setattr(executors, "_USUAL_SOCKET", os.fspath(path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    return path


def test_the_engines_address_is_what_was_asked_for_else_the_last_one_else_the_environments_else_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usual_socket: Path
) -> None:
    assert docker_host(options(tmp_path)) == f"unix://{usual_socket}"
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    assert docker_host(options(tmp_path)) == "tcp://elsewhere:2375"
    remembered = identity("docker", "unix:///remembered")
    assert docker_host(options(tmp_path), remembered) == "unix:///remembered"
    assert docker_host(options(tmp_path, docker_host="unix:///mine"), remembered) == "unix:///mine"


def test_a_host_without_an_engine_runs_processes(tmp_path: Path) -> None:
    assert choose_executor(options(tmp_path), None, tasks_known=False) == "process"


def test_a_file_that_is_no_socket_is_no_engine(tmp_path: Path, usual_socket: Path) -> None:
    usual_socket.write_text("")
    assert choose_executor(options(tmp_path), None, tasks_known=False) == "process"


def test_an_engine_that_answers_is_used(tmp_path: Path, usual_socket: Path) -> None:
    with an_engine(usual_socket):
        assert choose_executor(options(tmp_path), None, tasks_known=False) == "docker"
    assert choose_executor(options(tmp_path), None, tasks_known=False) == "process"  # the socket is there, nobody listens


def test_an_engine_that_is_asked_for_by_name_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_executor(options(tmp_path, docker_host="unix:///not/there/yet"), None, tasks_known=False) == "docker"
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    assert choose_executor(options(tmp_path), None, tasks_known=False) == "docker"


def test_what_was_decided_once_stays_although_the_engine_is_away(tmp_path: Path) -> None:
    assert choose_executor(options(tmp_path), identity("docker"), tasks_known=True) == "docker"
    assert choose_executor(options(tmp_path, "docker"), identity("docker"), tasks_known=True) == "docker"


def test_the_kind_can_be_changed_only_while_no_task_is_left(tmp_path: Path) -> None:
    assert choose_executor(options(tmp_path, "process"), identity("docker"), tasks_known=False) == "process"
    with pytest.raises(Refused) as refused:
        choose_executor(options(tmp_path, "process"), identity("docker"), tasks_known=True)
    assert refused.value.code == "daemon.executor.changed"
    assert "--executor docker" in (refused.value.hint or "")


def test_each_kind_is_built_by_its_name(tmp_path: Path) -> None:
    assert isinstance(build_executor(identity("docker", "unix:///run/docker.sock"), tmp_path), DockerExecutor)
    assert isinstance(build_executor(identity("process"), tmp_path), ProcessExecutor)


def test_a_node_imports_the_executor_that_it_will_have_and_no_other() -> None:
    script = """
import sys
from pathlib import Path
from stackd.daemon.executors import import_executor
from stackd.daemon.options import UpOptions
before = set(sys.modules)
import_executor(UpOptions(data_dir=Path("data"), executor="process", docker_host=""), None)
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert "stackd.agent.executor.process.executor" in done.stdout.split()
    assert "stackd.agent.executor.docker" not in done.stdout.split()
