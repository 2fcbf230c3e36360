"""The members that this one has a stream to, and whether it speaks with them.

The cluster has a feature level, which its membership names: entries, files and messages may need as much. A member whose
software is older than that is neither heard nor spoken to, also when the cluster goes to a higher level while it is
connected; the leader lets it go there only when everyone can, so this is about members that were taken back to an older
version.
"""

from __future__ import annotations

import logging

from stackd.raft.hardened import Hardened
from stackd.raft.journal import Journal
from stackd.raft.peers import Hello
from stackd.raft.replication import Replication

log = logging.getLogger(__name__)


class Contacts:
    """Those of one node. `levels` is whom it speaks with, and the feature level of each."""

    def __init__(self, raft: Hardened, journal: Journal, replication: Replication) -> None:
        self.levels: dict[str, int] = {}
        self._raft = raft
        self._journal = journal
        self._replication = replication

    def connected(self, peer: str, hello: Hello) -> None:
        if hello.feature_level < self._journal.membership.feature_level:
            _ignored(peer, hello.feature_level)
            return
        self.levels[peer] = hello.feature_level
        self._raft.connected(peer)
        self._replication.connected(peer)

    def disconnected(self, peer: str) -> None:
        self.levels.pop(peer, None)
        self._raft.disconnected(peer)
        self._replication.disconnected(peer)

    def follow_level(self) -> None:
        """The membership is another one, perhaps at a higher level."""
        needed = self._journal.membership.feature_level
        for peer, level in list(self.levels.items()):
            if level < needed:
                _ignored(peer, level)
                self.disconnected(peer)

    def tell_again(self) -> None:
        """The library has begun anew, and knows nobody."""
        for peer in self.levels:
            self._raft.connected(peer)


def _ignored(peer: str, level: int) -> None:
    log.warning("peer ignored, it is too old: peer=%s feature_level=%d", peer, level)
