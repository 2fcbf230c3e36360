"""Keeps the node's certificate good: renews it in the second half of its life, or when a manager says that it needs another.

Each renewal is for a new key, and asks a manager; what is under way goes on with the certificate before. One that has expired
already is renewed where nodes join, by whoever still holds its key (`api.join`); a manager that nobody answers then signs for
itself, or managers whose certificates have all expired could never agree on anything again. A node that can't reach a manager
tries again for as long as it runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from stackd.api.addresses import ManagerAddress
from stackd.api.cluster import CLUSTER_METHODS, RenewRequest, RenewResponse
from stackd.api.dispatch import Standing
from stackd.api.join import RenewalRequest, renew_expired
from stackd.base.errors import Refused, StackdError, Unavailable
from stackd.base.ids import Entropy
from stackd.base.time import SECOND, Clock, Instant
from stackd.daemon.credentials import Credentials
from stackd.daemon.home import Home
from stackd.daemon.reach import Reach
from stackd.engine.parts import NodeCertificate
from stackd.security.identity import NodeKey, renew_at, retry_after

log = logging.getLogger(__name__)

RENEW = next(method for method in CLUSTER_METHODS if method.name == "Renew")

LOOK_SECONDS = 300.0
"""The clock is looked at again after this at the latest: it may have been set, or the machine may have slept."""

EXPIRED_SECONDS = 15.0
"""Between two attempts at the most once the certificate has expired: until there is another the node has no part in anything,
and the managers may be back at any moment. A thousand nodes that do so cost those half a processor."""


class Renewal:
    """`run` is its work. `renewed` is called after each renewal; `renew_alone` renews one that has expired without asking
    anybody, if this node can do that."""

    def __init__(
        self,
        home: Home,
        credentials: Credentials,
        reach: Reach,
        clock: Clock,
        entropy: Entropy,
        renewed: Callable[[], None],
        renew_alone: Callable[[], None],
    ) -> None:
        self._home = home
        self._credentials = credentials
        self._reach = reach
        self._clock = clock
        self._entropy = entropy
        self._renewed = renewed
        self._renew_alone = renew_alone
        self._asked_for: Instant | None = None
        self._changed = asyncio.Event()
        self._seed = entropy.getrandbits(32)

    def certificate(self) -> NodeCertificate:
        """What managers are told of the one in use."""
        shown = self._credentials.presented
        return NodeCertificate(role=shown.node.role, issuer=shown.issuer_key, until=shown.not_after)

    def heed(self, standing: Standing) -> None:
        """A manager has said how this node stands in the cluster."""
        try:
            self._home.remember_managers(standing.managers)
            if standing.roots and self._credentials.trust(standing.roots):
                log.info("roots replaced")
        except (StackdError, OSError) as error:
            log.error("not remembered: reason=%s", error)
        if standing.renew_within_ns is None:
            self._asked_for = None
        elif self._asked_for is None:
            share = self._entropy.getrandbits(16) / 2**16
            self._asked_for = Instant(self._clock.now() + int(standing.renew_within_ns * share))
        self._changed.set()

    async def run(self) -> None:
        """Renew when it is time, until cancelled."""
        failures = 0
        while True:
            await self._wait_until_due()
            try:
                await self._renew()
                failures = 0
            except (StackdError, OSError) as error:  # the latter: a full disk, on which the node goes on with what it has
                failures += 1
                log.warning("certificate not renewed: reason=%s", error)
                await asyncio.sleep(self._pause_after(failures) / SECOND)

    @property
    def due(self) -> Instant:
        """When the certificate is to be renewed next."""
        by_age = renew_at(self._credentials.presented, self._seed)
        return by_age if self._asked_for is None else min(by_age, self._asked_for)

    def _pause_after(self, failures: int) -> int:
        """Not beyond the end of the certificate: then there is more that can be done, and more need of it."""
        left = self._credentials.presented.not_after - self._clock.now()
        return min(retry_after(failures), left if left > 0 else int(EXPIRED_SECONDS * SECOND))

    async def _wait_until_due(self) -> None:
        while (left := (self.due - self._clock.now()) / SECOND) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(min(left, LOOK_SECONDS)):
                    await self._changed.wait()
            except TimeoutError:
                pass  # it is time, or time to look at the clock

    async def _renew(self) -> None:
        if self._has_expired():
            await self._renew_expired()
        else:
            key = NodeKey.create()
            answer: RenewResponse = await self._reach.ask(RENEW, RenewRequest(request=key.request()))
            self._take(answer.certificate, key, answer.roots, answer.managers)
        self._asked_for = None
        log.info("certificate renewed: role=%s", self._credentials.presented.node.role)
        self._renewed()

    def _has_expired(self) -> bool:
        return self._credentials.presented.expired(self._clock.now())

    async def _renew_expired(self) -> None:
        """Ask where nodes join; if nobody can answer there, do it alone. Raises StackdError if that isn't possible."""
        try:
            await self._ask_joiners()
        except Refused:
            raise
        except StackdError:
            self._renew_alone()
            if self._has_expired():
                raise

    async def _ask_joiners(self) -> None:
        """The key stays: it is what proves who we are. A manager whose own certificate has expired (this one, if it is a
        manager) can't show that it is one: the next is asked. Raises Refused if the cluster says no."""
        material = self._credentials.material()
        key = NodeKey.load(material.key)
        question = RenewalRequest(certificate=material.certificate, request=key.request())
        last: StackdError = Unavailable("daemon.no_manager", "this node knows no manager that it could ask")
        for address in tuple(self._reach.managers()):
            try:
                answer = await renew_expired(ManagerAddress.parse(address).joiners, material.roots, question)
            except Refused:
                raise
            except StackdError as error:
                last = error
            else:
                self._take(answer.certificate, key, answer.roots, answer.managers)
                return
        raise last

    def _take(self, certificate: bytes, key: NodeKey, roots: bytes, managers: tuple[str, ...]) -> None:
        self._credentials.trust(roots)
        self._credentials.renew(certificate, key, self._clock.now())
        self._home.remember_managers(managers)
