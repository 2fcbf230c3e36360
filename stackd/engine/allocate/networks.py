"""Subnets, gateways and VXLAN ids for networks (semantics 15.2), and taking them back.

A network that can't get its subnet keeps the reason and is tried again when another one has gone. A network that is removed
keeps its subnet until the last address in it has come back, so nothing is ever given out twice.
"""

from __future__ import annotations

import hashlib

import msgspec

from stackd.engine.allocate.addresses import AddressBook
from stackd.engine.allocate.ipmath import Range, TakenRanges, address_number, space_of, subnet_range
from stackd.engine.draft import Draft
from stackd.engine.model import Cluster, Network
from stackd.engine.status import NetworkStatus
from stackd.engine.view import View
from stackd.spec.stack import NetworkSpec, Pool

OVERLAY = "overlay"
NODE_LOCAL = frozenset({"bridge", "host", "none", "null", "macvlan", "ipvlan"})
"""Drivers whose networks end at the node: their addresses are the node's business."""

PREDEFINED = frozenset({"bridge", "host", "none"})
"""Networks that every node has, without anybody making them."""

VXLAN_FIRST = 4096
VXLAN_LAST = (1 << 24) - 1
_VXLAN_OPTION = "com.docker.network.driver.overlay.vxlanid_list"

V6_PREFIX = 64

PENDING = "allocate.pending"
EXHAUSTED = "allocate.subnet.exhausted"
TAKEN = "allocate.subnet.taken"


class _Unavailable(Exception):
    """The network can't have what it asks for now."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


def is_addressed(spec: NetworkSpec) -> bool:
    """Whether stackd gives out the addresses of such a network."""
    return spec.driver not in NODE_LOCAL and spec.ipam_driver in ("", "default")


def unallocated(network: Network) -> NetworkStatus:
    """The status of a network that has just been made."""
    reason = PENDING if is_addressed(network.spec) else ""
    return NetworkStatus(id=network.id, name=network.name, reason=reason)


def provide(draft: Draft) -> bool:
    """Give every network that lacks it its subnet, in the order in which they were made; whether one has got it."""
    waiting = [
        (network.created_at, network.name, status)
        for status in draft.subnetless_networks()
        if (network := draft.networks.get(status.name)) is not None and network.id == status.id
    ]
    if not waiting:
        return False
    taken, vnis = _taken(draft), {status.vni for status in draft.network_statuses.values() if status.vni}
    provided = False
    for _, name, status in sorted(waiting, key=lambda item: item[:2]):
        network = draft.networks.get(name)
        if network is not None:
            provided = _provide(draft, network, status, taken, vnis) or provided
    return provided


def _taken(draft: Draft) -> TakenRanges:
    """What new subnets must not overlap with: those given out, and the addresses of the nodes themselves."""
    ranges = [space_of(pool).subnet for status in draft.network_statuses.values() for pool in status.pools]
    for node in draft.node_statuses.values():
        try:
            version, number = address_number(node.address)
        except ValueError:
            continue  # a node without an address, or with a name
        ranges.append(Range(version, number, number))
    return TakenRanges(ranges)


def _provide(draft: Draft, network: Network, status: NetworkStatus, taken: TakenRanges, vnis: set[int]) -> bool:
    try:
        pools = _pools(draft, network.spec, taken)
        vni = _vni(network.spec, vnis) if network.spec.driver == OVERLAY else 0
    except _Unavailable as error:
        if status.reason != error.code:
            draft.event("network.unallocated", network.name, error.sentence, stack=network.stack)
        draft.put(msgspec.structs.replace(status, reason=error.code, error=error.sentence))
        return False
    for pool in pools:
        taken.add(space_of(pool).subnet)
    vnis.add(vni)
    cursors = (0,) * len(pools)
    draft.put(msgspec.structs.replace(status, pools=pools, vni=vni, cursors=cursors, reason="", error=""))
    return True


def _pools(view: View, spec: NetworkSpec, taken: TakenRanges) -> tuple[Pool, ...]:
    """The pools of a network, complete with subnet and gateway."""
    wanted = list(spec.pools)
    versions = {subnet_range(pool.subnet).version for pool in wanted if pool.subnet}
    if 4 not in versions and not any(not pool.subnet for pool in wanted):
        wanted.append(Pool())
    pools = [_pool(view, pool, taken) for pool in wanted]
    if spec.ipv6 and 6 not in versions:
        pools.append(_complete(Pool(subnet=_free_v6(view, taken))))
    return tuple(pools)


def _pool(view: View, wanted: Pool, taken: TakenRanges) -> Pool:
    if not wanted.subnet:
        return _complete(msgspec.structs.replace(wanted, subnet=_free_v4(view, taken)))
    if taken.overlapping(subnet_range(wanted.subnet)):
        raise _Unavailable(TAKEN, f"the subnet {wanted.subnet} overlaps with {_overlapped(view, wanted.subnet)}")
    return _complete(wanted)


def _complete(pool: Pool) -> Pool:
    space = space_of(pool)
    return msgspec.structs.replace(pool, gateway=pool.gateway or space.text(space.gateway).partition("/")[0])


def _overlapped(view: View, subnet: str) -> str:
    """Whose subnet it is that another one overlaps with, in words."""
    wanted = subnet_range(subnet)
    for status in view.network_statuses.values():
        if any(space_of(pool).subnet.overlaps(wanted) for pool in status.pools):
            return f'network "{status.name}"' + (", whose tasks are still stopping" if status.removed else "")
    return "the address of a node"


def _free_v4(view: View, taken: TakenRanges) -> str:
    cluster = view.cluster or Cluster(id="", created_at=view.now)
    for text in cluster.address_pools:
        pool = subnet_range(text)
        if pool.version == 4 and (subnet := taken.first_free(pool, cluster.subnet_bits)) is not None:
            return subnet
    pools = ", ".join(cluster.address_pools)
    raise _Unavailable(EXHAUSTED, f"no subnet of /{cluster.subnet_bits} is left in {pools}")


def _free_v6(view: View, taken: TakenRanges) -> str:
    """A unique local subnet (RFC 4193): the 40 bits that make it unique are the cluster's."""
    name = view.cluster.id if view.cluster is not None else ""
    unique = int.from_bytes(hashlib.sha256(name.encode()).digest()[:5], "big")
    first = (0xFD << 120) | (unique << 80)
    subnet = taken.first_free(Range(6, first, first + (1 << 80) - 1), V6_PREFIX)
    if subnet is None:
        raise _Unavailable(EXHAUSTED, "no IPv6 subnet is left")
    return subnet


def _vni(spec: NetworkSpec, used: set[int]) -> int:
    """The id that the network asks for, else the next after the highest."""
    asked = dict(spec.driver_options).get(_VXLAN_OPTION, "").partition(",")[0].strip()
    if asked:
        if not asked.isdecimal() or int(asked) in used:
            raise _Unavailable(TAKEN, f"the VXLAN id {asked} is in use by another network")
        return int(asked)
    following = max(used, default=VXLAN_FIRST - 1) + 1
    if following <= VXLAN_LAST:
        return following
    free = next((number for number in range(VXLAN_FIRST, VXLAN_LAST + 1) if number not in used), None)
    if free is None:
        raise _Unavailable(EXHAUSTED, "no VXLAN id is left")
    return free


def release(draft: Draft, book: AddressBook) -> bool:
    """Forget the removed networks in which nothing has an address any more; whether there was one."""
    empty = [status for status in draft.leaving_networks() if not book.population(status.id)]
    for status in empty:
        draft.delete(NetworkStatus, status.id)
    return bool(empty)
