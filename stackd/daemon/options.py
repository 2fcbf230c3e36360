"""What a daemon is started with, and what it tells whoever started it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stackd.base.time import SECOND, Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What `stackd up` or `stackd daemon` was asked for. Either `source_dir` or `git` names the source; neither means: only
    serve.

    `waits`: in an empty directory the node waits until it is told to found or to join a cluster, as `stackd daemon` does;
    else it is a cluster of its own. `executor` is auto, docker or process; auto is decided once per data directory.
    `docker_host` "" means $DOCKER_HOST or the engine's usual socket. `interval_ns` is how often a git source is looked at.
    `metrics_address` is HOST:PORT, "" for none. `listen` and `advertise` are HOST[:PORT], "" for what they were: where the node
    serves others while it is a manager, and how they reach it. `managers` are HOST[:PORT] of managers that may not be where
    the node remembers them: they are asked first, and a manager looks there for those that it doesn't find."""

    data_dir: Path
    source_dir: Path | None = None
    git: str | None = None
    ref: str = ""
    path: str = ""
    interval_ns: Duration = Duration(30 * SECOND)
    executor: str = "auto"
    docker_host: str = ""
    log_level: str = "warning"
    waits: bool = False
    metrics_address: str = ""
    listen: str = ""
    advertise: str = ""
    managers: tuple[str, ...] = ()


class Observer(Protocol):
    """Whoever started the daemon and wants to show something. Calls are quick, come from the daemon's loop and don't raise."""

    def ready(self, socket: Path, executor: str) -> None:
        """The API answers on `socket`. `executor` is "" while the node belongs to no cluster."""
        ...

    def note(self, message: str) -> None:
        """Something a person should know, in one sentence."""
        ...
