"""Takes joiners in: from a join token to a member of the cluster with a certificate (`api.join.JoinHandler`).

A node is named by its key, so one that asks again because it never heard the answer is the same node and gets the same
place. The token only counts when a node comes for the first time; after that its certificate says who it is, and one that has
expired still does, for a node that holds its key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from stackd.api.join import JoinAnswer, JoinRequest, Redirect, RenewalRequest
from stackd.base.errors import Refused, StackdError
from stackd.base.ids import NodeId
from stackd.base.time import SECOND, Instant
from stackd.engine.inputs import AdmitNode, Rejected
from stackd.engine.model import Node
from stackd.engine.parts import Availability, Role
from stackd.engine.view import View
from stackd.manager.authority import Issuer, role_now
from stackd.manager.liveness import Submit
from stackd.manager.managers import Managers
from stackd.security.identity import node_id_of, read_certificate, same_key, verify_certificate

log = logging.getLogger(__name__)


class Joiners:
    """Joiners of this manager. One that doesn't lead sends them on."""

    def __init__(self, view: Callable[[], View], submit: Submit, issuer: Issuer, managers: Managers) -> None:
        self._view = view
        self._submit = submit
        self._issuer = issuer
        self._managers = managers

    def roots(self) -> bytes:
        """See JoinHandler."""
        return self._issuer.roots

    async def join(self, request: JoinRequest) -> JoinAnswer | Redirect:
        """See JoinHandler. Raises Refused with cluster.token.wrong or cluster.availability.bad; NotLeader; what the state or
        the authority refuses."""
        if (leader := self._managers.elsewhere()) is not None:
            return Redirect(address=leader.joiners)
        role = self._issuer.role_of(request.secret)
        if role is None:
            raise Refused(
                "cluster.token.wrong",
                "the join token is not valid any more",
                hint="print it again on a manager: stackd cluster join-token worker",
            )
        node_id = node_id_of(request.request)
        return self._answer(node_id, await self._admit(node_id, role, request), request.peer)

    async def renew(self, request: RenewalRequest) -> JoinAnswer | Redirect:
        """See JoinHandler: a node that was off until its certificate expired has its place as long as it is a member. Raises
        also what a certificate that isn't of this cluster does."""
        if (leader := self._managers.elsewhere()) is not None:
            return Redirect(address=leader.joiners)
        presented = read_certificate(request.certificate)
        verify_certificate(request.certificate, self._issuer.roots, Instant(presented.not_after - SECOND))
        node_id, role = presented.node.node_id, role_now(self._view(), presented.node.node_id)
        is_ours = presented.node.cluster == self._issuer.row.cluster
        if role is None or not is_ours or not same_key(request.request, request.certificate):
            raise Refused("api.access.denied", f"{presented.name} is not a node of this cluster", hint="let it join anew")
        log.info("expired certificate renewed: node=%s role=%s", node_id, role)
        return self._answer(node_id, self._issuer.issue_node(request.request, node_id, role))

    def _answer(self, node_id: NodeId, certificate: bytes, peer: str = "") -> JoinAnswer:
        return JoinAnswer(
            node_id=node_id,
            cluster=self._issuer.row.cluster,
            certificate=certificate,
            roots=self._issuer.roots,
            managers=tuple(str(address) for address in self._managers.addresses()),
            peer=peer,
        )

    async def _admit(self, node_id: NodeId, role: Role, request: JoinRequest) -> bytes:
        """The certificate is made first: a request that can't be signed must leave no node behind."""
        certificate = self._issuer.issue_node(request.request, node_id, role)
        node = Node(id=node_id, created_at=Instant(0), role=role, availability=_availability(request.availability))
        reply = await self._submit(AdmitNode(node=node, hostname=request.hostname))
        if isinstance(reply, Rejected):
            raise Refused(reply.code, reply.message, hint=reply.hint or None)
        present = role_now(self._view(), node_id)
        if present is None:
            raise StackdError("node.unknown", f"node {node_id} was removed in the same moment")
        return certificate if present is role else self._issuer.issue_node(request.request, node_id, present)


def _availability(word: str) -> Availability:
    try:
        return Availability(word)
    except ValueError:
        words = ", ".join(Availability)
        raise Refused("cluster.availability.bad", f'"{word}" is no availability', hint=f"one of: {words}") from None
