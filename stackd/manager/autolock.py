"""The unlock key: one for all managers, in the replicated state, sealed with the cluster's key.

Every manager follows: as soon as the state says another one, it wraps the keys on its own disk with that. One that was away
while the key changed needs the old one to start, and follows when it has caught up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from stackd.base.errors import StackdError
from stackd.engine.model import Cluster
from stackd.engine.store import Changes
from stackd.engine.view import View
from stackd.raft.consensus import Sealer
from stackd.security.keyring import new_unlock_key

log = logging.getLogger(__name__)

_LABEL = b"unlock key"


class KeyFile(Protocol):
    """This manager's own keys on disk (`security.keyring.NodeKeys`)."""

    def follow(self, unlock_key: str) -> bool:
        """Lock with this key, or not at all (""); whether that is new. Raises StackdError."""
        ...

    def copy(self) -> bytes:
        """Its content, as a backup carries it."""
        ...


class Autolock:
    """`sealer` is that of the cluster key for `Purpose.AUTHORITY`. Have `notice` told of each applied entry."""

    def __init__(self, view: Callable[[], View], sealer: Sealer, keys: KeyFile) -> None:
        self._view = view
        self._sealer = sealer
        self._keys = keys

    def opened(self) -> str:
        """The unlock key, "" if managers start without. Raises StackdError("security.seal.broken")."""
        cluster = self._view().cluster
        sealed = cluster.sealed_unlock_key if cluster is not None else b""
        return self._sealer.open(sealed, _LABEL).decode() if sealed else ""

    def sealed(self, *, on: bool, rotate: bool) -> bytes:
        """What the state is to hold next: the present key, if there is one and it stays, else a new one; b"" for none."""
        cluster = self._view().cluster
        if not on:
            return b""
        if cluster is not None and cluster.sealed_unlock_key and not rotate:
            return cluster.sealed_unlock_key
        return self._sealer.seal(new_unlock_key().encode(), _LABEL)

    def follow(self) -> None:
        """Bring this manager's key file into line with the state. What can't be written now is written at the next change or
        start: until then it opens with the key before."""
        try:
            if self._keys.follow(self.opened()):
                log.info("key file wrapped anew: locked=%s", bool(self.opened()))
        except StackdError as error:
            log.error("key file not brought up to date: code=%s reason=%s", error.code, error.message)

    def notice(self, changes: Changes) -> None:
        if any(isinstance(row, Cluster) for row in changes.puts):
            self.follow()
