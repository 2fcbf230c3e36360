"""The data directory: what a node knows of itself when it starts, and so what it is.

    node.json   raft/   tls/     what the node is
    -           -       -        nothing yet: it waits, or founds a cluster of one
    there       there   -        the only manager of a cluster of one, without listeners
    there       there   there    a manager
    there       -       there    a worker; or about to be a manager, if its certificate is one's

What it is changes by a file that comes or goes as a whole, so a crash leaves it one or the other. `agent/` and the executors'
directories belong to the node's tasks and not to what it is.
"""

from __future__ import annotations

import enum
import shutil
from pathlib import Path

import msgspec

from stackd.base.errors import StackdError
from stackd.base.time import Instant
from stackd.daemon.credentials import DIRECTORY as TLS
from stackd.daemon.credentials import Credentials, replace_file
from stackd.daemon.identity import Identity, forget_identity, load_identity, save_identity
from stackd.raft.directory import Directory, is_created, open_directory
from stackd.raft.frame import Identity as LogIdentity
from stackd.security.identity import NodeKey
from stackd.security.keyring import NodeKeys
from stackd.security.keys import RootKey

_JOINING_KEY = "joining.pem"


class Station(enum.StrEnum):
    """What a node is, as its directory has it."""

    IDLE = "idle"
    ALONE = "alone"
    WORKER = "worker"
    MANAGER = "manager"


class Home:
    """The data directory at `path`; the caller holds its lock."""

    def __init__(self, path: Path) -> None:
        """Raises StackdError("daemon.identity.damaged"); ("daemon.identity.missing") if a log is there without an identity:
        under another name the node would not find its tasks; or as `Credentials.load` does."""
        self.path = path
        self._identity = load_identity(path)
        if self._identity is None and is_created(self.log):
            raise StackdError(
                "daemon.identity.missing",
                f"{path} holds a log but not whose it is (node.json)",
                hint="put node.json back from a backup",
            )
        self.credentials = Credentials.load(path) if self._identity is not None and Credentials.exist(path) else None

    @property
    def known(self) -> Identity | None:
        """Who this node is, if it has a name."""
        return self._identity

    @property
    def identity(self) -> Identity:
        """The same for a node that has one."""
        assert self._identity is not None
        return self._identity

    @property
    def station(self) -> Station:
        if self._identity is None:
            return Station.IDLE
        if self.credentials is not None:
            return Station.MANAGER if is_created(self.log) else Station.WORKER
        return Station.ALONE if is_created(self.log) else Station.IDLE

    def remember(self, identity: Identity) -> None:
        """Be this one from now on."""
        if identity != self._identity:
            save_identity(self.path, identity)
            self._identity = identity

    def remember_managers(self, managers: tuple[str, ...]) -> None:
        """Where managers are; an empty list says nothing."""
        if managers:
            self.remember(msgspec.structs.replace(self.identity, managers=managers))

    # What a manager has

    def open_keys(self, unlock_key: str = "") -> NodeKeys:
        """The key file; a new one for a cluster that is being founded. Raises as `NodeKeys.open` and `create` do."""
        if self.key.exists() or is_created(self.log):
            return NodeKeys.open(self.key, unlock_key)
        return NodeKeys.create(self.key)

    def open_log(self, keys: NodeKeys) -> Directory:
        """The log; an empty one if there is none. Raises as `open_directory` does."""
        identity = self.identity
        return open_directory(self.log, keys.log, LogIdentity(identity.cluster_id, identity.node_id))

    def become_manager(self, cluster_key: bytes, unlock_key: str, membership: bytes) -> None:
        """Prepare everything with which a member of an existing cluster starts; the log comes last. Raises what making the
        files raises."""
        self.end_as_manager()
        keys = NodeKeys.create(self.key, RootKey(cluster_key))
        keys.follow(unlock_key)
        self.remember(msgspec.structs.replace(self.identity, membership=membership))
        self.open_log(keys)

    def end_as_manager(self) -> None:
        """Forget what only managers know. The log goes first, by its name: without it the node is no manager."""
        if is_created(self.log):
            gone = self.log.with_name("raft.gone")
            shutil.rmtree(gone, ignore_errors=True)
            self.log.rename(gone)
        shutil.rmtree(self.log.with_name("raft.gone"), ignore_errors=True)
        self.key.unlink(missing_ok=True)

    # What a member of a cluster has

    def joining_key(self) -> NodeKey:
        """The key with which this node joins: the same at each attempt until it is in, so that it stays the same node."""
        path = self.path / _JOINING_KEY
        if path.exists():
            return NodeKey.load(path.read_bytes())
        key = NodeKey.create()
        replace_file(path, key.pem())
        return key

    def enter(self, identity: Identity, certificate: bytes, key: NodeKey, roots: bytes, now: Instant) -> None:
        """Be a member of a cluster with this first certificate. Raises as `Credentials.create` does."""
        self.remember(identity)
        self.credentials = Credentials.create(self.path, certificate, key, roots, now)
        (self.path / _JOINING_KEY).unlink(missing_ok=True)

    def forget(self) -> None:
        """Be nobody again. The node's tasks are gone by now."""
        shutil.rmtree(self.path / TLS, ignore_errors=True)
        self.credentials = None
        self.end_as_manager()
        forget_identity(self.path)
        self._identity = None

    @property
    def log(self) -> Path:
        """Where the log is, or would be."""
        return self.path / "raft"

    @property
    def key(self) -> Path:
        """Where a manager's key file is, or would be."""
        return self.path / "key"
