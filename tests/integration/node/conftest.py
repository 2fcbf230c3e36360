"""One private engine for all tests here, and a node of its own, on either executor, for each of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from dockerd import PrivateDockerd, private_dockerd
from images import python_archive
from node import NOBODY, RunningNode, running_node

IMAGE = "python:3-alpine"
"""The name the examples use; here it stands for what the host has."""

DOCKER = pytest.param("docker", marks=pytest.mark.needs("docker", "root", "net"))
PROCESS = pytest.param("process", marks=pytest.mark.needs("root", "net"))


@pytest.fixture(scope="session")
def engine() -> Iterator[PrivateDockerd]:
    with private_dockerd() as engine:
        engine.import_image(IMAGE, python_archive())
        yield engine


@pytest.fixture(params=[DOCKER, PROCESS])
def node(request: pytest.FixtureRequest) -> Iterator[RunningNode]:
    """A running node that follows an empty directory."""
    with running_node(request.param, _engine_for(request.param, request)) as node:
        yield node


@pytest.fixture(params=[DOCKER])
def docker_node(request: pytest.FixtureRequest) -> Iterator[RunningNode]:
    with running_node("docker", _engine_for("docker", request)) as node:
        yield node


@pytest.fixture(params=[PROCESS])
def process_node() -> Iterator[RunningNode]:
    with running_node("process") as node:
        yield node


@pytest.fixture(params=[DOCKER, PROCESS])
def idle_node(request: pytest.FixtureRequest) -> Iterator[RunningNode]:
    """A node that has not been started yet."""
    with running_node(request.param, _engine_for(request.param, request), started=False) as node:
        yield node


@pytest.fixture
def plain_node() -> Iterator[RunningNode]:
    """A running node of a normal user."""
    with running_node("process", uid=None if os.geteuid() else NOBODY) as node:
        yield node


def _engine_for(executor: str, request: pytest.FixtureRequest) -> PrivateDockerd | None:
    if executor != "docker":
        return None
    engine: PrivateDockerd = request.getfixturevalue("engine")
    return engine
