"""Who this node is: named when its data directory is first used, and what it has to remember before it can read its log."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from stackd.base.errors import StackdError
from stackd.base.ids import Entropy, NodeId, new_id

_NAME = "node.json"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """`executor` is what "auto" was decided to be: a node doesn't change it while tasks of the other kind may run.
    `docker_host` is where its engine is, so that a later `stackd down` finds the containers without being told.

    `listen` and `advertise` are HOST:PORT, where the node serves others while it is a manager, and how they reach it; "" in a
    cluster of one. `managers` is where managers were found last. `membership` is who the members of consensus were when this
    node was made one (`raft.membership`), b"" if it founded the cluster: it counts until the log says more."""

    node_id: NodeId
    cluster_id: str
    executor: str
    docker_host: str = ""
    listen: str = ""
    advertise: str = ""
    managers: tuple[str, ...] = ()
    membership: bytes = b""


def load_identity(data_dir: Path) -> Identity | None:
    """The node's identity, None in a new directory. Raises StackdError("daemon.identity.damaged")."""
    path = data_dir / _NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Identity)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as exc:
        raise StackdError(
            "daemon.identity.damaged",
            f"{path} does not say who this node is: {exc}",
            hint="put the file back from a backup",
        ) from exc


def new_identity(entropy: Entropy, executor: str) -> Identity:
    """Name a new node of a new cluster."""
    return Identity(node_id=NodeId(new_id(entropy)), cluster_id=new_id(entropy), executor=executor)


def save_identity(data_dir: Path, identity: Identity) -> None:
    """Replace the file atomically and durably."""
    path = data_dir / _NAME
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(identity)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    descriptor = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def forget_identity(data_dir: Path) -> None:
    """Be nobody again."""
    (data_dir / _NAME).unlink(missing_ok=True)
