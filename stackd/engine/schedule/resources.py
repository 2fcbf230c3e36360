"""Arithmetic of reservations: CPU, memory and generic resources (semantics 13). Limits are the runtime's business, and pids
are only ever limited.

A generic resource is counted, or it is a set of names. Tasks ask for an amount and are given an amount or names; what they
were given is on their record and stays theirs until they have stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from stackd.spec.stack import GenericResource, Resources

Generic = tuple[GenericResource, ...]
"""One entry per kind, in the order of kinds."""

NOTHING = Resources()


def covers(available: Resources, wanted: Resources) -> bool:
    """Whether `available` is enough. What isn't asked for (0) fits also on a node that is overcommitted in it."""
    return not (
        (wanted.nano_cpus and wanted.nano_cpus > available.nano_cpus)
        or (wanted.memory_bytes and wanted.memory_bytes > available.memory_bytes)
        or (wanted.generic and not _enough(available.generic, wanted.generic))
    )


def _enough(available: Generic, wanted: Generic) -> bool:
    has = {one.kind: one.amount + len(one.names) for one in available}
    return all(one.amount <= has.get(one.kind, 0) for one in wanted)


def claim(available: Generic, wanted: Generic) -> Generic:
    """What a task that asks for `wanted` is given of `available`, which is enough: of named ones the first, in order."""
    named = {one.kind: one.names for one in available if one.names}
    return _canonical(
        GenericResource(kind=one.kind, names=named[one.kind][: one.amount]) if one.kind in named else one for one in wanted
    )


def plus(left: Resources, right: Resources) -> Resources:
    """The sum; a name that both hold counts twice."""
    return Resources(
        nano_cpus=left.nano_cpus + right.nano_cpus,
        memory_bytes=left.memory_bytes + right.memory_bytes,
        generic=_canonical((*left.generic, *right.generic)) if left.generic or right.generic else (),
    )


def minus(left: Resources, right: Resources) -> Resources:
    """What is left; below zero where a node has shrunk since."""
    return Resources(
        nano_cpus=left.nano_cpus - right.nano_cpus,
        memory_bytes=left.memory_bytes - right.memory_bytes,
        generic=_without(left.generic, right.generic) if right.generic else left.generic,
    )


def unreserved(described: Resources, reserved: Resources) -> Resources:
    """What a node has for new tasks: what it says it has, less what its tasks were given. A kind that the node has changed
    from counted to named, or back, is short of as many as are in use."""
    rest = minus(described, Resources(nano_cpus=reserved.nano_cpus, memory_bytes=reserved.memory_bytes))
    if not described.generic or not reserved.generic:
        return rest
    used = {one.kind: one for one in reserved.generic}
    return Resources(
        nano_cpus=rest.nano_cpus,
        memory_bytes=rest.memory_bytes,
        generic=tuple(_left_of(one, used[one.kind]) if one.kind in used else one for one in described.generic),
    )


def _left_of(described: GenericResource, used: GenericResource) -> GenericResource:
    if not described.names:
        return GenericResource(kind=described.kind, amount=described.amount - used.amount - len(used.names))
    names = tuple(name for name in described.names if name not in used.names)
    return GenericResource(kind=described.kind, names=names[: max(0, len(names) - used.amount)])


def returned(available: Resources, held: Resources) -> Resources:
    """`available` together with what a task will have given back; a name is there once, however often it was held."""
    if not held.generic:
        return Resources(
            nano_cpus=available.nano_cpus + held.nano_cpus,
            memory_bytes=available.memory_bytes + held.memory_bytes,
            generic=available.generic,
        )
    both = plus(available, held)
    once = tuple(
        GenericResource(kind=one.kind, amount=one.amount, names=tuple(dict.fromkeys(one.names))) for one in both.generic
    )
    return Resources(nano_cpus=both.nano_cpus, memory_bytes=both.memory_bytes, generic=once)


def still_offered(described: Resources, held: Resources) -> Resources:
    """What a task holds of what its node still has: a generic resource that has gone since can't be passed on."""
    if not held.generic:
        return held
    offered = {one.kind: one for one in described.generic}
    generic = _canonical(
        GenericResource(
            kind=one.kind,
            amount=0 if offered[one.kind].names else one.amount,
            names=tuple(name for name in one.names if name in offered[one.kind].names),
        )
        for one in held.generic
        if one.kind in offered
    )
    return Resources(nano_cpus=held.nano_cpus, memory_bytes=held.memory_bytes, generic=generic)


def beyond(wanted: Resources, held: Resources) -> Resources:
    """What `wanted` needs on top of `held`; never negative, so that nobody else is given what is still held."""
    shared = overlap(wanted, held)
    return minus(wanted, shared)


def overlap(left: Resources, right: Resources) -> Resources:
    """What is in both."""
    generic: Generic = ()
    if left.generic and right.generic:
        other = {one.kind: one for one in right.generic}
        generic = _canonical(_common(one, other[one.kind]) for one in left.generic if one.kind in other)
    return Resources(
        nano_cpus=min(left.nano_cpus, right.nano_cpus),
        memory_bytes=min(left.memory_bytes, right.memory_bytes),
        generic=generic,
    )


def _common(left: GenericResource, right: GenericResource) -> GenericResource:
    names = tuple(name for name in left.names if name in right.names)
    return GenericResource(kind=left.kind, amount=min(left.amount, right.amount), names=names)


def _canonical(resources: Iterable[GenericResource]) -> Generic:
    """One entry per kind, sorted, without those that are nothing: equal contents are equal records."""
    amounts: Counter[str] = Counter()
    names: dict[str, list[str]] = {}
    for one in resources:
        amounts[one.kind] += one.amount
        names.setdefault(one.kind, []).extend(one.names)
    return tuple(
        GenericResource(kind=kind, amount=amounts[kind], names=tuple(sorted(names[kind])))
        for kind in sorted(names)
        if amounts[kind] or names[kind]
    )


def _without(left: Generic, right: Generic) -> Generic:
    """`left` less `right`, name by name; a name that is held twice stays once."""
    gone = {one.kind: one for one in right}
    return _canonical(
        GenericResource(
            kind=one.kind,
            amount=one.amount - gone[one.kind].amount,
            names=tuple((Counter(one.names) - Counter(gone[one.kind].names)).elements()),
        )
        if one.kind in gone
        else one
        for one in left
    )
