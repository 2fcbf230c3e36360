"""Certificates that are older than the cluster: signed by its own authority, as of some time ago."""

from __future__ import annotations

import time
from pathlib import Path

from stackd.api.views import rfc3339
from stackd.base.time import DAY, MINUTE, SECOND, Instant
from stackd.daemon.authoritycopy import AuthorityCopy
from stackd.daemon.credentials import Credentials
from stackd.manager.authority import Issuer
from stackd.security.identity import NodeKey
from stackd.security.keyring import NodeKeys
from stackd.security.keys import Purpose

LIFE_DAYS = 90


class _At:
    def __init__(self, now: Instant) -> None:
        self._now = now

    def now(self) -> Instant:
        return self._now


def age(data: Path, manager: Path, *, days: int) -> str:
    """Give the node in `data`, whose daemon is off, a certificate that was issued `days` ago; one that has expired did so some
    minutes ago, since the root isn't any older. `manager` is the data directory of one. Returns when it ends."""
    now = Instant(time.time_ns())
    then = Instant(now - days * DAY) if days < LIFE_DAYS else Instant(now - LIFE_DAYS * DAY - 10 * MINUTE)
    return _issue(data, manager, then)


def expire_in(data: Path, manager: Path, *, seconds: float) -> str:
    """The same, with a certificate that ends so soon."""
    return _issue(data, manager, Instant(time.time_ns() - LIFE_DAYS * DAY + int(seconds * SECOND)))


def has_expired(data: Path) -> bool:
    """Whether the certificate that the node in `data` has on its disk has ended."""
    return Credentials.load(data).presented.expired(Instant(time.time_ns()))


def _issue(data: Path, manager: Path, then: Instant) -> str:
    authority = AuthorityCopy(manager).load()
    assert authority is not None
    sealer = NodeKeys.open(manager / "key").cluster.sealer(Purpose.AUTHORITY)
    shown, key = Credentials.load(data).presented.node, NodeKey.create()
    certificate = Issuer(lambda: authority, sealer, _At(then)).issue_node(key.request(), shown.node_id, shown.role)
    (data / "tls/node.pem").write_bytes(certificate + key.pem())
    return rfc3339(Credentials.load(data).presented.not_after) or ""
