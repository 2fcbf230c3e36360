"""The role manager: brings the members of consensus into line with the roles that are wanted of nodes (semantics 23).

    promoted    the node gets a manager's certificate, asks to become a member (`Cluster.add`), and starts one: first a learner,
                then with a vote as soon as it has caught up
    demoted     consensus lets go of it: at once if another manager leads; a leader first hands the leadership on, and the next
                one goes on from there. Only then does its next certificate make it a worker

Both are read off the state and the members each time, so it doesn't matter at which point a leader goes away. A member is only
let go if those that stay can agree on something without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stackd.base.errors import Refused
from stackd.base.ids import NodeId
from stackd.engine.inputs import ReportManagers
from stackd.engine.parts import ManagerStatus, Role
from stackd.engine.view import View
from stackd.manager.liveness import Submit
from stackd.manager.managers import Managers, address_in_consensus
from stackd.raft.consensus import Cluster, Member

MEMBERS_SECONDS = 1.0
"""How soon it shows that a manager can't be reached, which no entry tells."""


class RoleManager:
    """`look` is one pass, to be made by the leader alone: it reports how the members are, and takes at most one step."""

    def __init__(self, view: Callable[[], View], submit: Submit, consensus: Cluster, managers: Managers) -> None:
        self._view = view
        self._submit = submit
        self._consensus = consensus
        self._managers = managers

    async def look(self) -> None:
        """Raises what consensus raises; the next pass begins anew."""
        members = await self._consensus.members()
        await self._report(members)
        unwanted = [NodeId(member.node) for member in members if self._is_unwanted(NodeId(member.node))]
        if not unwanted:
            return
        others = [node for node in unwanted if node != self._managers.me]
        if others:
            await self._consensus.remove(others[0])
        else:
            await self._consensus.transfer_leadership()

    def _is_unwanted(self, node_id: NodeId) -> bool:
        """The first manager of all leads before its agent has registered its node."""
        node = self._view().nodes.get(node_id)
        return node.role is not Role.MANAGER if node is not None else node_id != self._managers.me

    async def _report(self, members: Sequence[Member]) -> None:
        present = {NodeId(member.node): status_of(member) for member in members}
        statuses = self._view().node_statuses.values()
        if any(status.manager != present.get(status.id) for status in statuses):
            await self._submit(ReportManagers(managers=tuple(sorted(present.items()))))


def status_of(member: Member) -> ManagerStatus:
    """A member as the state holds it."""
    address = address_in_consensus(member.address)
    return ManagerStatus(
        address=str(address) if address is not None else "",
        voter=member.is_voter,
        reachable=member.is_connected,
        leader=member.is_leader,
    )


def check_dismissal(members: Sequence[Member], node: NodeId, name: str) -> None:
    """See that the others can go on without this manager, before anybody acts on it. `members` are as the leader sees them.
    Raises Refused with node.demote.last or node.demote.quorum."""
    voters = {member.node: member for member in members if member.is_voter}
    if node not in voters:
        return
    remaining = [member for member in voters.values() if member.node != node]
    if not remaining:
        hint = "promote another node first; to end the cluster, `stackd cluster leave --force` there"
        raise Refused("node.demote.last", f"{name} is the only manager", hint=hint)
    reachable = [member for member in remaining if member.is_connected]
    if 2 * len(reachable) <= len(remaining):
        raise Refused(
            "node.demote.quorum",
            f"without {name} only {len(reachable)} of the {len(remaining)} managers left would be reachable, and they could "
            "not agree on anything",
            hint="bring the unreachable managers back first, or demote one of those instead (`stackd node ls`)",
        )
