"""Arithmetic of reservations: CPU and memory. Limits are the runtime's business, and pids are only ever limited."""

from __future__ import annotations

from stackd.spec.stack import Resources

NOTHING = Resources()


def covers(available: Resources, wanted: Resources) -> bool:
    """Whether `available` is enough. What isn't asked for (0) fits also on a node that is overcommitted in it."""
    return not (
        (wanted.nano_cpus and wanted.nano_cpus > available.nano_cpus)
        or (wanted.memory_bytes and wanted.memory_bytes > available.memory_bytes)
    )


def plus(left: Resources, right: Resources) -> Resources:
    return Resources(nano_cpus=left.nano_cpus + right.nano_cpus, memory_bytes=left.memory_bytes + right.memory_bytes)


def minus(left: Resources, right: Resources) -> Resources:
    """What is left; below zero where a node has shrunk since."""
    return Resources(nano_cpus=left.nano_cpus - right.nano_cpus, memory_bytes=left.memory_bytes - right.memory_bytes)


def beyond(wanted: Resources, held: Resources) -> Resources:
    """What `wanted` needs on top of `held`; never negative, so that nobody else is given what is still held."""
    return Resources(
        nano_cpus=max(0, wanted.nano_cpus - held.nano_cpus),
        memory_bytes=max(0, wanted.memory_bytes - held.memory_bytes),
    )
