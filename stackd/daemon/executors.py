"""Which executor a node gets: asked for, remembered, or found by looking once for a Docker engine."""

from __future__ import annotations

import os
import stat
from importlib import import_module
from pathlib import Path

from stackd.agent.executor.base import Executor
from stackd.base.errors import Refused
from stackd.daemon.identity import Identity
from stackd.daemon.options import UpOptions

DOCKER = "docker"
PROCESS = "process"
AUTO = "auto"
_USUAL_SOCKET = "/var/run/docker.sock"


def docker_host(options: UpOptions, identity: Identity | None = None) -> str:
    """Where the engine is: as asked, else where it was the last time, else $DOCKER_HOST, else its usual socket."""
    remembered = identity.docker_host if identity is not None else ""
    return options.docker_host or remembered or os.environ.get("DOCKER_HOST", "") or f"unix://{_USUAL_SOCKET}"


def choose_executor(options: UpOptions, identity: Identity | None, tasks_known: bool) -> str:
    """The kind of executor. "auto" is decided once and remembered, so that an engine that is down at a later start does
    not make the node forget its containers. Raises Refused("daemon.executor.changed") while tasks of the other kind may run."""
    if identity is None:
        return _look(options) if options.executor == AUTO else options.executor
    if options.executor in (AUTO, identity.executor):
        return identity.executor
    if tasks_known:
        raise Refused(
            "daemon.executor.changed",
            f"this node runs tasks with the {identity.executor} executor",
            hint=f"run `stackd down` first, or start it with --executor {identity.executor}",
        )
    return options.executor


def _look(options: UpOptions) -> str:
    """Docker if an engine is asked for by name or its socket is there and ours to use; else processes."""
    if options.docker_host:
        return DOCKER
    host = docker_host(options)
    if not host.startswith("unix://"):
        return DOCKER
    path = host.removeprefix("unix://")
    try:
        usable = stat.S_ISSOCK(os.stat(path).st_mode) and os.access(path, os.R_OK | os.W_OK)
    except OSError:
        usable = False
    return DOCKER if usable and _answers(host) else PROCESS


def _answers(host: str) -> bool:
    from stackd.agent.executor.docker import ping

    return ping(host)


def import_executor(options: UpOptions, identity: Identity | None) -> None:
    """Import what the node's executor will take. That is a tenth of a second, for which nobody has to wait as long as the node
    is in no cluster."""
    import_module(f"stackd.agent.executor.{choose_executor(options, identity, tasks_known=False)}")


def build_executor(identity: Identity, data_dir: Path) -> Executor:
    """The adapter itself; its library is imported only here."""
    if identity.executor == DOCKER:
        from stackd.agent.executor.docker import DockerExecutor

        return DockerExecutor(identity.docker_host, data_dir / "docker")
    from stackd.agent.executor.process import ProcessExecutor

    return ProcessExecutor(data_dir / "process", hidden=data_dir)
