"""A manager that is reached at another address than the managers know: it tells the one that leads, which tells everybody.

The address is that of the node's directory (`Identity.advertise`); what is known lies in the log. They differ after a start
with another `--advertise-addr`. The manager finds the others at theirs, and they know it by its certificate, so consensus goes
on meanwhile. If none of them is where it was, each looks for them at the addresses that it was told (`UpOptions.managers`,
`TlsPeers`): who answers there shows who it is. The one that comes to lead then moves first, and the others ask it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from stackd.api.addresses import ManagerAddress
from stackd.api.cluster import CLUSTER_METHODS, MoveManagerRequest
from stackd.api.nodes import ask
from stackd.api.secure import TlsMaterial
from stackd.base.errors import StackdError, Unavailable
from stackd.manager.managers import Managers
from stackd.raft.consensus import Cluster

log = logging.getLogger(__name__)

MOVE_MANAGER = next(method for method in CLUSTER_METHODS if method.name == "MoveManager")

LOOK_SECONDS = 5.0
"""Between two looks, also after one that came to nothing: until a leader is found the others are busy with more."""


async def keep_address(
    managers: Managers, consensus: Cluster, advertise: ManagerAddress, material: Callable[[], TlsMaterial]
) -> None:
    """See that this manager is known at `advertise`, until cancelled."""
    while True:
        known = managers.address_of(managers.me)
        if known is not None and known != advertise:
            try:
                await _tell(managers, consensus, advertise, material())
                log.info("address changed: from=%s to=%s", known, advertise)
            except StackdError as error:
                log.warning("others know this manager at %s still: code=%s reason=%s", known, error.code, error.message)
        await asyncio.sleep(LOOK_SECONDS)


async def _tell(managers: Managers, consensus: Cluster, advertise: ManagerAddress, material: TlsMaterial) -> None:
    leader = managers.elsewhere()
    if leader is None:
        await consensus.add(managers.me, advertise.consensus)
        return
    try:
        async with asyncio.timeout(LOOK_SECONDS):  # it may have to move itself first: then nobody is at that address
            await ask(str(leader), material, MOVE_MANAGER, MoveManagerRequest(address=str(advertise)))
    except TimeoutError:
        raise Unavailable("api.manager.unreachable", f"the manager at {leader} does not answer") from None
