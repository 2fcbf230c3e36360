"""Bad input gets a clear error and changes nothing; whatever was wrong, the node goes on once it is put right."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from node import NOBODY, RunningNode, http, running_node
from node_stacks import web, workers


def test_a_malformed_edit_changes_nothing_is_shown_with_its_place_and_can_be_repaired(node: RunningNode) -> None:
    good = workers("1")
    node.write("work.yaml", good)
    node.converged("work_job")
    before = node.tasks("work_job")

    node.write("work.yaml", good.replace("replicas: 3", "replcas: 3"))
    node.eventually(lambda: node.status().sources[0].error, "the error is reported")
    said = node.cli("status")
    assert "work.yaml:17:7" in said.out
    assert 'did you mean "replicas"?' in said.out
    status = node.cli("status", "-o", "json").json()
    assert (status["sync"], status["health"], status["converged"]) == ("error", "healthy", True)
    synced = node.cli("sync")
    assert synced.code == 1
    assert "work.yaml:17:7" in synced.err

    node.write("work.yaml", "services: [\n")
    node.eventually(lambda: "work.yaml:1:12" in node.status().sources[0].error, "the next error is reported")
    assert node.tasks("work_job") == before

    node.change("work_job", lambda: node.write("work.yaml", workers("2")))
    assert node.status().sources[0].error == ""
    assert not {task.id for task in before} & {task.id for task in node.tasks("work_job")}


def test_apply_refuses_a_bad_file_with_all_its_errors_and_changes_nothing(node: RunningNode) -> None:
    bad = node.home / "bad.yaml"
    bad.write_text("name: bad\nservices:\n  a:\n    image: x:1\n    prots: ['80:80']\n  b:\n    command: [3]\n")
    done = node.cli("apply", "-f", bad)
    assert done.code == 1
    assert "bad.yaml:5:5" in done.err
    assert 'did you mean "ports"' in done.err
    assert "services.b" in done.err
    assert node.services() == {}


def test_a_data_directory_in_use_is_refused_and_the_one_who_has_it_goes_on(process_node: RunningNode) -> None:
    second = process_node.launch()
    assert second.wait(30) == 1
    log = (process_node.home / "daemon.log").read_text()
    assert "is in use" in log
    assert f"process {process_node.pid}" in log
    assert process_node.cli("status").code == 0


def test_a_source_that_can_never_work_ends_the_daemon_with_one_clear_line() -> None:
    with running_node("process", uid=None if os.geteuid() else NOBODY, started=False) as node:
        node.follows = ("--git", "https://ann:hunter2@git.example.org/ops.git")
        assert node.launch().wait(30) == 1
        said = (node.home / "daemon.log").read_text()
    assert "error[source.url.secret]: the URL of the source" in said
    assert "Traceback" not in said
    assert "hunter2" not in said


def test_a_port_in_use_is_named_in_the_tasks_error_and_taken_once_it_is_free(node: RunningNode) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        node.write("hello.yaml", web(port, "hello"))

        def errors() -> list[str]:
            return [task.error for task in node.history("hello_web") if str(port) in task.error]

        node.until(lambda services: str(port) in services["hello_web"].message, "the port is named")
        assert "in use" in errors()[0]
    node.eventually(lambda: http(port) == "hello", "the port is taken once it is free")


BALLAST = "ballast"


@pytest.fixture
def small_disk(idle_node: RunningNode) -> Iterator[RunningNode]:
    """A running node whose data directory is a file system of 8 MiB."""
    data = idle_node.data
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", data], check=True)
    try:
        yield idle_node.start()
    finally:
        (data / BALLAST).unlink(missing_ok=True)
        idle_node.close()
        subprocess.run(["umount", "--lazy", data], check=True)
        data.rmdir()


def _fill(path: Path) -> Path:
    """Take all the room there is."""
    ballast = path / BALLAST
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1024)):
                pass
        except OSError:
            return ballast
    raise AssertionError("there is no end to the disk")


def test_on_a_full_disk_changes_are_refused_and_the_state_stands(small_disk: RunningNode) -> None:
    node = small_disk
    node.write("work.yaml", workers())
    node.converged("work_job")
    before = node.tasks("work_job")
    more = node.home / "more.yaml"
    more.write_text(workers(name="more", replicas=1))
    big = node.home / "big.yaml"
    big.write_text(workers(name="big", extra="    configs: [noise]\nconfigs:\n  noise:\n    file: ./noise\n"))
    (node.home / "noise").write_bytes(os.urandom(600_000))  # more than the room that the log has made in advance

    ballast = _fill(node.data)
    refused = node.cli("apply", "-f", big)
    assert refused.code == 1
    assert "No space left" in refused.err
    assert node.tasks("work_job") == before
    assert [stack.name for stack in node.status().stacks] == ["work"]

    ballast.unlink()
    done = node.cli("apply", "-f", more)
    assert done.code == 0, done.err
    assert node.tasks("work_job") == before
    _fill(node.data)
    node.kill()
    node.start()
    assert node.cli("status").code == 0, "a daemon that starts on a full disk says what it knows"
    assert [task.id for task in node.tasks("work_job")] == [task.id for task in before]
    refused = node.cli("apply", "-f", big)
    assert refused.code == 1
    assert "No space left" in refused.err
    ballast.unlink()
    node.converged("work_job", "more_job")
    assert [task.id for task in node.tasks("work_job")] == [task.id for task in before]
