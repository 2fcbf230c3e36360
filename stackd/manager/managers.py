"""Who the managers are, which of them leads and where they are reached, as this manager knows at the moment.

It asks consensus each time and keeps nothing, so there is nothing to bring up to date after an election.
"""

from __future__ import annotations

from stackd.api.addresses import ManagerAddress
from stackd.base.errors import StackdError, Unavailable
from stackd.base.ids import NodeId
from stackd.raft.consensus import Cluster

_NO_LEADER_HINT = "try again in a moment; if it stays so, see on a manager with `stackd cluster info` which it reaches"


class Managers:
    """The managers as the manager `me` sees them."""

    def __init__(self, me: NodeId, consensus: Cluster) -> None:
        self.me = me
        self._consensus = consensus

    @property
    def leader(self) -> NodeId:
        """The node that leads, "" if nobody is known to."""
        return NodeId(self._consensus.known_leader)

    @property
    def leads(self) -> bool:
        return self.leader == self.me

    @property
    def follows(self) -> bool:
        """Whether another manager leads, and this one is in touch with it."""
        return self.leader not in ("", self.me)

    @property
    def leader_address(self) -> str:
        """Where the leader serves nodes; "" if there is none, or it serves nobody."""
        address = self.address_of(self.leader)
        return str(address) if address is not None else ""

    def elsewhere(self) -> ManagerAddress | None:
        """The leader's address if that is another manager, None if it is this one. Raises Unavailable("manager.no_leader")."""
        if self.leads:
            return None
        address = self.address_of(self.leader)
        if address is None:
            raise Unavailable("manager.no_leader", "no manager leads at the moment", hint=_NO_LEADER_HINT)
        return address

    def address_of(self, node: NodeId) -> ManagerAddress | None:
        return address_in_consensus(self._consensus.known_addresses.get(node, ""))

    def addresses(self) -> tuple[ManagerAddress, ...]:
        """Of all managers that serve others, the leader's first."""
        known = self._consensus.known_addresses
        ordered = sorted(known, key=lambda node: (node != self.leader, node))
        found = (address_in_consensus(known[node]) for node in ordered)
        return tuple(address for address in found if address is not None)


def address_in_consensus(text: str) -> ManagerAddress | None:
    """The address of the manager that consensus knows at `text`; a manager that is alone has none there."""
    try:
        return ManagerAddress.of_consensus(text) if text else None
    except StackdError:
        return None
