"""A manager, put together: everything that runs on a node while it is one.

Whoever builds it opens the log first and closes it last, serves what is in here to nodes and people, and says what else the
leader sees to. Nothing but the wiring is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from stackd.base.ids import Entropy, NodeId
from stackd.base.time import Duration, SteadyClock
from stackd.engine.model import Authority, Node
from stackd.engine.status import NodeStatus
from stackd.engine.store import Store
from stackd.engine.view import View
from stackd.manager.access import Access
from stackd.manager.authority import Issuer
from stackd.manager.autolock import Autolock, KeyFile
from stackd.manager.backup import Backups
from stackd.manager.cluster import ClusterControl
from stackd.manager.dispatcher import HEARTBEAT
from stackd.manager.duty import Duty
from stackd.manager.joining import Joiners
from stackd.manager.leader import LeaderDuty, LeaderRole
from stackd.manager.managers import Managers
from stackd.manager.membership import MEMBERS_SECONDS, RoleManager
from stackd.manager.rotation import RootRotation
from stackd.manager.writer import Meter, Writer
from stackd.raft import consensus
from stackd.security.keys import Purpose, RootKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """What a manager stands on: its node and cluster, the state as its log has it, consensus, the cluster's key and its own key
    file."""

    node_id: NodeId
    cluster_id: str
    store: Store
    consensus: consensus.Cluster
    cluster_key: RootKey
    key_file: KeyFile


class Manager:
    """`run` is its life; `duties` are what the leader sees to besides what every leader does."""

    def __init__(
        self,
        foundation: Foundation,
        clock: SteadyClock,
        entropy: Entropy,
        *,
        duties: Sequence[LeaderDuty] = (),
        heartbeat: Duration = HEARTBEAT,
        meter: Meter | None = None,
    ) -> None:
        self.consensus = members = foundation.consensus
        key = foundation.cluster_key
        sealer = key.sealer(Purpose.AUTHORITY)
        self.managers = Managers(foundation.node_id, members)
        self.writer = writer = Writer(
            foundation.store,
            members,
            clock,
            entropy,
            meter=meter,
            cluster_id=foundation.cluster_id,
            follows=lambda: self.managers.follows,
        )
        self.issuer = Issuer(lambda: writer.view.authority, sealer, clock)
        self.access = Access(self._view)
        self.joiners = Joiners(self._view, writer.submit, self.issuer, self.managers)
        self.autolock = Autolock(self._view, sealer, foundation.key_file)
        self.cluster = ClusterControl(
            writer=writer,
            consensus=members,
            managers=self.managers,
            issuer=self.issuer,
            unlock_keys=self.autolock,
            cluster_key=lambda: key.material,
            backups=Backups(writer, members, key.sealer(Purpose.BACKUP), foundation.key_file.copy),
        )
        roles = RoleManager(self._view, writer.submit, members, self.managers)
        rotation = RootRotation(self._view, writer.submit, self.issuer)
        own = (
            Duty("roles", writer, (Node, NodeStatus), roles.look, MEMBERS_SECONDS),
            Duty("root rotation", writer, (Authority, Node, NodeStatus), rotation.look),
        )
        self.role = LeaderRole(
            writer,
            members,
            key.open_blob,
            lambda: self.managers.leader_address,
            heartbeat,
            (*(duty.run for duty in own), *duties),
        )
        writer.listen(self.access.notice)
        writer.listen(self.autolock.notice)

    def _view(self) -> View:
        return self.writer.view

    async def run(self) -> None:
        """Apply the log, and lead when it is this one's turn, until cancelled."""
        if self._view().cluster is not None:
            self.autolock.follow()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.writer.run(), name="writer")
            group.create_task(self.role.run(), name="leader's role")
