"""A copy of the cluster's certificate authority beside a manager's certificate, for the day on which all have expired.

A manager whose certificate has expired can't talk to the others, and so never learns what the log says. But it has the
cluster's key, and the root's key is sealed with that: with this copy it signs a certificate for itself (semantics 20). The row
is kept as the state has it, with everything secret in it sealed.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from stackd.base.errors import StackdError
from stackd.base.records import decoder, encode
from stackd.base.time import Clock
from stackd.daemon.credentials import DIRECTORY, Credentials, replace_file
from stackd.engine.model import Authority
from stackd.engine.store import Changes
from stackd.manager.authority import Issuer, roots_of
from stackd.manager.writer import Writer
from stackd.raft.consensus import Sealer
from stackd.security.identity import NodeKey

log = logging.getLogger(__name__)

_NAME = "authority"
_decode = decoder(Authority).decode


class AuthorityCopy:
    """The copy of one node."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / DIRECTORY / _NAME

    def follow(self, writer: Writer) -> None:
        """Keep what the state has now, and from now on."""
        if (authority := writer.view.authority) is not None:
            self.keep(authority)
        writer.listen(self._notice)

    def _notice(self, changes: Changes) -> None:
        for row in changes.puts:
            if isinstance(row, Authority):
                self.keep(row)

    def keep(self, authority: Authority) -> None:
        """Replace the copy; a disk that is full keeps the one before."""
        try:
            replace_file(self._path, encode(authority))
        except OSError as error:
            log.error("copy of the certificate authority not written: reason=%s", error)

    def load(self) -> Authority | None:
        """The copy, if there is one that can be read."""
        try:
            authority: Authority = _decode(self._path.read_bytes())
        except (OSError, msgspec.DecodeError):
            return None
        return authority


def renew_alone(credentials: Credentials, authority: Authority, sealer: Sealer, clock: Clock) -> None:
    """Renew the certificate of this manager without asking anybody; its role stays. Raises what signing raises, and StackdError
    ("daemon.credentials.not_written"). `sealer` is that of the cluster key for `Purpose.AUTHORITY`."""
    key, shown = NodeKey.create(), credentials.presented.node
    certificate = Issuer(lambda: authority, sealer, clock).issue_node(key.request(), shown.node_id, shown.role)
    credentials.trust(roots_of(authority))
    credentials.renew(certificate, key, clock.now())
    log.warning("expired certificate renewed without asking anybody: node=%s", shown.node_id)


def renew_if_expired(credentials: Credentials, copy: AuthorityCopy, sealer: Sealer, clock: Clock) -> None:
    """Before a manager talks to anybody. One that can't sign starts all the same: the others may renew it."""
    authority = copy.load()
    if authority is None or not credentials.presented.expired(clock.now()):
        return
    try:
        renew_alone(credentials, authority, sealer, clock)
    except StackdError as error:
        log.error("expired certificate not renewed: code=%s reason=%s", error.code, error.message)
