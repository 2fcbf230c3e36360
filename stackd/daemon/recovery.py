"""What is done to a data directory while no daemon uses it: a backup of it, a node made from a backup, and going on alone after
a quorum was lost for good.

A restored node is a new one: it has a name and keys of its own, and is the only manager of the cluster in the backup. If that
cluster had certificates, it gets one signed by the same root, so that the nodes of old accept it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stackd.base.errors import Refused
from stackd.base.ids import NodeId, new_id
from stackd.base.time import Instant
from stackd.daemon.addresses import Addresses, chosen
from stackd.daemon.clock import SystemClock
from stackd.daemon.executors import DOCKER, choose_executor, docker_host
from stackd.daemon.home import Home, Station
from stackd.daemon.identity import Identity
from stackd.daemon.options import UpOptions
from stackd.engine.model import Authority
from stackd.engine.parts import Role
from stackd.engine.store import Store
from stackd.engine.view import View
from stackd.manager.authority import Issuer, roots_of
from stackd.raft.backup import Backup, content_of, key_file_in, open_backup, write_backup
from stackd.raft.directory import DirectoryLock
from stackd.raft.frame import Kind
from stackd.raft.membership import Membership, decode_membership
from stackd.raft.restore import recover, restore
from stackd.security.identity import NodeKey
from stackd.security.keyring import NodeKeys
from stackd.security.keys import Purpose


@dataclass(frozen=True, slots=True)
class Restored:
    """The node that came of a backup, and what the backup held: when the cluster last wrote something, and how much."""

    identity: Identity
    as_of: Instant
    stacks: int
    nodes: int


def back_up(data_dir: Path, path: Path, unlock_key: str = "") -> None:
    """Write a backup of the manager in `data_dir` to `path`. Raises Refused("daemon.not_a_manager"); what opening keys and log
    or writing the backup raises."""
    with _manager_at(data_dir) as home:
        keys = home.open_keys(unlock_key)
        content = content_of(home.log, keys.log, _first_membership(home.identity))
        write_backup(path, content, keys.cluster.sealer(Purpose.BACKUP), keys.copy())


def force_new(data_dir: Path, unlock_key: str = "") -> Identity:
    """Make the manager in `data_dir` the only one of its cluster, with all that its log holds. Raises the same."""
    with _manager_at(data_dir) as home:
        keys = home.open_keys(unlock_key)
        recover(home.log, keys.log, _first_membership(home.identity))
        return home.identity


def restore_node(backup: Path, options: UpOptions, *, listen: str = "", advertise: str = "", unlock_key: str = "") -> Restored:
    """Make the data directory that `options` names that of the only manager of the cluster in `backup`. Addresses are
    HOST[:PORT], "" for the default. Raises Refused("daemon.restore.not_empty"); what reading the backup or choosing an address
    raises. The directory is as before then."""
    with _directory(options.data_dir) as home:
        if home.station is not Station.IDLE or home.key.exists():
            hint = "restore into another --data-dir, or move this one away first"
            raise Refused("daemon.restore.not_empty", f"there is a node in {options.data_dir} already", hint=hint)
        old_keys = NodeKeys.parse(key_file_in(backup), home.key, unlock_key)
        with open_backup(backup, old_keys.cluster.sealer(Purpose.BACKUP)) as opened:
            cluster, view = opened.identity.cluster, _state_in(opened)
        addresses = chosen(listen, advertise) if view.authority is not None else None
        identity = _new_identity(options, cluster, addresses)
        try:
            _fill(home, backup, old_keys, identity, addresses, view.authority)
        except BaseException:
            home.forget()
            raise
        return Restored(identity, view.now, len(view.stacks), len(view.nodes))


def _fill(
    home: Home,
    backup: Path,
    old_keys: NodeKeys,
    identity: Identity,
    addresses: Addresses | None,
    authority: Authority | None,
) -> None:
    """Everything that makes a manager; the log comes last."""
    keys = old_keys.copy_to(home.key)
    if authority is None:
        home.remember(identity)
    else:
        clock, key = SystemClock(), NodeKey.create()
        issuer = Issuer(lambda: authority, keys.cluster.sealer(Purpose.AUTHORITY), clock)
        certificate = issuer.issue_node(key.request(), identity.node_id, Role.MANAGER)
        home.enter(identity, certificate, key, roots_of(authority), clock.now())
    place = addresses.advertise.consensus if addresses is not None else ""
    restore(backup, home.log, keys.log, keys.cluster.sealer(Purpose.BACKUP), identity.node_id, place)


def _new_identity(options: UpOptions, cluster: str, addresses: Addresses | None) -> Identity:
    executor = choose_executor(options, None, tasks_known=False)
    advertise = str(addresses.advertise) if addresses is not None else ""
    return Identity(
        node_id=NodeId(new_id(random.SystemRandom())),
        cluster_id=cluster,
        executor=executor,
        docker_host=docker_host(options) if executor == DOCKER else "",
        listen=str(addresses.listen) if addresses is not None else "",
        advertise=advertise,
        managers=(advertise,) if advertise else (),
    )


def _state_in(backup: Backup) -> View:
    """The state that the backup holds, its last entries included: it has been read whole."""
    snapshot = b"".join(backup.chunks())
    store = Store.restore(snapshot) if snapshot else Store()
    for entry in backup.entries():
        if entry.kind is Kind.ENTRY:
            store.apply(entry.index, entry.body)
    return store.view


def _first_membership(identity: Identity) -> Membership:
    """Who the members are as long as the log doesn't say."""
    return decode_membership(identity.membership) if identity.membership else Membership.sole(identity.node_id)


@contextmanager
def _manager_at(data_dir: Path) -> Iterator[Home]:
    with _directory(data_dir) as home:
        if home.station not in (Station.ALONE, Station.MANAGER):
            raise Refused("daemon.not_a_manager", f"the node in {data_dir} is no manager", hint="go to one that was")
        yield home


@contextmanager
def _directory(data_dir: Path) -> Iterator[Home]:
    """The data directory for us alone. Raises StackdError("raft.directory.in_use") while a daemon uses it."""
    lock = DirectoryLock.acquire(data_dir)
    try:
        yield Home(data_dir)
    finally:
        lock.release()
