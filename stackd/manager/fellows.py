"""Which other managers this one's member of consensus hears: the check behind `raft.credentials.Credentials.name_of`.

TLS has verified the certificate; here it is compared with the state. A member has to hear managers that it doesn't know yet,
since the leader may have come while it was away. What tells these from one that was removed is when the certificate was
issued: whatever is older than the state as this manager has it would be known if it were still good.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stackd.base.errors import StackdError
from stackd.engine.parts import Role
from stackd.engine.view import View
from stackd.manager.authority import role_now
from stackd.security.authority import BACKDATED_NS
from stackd.security.identity import NodeIdentity
from stackd.security.tls import read_verified


class Fellows:
    """The managers of `cluster`, as far as the state has been applied. May be asked from any thread."""

    def __init__(self, view: Callable[[], View], cluster: str) -> None:
        self._view = view
        self._cluster = cluster

    def name_of(self, certificate: Mapping[str, Any]) -> str:
        """The id of the manager whose certificate this is, in the form of `ssl.SSLSocket.getpeercert`. Raises ValueError if
        it is not one of this cluster's."""
        try:
            presented = read_verified(certificate)
        except StackdError as error:
            raise ValueError(error.message) from error
        identity = presented.identity
        if identity.cluster != self._cluster:
            raise ValueError(f"{presented.name} belongs to another cluster")
        if not isinstance(identity, NodeIdentity) or identity.role is not Role.MANAGER:
            raise ValueError(f"{presented.name} has no manager's certificate")
        view = self._view()
        is_known = role_now(view, identity.node_id) is Role.MANAGER
        if not is_known and presented.not_before + BACKDATED_NS <= view.now:
            raise ValueError(f"{presented.name} is not a manager of this cluster any more")
        return identity.node_id
