"""Ends a rotation of the root certificate: when every node uses a certificate that the new root has signed.

The nodes are told by the dispatcher (`standing.py`) and renew by themselves. A node that is down holds the rotation up until
it has come back or was removed, since the old root is all that it knows (semantics 20).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from stackd.base.errors import Refused
from stackd.engine.admit.authority import nodes_behind
from stackd.engine.inputs import FinishRootRotation, Rejected
from stackd.engine.view import View
from stackd.manager.authority import Issuer
from stackd.manager.liveness import Submit

log = logging.getLogger(__name__)


class RootRotation:
    """`look` is one pass, to be made by the leader alone."""

    def __init__(self, view: Callable[[], View], submit: Submit, issuer: Issuer) -> None:
        self._view = view
        self._submit = submit
        self._issuer = issuer

    async def look(self) -> None:
        """Raises Refused if something has changed meanwhile; the next pass begins anew."""
        authority = self._view().authority
        if authority is None or authority.rotation is None or nodes_behind(self._view()):
            return
        finish = FinishRootRotation(sealed_secrets=self._issuer.with_new_tokens(), version=authority.version)
        reply = await self._submit(finish)
        if isinstance(reply, Rejected):
            raise Refused(reply.code, reply.message)
        log.info("root rotated: issuer=%s", authority.rotation.issuer)
