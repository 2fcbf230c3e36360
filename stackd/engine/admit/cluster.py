"""Changes of the cluster's own settings, and of who may use it from afar."""

from __future__ import annotations

import ipaddress
import re
from itertools import combinations

import msgspec

from stackd.base.time import DAY, HOUR, Duration
from stackd.engine.admit.refusal import Refusal
from stackd.engine.dirty import Dirty
from stackd.engine.draft import Draft
from stackd.engine.inputs import Applied, PutUser, RemoveUser, UpdateCluster
from stackd.engine.model import Cluster, User

HISTORY_MAX = 100
"""The most records per slot: what a person would look through, times a thousand services."""

REBALANCE_MAX = 1_000
"""The most tasks that are moved at once."""

LIFE_MIN = Duration(HOUR)
"""Certificates that live for less would be renewed all the time (semantics 20)."""

LIFE_MAX = Duration(3650 * DAY)

POOLS_MAX = 64
"""Each is looked through for every network."""

SUBNET_BITS_MIN = 8
SUBNET_BITS_MAX = 29
"""The largest prefix that leaves room for a gateway and a few tasks."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def update_cluster(draft: Draft, dirty: Dirty, given: UpdateCluster) -> Applied:
    """Store the settings that are given; everything is looked at again under them."""
    present = draft.cluster
    if present is None:
        raise Refusal("cluster.unknown", "the cluster has no record yet", "try again in a moment")
    changed = present
    if given.history_limit is not None:
        _check("history", given.history_limit, 1, HISTORY_MAX)
        changed = msgspec.structs.replace(changed, history_limit=given.history_limit)
    if given.rebalance_tasks is not None:
        _check("rebalance", given.rebalance_tasks, 0, REBALANCE_MAX)
        changed = msgspec.structs.replace(changed, rebalance_tasks=given.rebalance_tasks)
    if given.sealed_unlock_key is not None:
        changed = msgspec.structs.replace(changed, sealed_unlock_key=given.sealed_unlock_key)
    changed = _with_pools(changed, given)
    lives_otherwise = _set_certificate_life(draft, given.certificate_life_ns)
    if changed == present and not lives_otherwise:
        return Applied(changed=False)
    draft.put(changed)
    dirty.mark_all(draft)
    draft.event("cluster.changed", "cluster", "settings changed", principal=given.principal)
    return Applied(changed=True, version=draft.next_version)


def _with_pools(cluster: Cluster, given: UpdateCluster) -> Cluster:
    """The cluster with other pools, or subnets of another size, for the networks to come."""
    if given.address_pools is None and given.subnet_bits is None:
        return cluster
    pools = cluster.address_pools if given.address_pools is None else given.address_pools
    bits = cluster.subnet_bits if given.subnet_bits is None else given.subnet_bits
    _check("the mask length of subnets", bits, SUBNET_BITS_MIN, SUBNET_BITS_MAX)
    _check("the number of address pools", len(pools), 1, POOLS_MAX)
    networks = [_pool(text, bits) for text in pools]
    for one, other in combinations(networks, 2):
        if one.overlaps(other):
            raise Refusal("cluster.pool", f"the address pools {one} and {other} overlap")
    return msgspec.structs.replace(cluster, address_pools=tuple(map(str, networks)), subnet_bits=bits)


def _pool(text: str, bits: int) -> ipaddress.IPv4Network:
    try:
        pool = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise Refusal("cluster.pool", f'"{text}" is no address pool: {error}', "write it as 10.64.0.0/12") from error
    if pool.prefixlen < SUBNET_BITS_MIN or pool.is_loopback or pool.is_multicast:
        raise Refusal("cluster.pool", f"{pool} is no range for the addresses of networks", "use a part of 10.0.0.0/8")
    if pool.prefixlen > bits:
        raise Refusal("cluster.pool", f"the address pool {pool} has no room for a subnet of /{bits}", "use a larger pool")
    return pool


def _set_certificate_life(draft: Draft, life_ns: Duration | None) -> bool:
    """Let the certificates issued from now on live that long; whether that is new."""
    if life_ns is None:
        return False
    if draft.authority is None:
        raise Refusal("cluster.authority.missing", "the cluster has no certificates", "`stackd cluster init` makes them")
    if not LIFE_MIN <= life_ns <= LIFE_MAX:
        raise Refusal("cluster.setting", "certificates must live between 1 hour and 10 years")
    changed = msgspec.structs.replace(draft.authority, certificate_life_ns=life_ns, version=draft.next_version)
    if life_ns == draft.authority.certificate_life_ns:
        return False
    draft.put(changed)
    return True


def put_user(draft: Draft, given: PutUser) -> Applied:
    """Let somebody in, or change the role."""
    if not _NAME.fullmatch(given.name):
        raise Refusal("cluster.user.name", f'"{given.name}" is no name for a user', "letters, digits and . _ @ -, up to 64")
    present = draft.users.get(given.name)
    if present is not None and present.role is given.role:
        return Applied(changed=False, version=present.version)
    created_at = present.created_at if present is not None else draft.now
    draft.put(User(name=given.name, role=given.role, created_at=created_at, version=draft.next_version))
    draft.event("cluster.user", given.name, f"may call as {given.role}", principal=given.principal)
    return Applied(changed=True, version=draft.next_version)


def remove_user(draft: Draft, given: RemoveUser) -> Applied:
    """Whatever certificates the user has are worth nothing from now on."""
    if given.name not in draft.users:
        raise Refusal("cluster.user.unknown", f'there is no user "{given.name}"', "`stackd cluster ca users` lists them")
    draft.delete(User, given.name)
    draft.event("cluster.user", given.name, "removed", principal=given.principal)
    return Applied(changed=True, version=draft.next_version)


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise Refusal("cluster.setting", f"{name} must be between {least} and {most}, not {value}")
