"""When a certificate is renewed, by whom, and what comes of it: with managers that are played by the test."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from stackd.api.cluster import RenewResponse
from stackd.api.dispatch import Standing
from stackd.base.errors import Unavailable
from stackd.base.ids import NodeId
from stackd.base.time import DAY, SECOND, Duration, Instant
from stackd.daemon.authoritycopy import AuthorityCopy, renew_if_expired
from stackd.daemon.home import Home
from stackd.daemon.identity import Identity
from stackd.daemon.renewal import EXPIRED_SECONDS, Renewal
from stackd.engine.parts import Role
from stackd.manager.authority import new_authority
from stackd.security.authority import Authority
from stackd.security.identity import NodeIdentity, NodeKey
from stackd.security.keys import Purpose, RootKey
from stackd.simulation.loop import run

BEGIN = Instant(1_800_000_000 * SECOND)


class LoopClock:
    """The loop's own time, from a day on."""

    def now(self) -> Instant:
        return Instant(BEGIN + int(asyncio.get_running_loop().time() * SECOND))


class Node:
    """A node with a certificate, and the managers that it asks (`reach`)."""

    def __init__(self, path: Path) -> None:
        self.authority = Authority.create(BEGIN)
        self.roots = self.authority.root.pem
        self.role = Role.WORKER
        self.home = Home(path)
        self.asked = 0
        self.trouble = 0
        self.renewals = 0
        self.signs = False
        key = NodeKey.create()
        identity = Identity(node_id=NodeId("n1"), cluster_id="c1", executor="process", managers=("a:2377",))
        self.home.enter(identity, self.certificate(key.request(), BEGIN), key, self.roots, BEGIN)
        assert self.home.credentials is not None
        self.credentials = self.home.credentials
        reach: Any = self
        self.renewal = Renewal(
            self.home, self.credentials, reach, LoopClock(), random.Random(1), self._renewed, self._renew_alone
        )

    def certificate(self, request: bytes, now: Instant) -> bytes:
        return self.authority.issue(request, NodeIdentity(NodeId("n1"), self.role, "c1"), now)

    async def ask(self, _method: object, request: Any) -> RenewResponse:
        self.asked += 1
        if self.trouble:
            self.trouble -= 1
            raise Unavailable("daemon.no_manager", "nobody is there")
        certificate = self.certificate(request.request, LoopClock().now())
        return RenewResponse(certificate=certificate, roots=self.roots, managers=("b:2377",))

    def managers(self) -> tuple[str, ...]:
        return ()

    def _renewed(self) -> None:
        self.renewals += 1

    def _renew_alone(self) -> None:
        if self.signs:
            request = NodeKey.load(self.credentials.material().key)
            certificate = self.certificate(request.request(), LoopClock().now())
            self.credentials.renew(certificate, request, LoopClock().now())


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def play(node: Node, story: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        life = asyncio.create_task(node.renewal.run())
        await story()
        life.cancel()
        await asyncio.wait([life])

    run(main())


def test_a_certificate_is_renewed_in_the_second_half_of_its_life_and_again_in_that_of_the_next(node: Node) -> None:
    first = node.credentials.presented.not_after

    async def story() -> None:
        await asyncio.sleep(44 * 86400)
        assert node.asked == 0
        await asyncio.sleep(30 * 86400)
        assert (node.asked, node.renewals) == (1, 1)
        assert node.credentials.presented.not_after > first
        assert node.home.identity.managers == ("b:2377",)
        await asyncio.sleep(74 * 86400)
        assert node.asked == 2

    play(node, story)


def test_a_manager_may_ask_for_it_at_any_time_and_it_is_spread_over_the_time_that_it_gives(node: Node) -> None:
    async def story() -> None:
        await asyncio.sleep(10)
        node.role = Role.MANAGER
        node.renewal.heed(Standing(managers=("c:2377",), roots=node.roots, renew_within_ns=Duration(100 * SECOND)))
        node.renewal.heed(Standing(managers=("c:2377",), roots=node.roots, renew_within_ns=Duration(0)))
        due = (node.renewal.due - LoopClock().now()) / SECOND
        assert 0 < due < 100
        await asyncio.sleep(due - 1)
        assert node.asked == 0
        await asyncio.sleep(2)
        assert node.renewal.certificate().role is Role.MANAGER
        await asyncio.sleep(1000)
        assert node.renewals == 1

    play(node, story)


def test_what_is_not_wanted_any_more_is_not_done(node: Node) -> None:
    async def story() -> None:
        await asyncio.sleep(1)
        node.renewal.heed(Standing(renew_within_ns=Duration(100 * SECOND)))
        node.renewal.heed(Standing())
        await asyncio.sleep(200)
        assert node.asked == 0

    play(node, story)


def test_who_reaches_no_manager_tries_again_until_it_does(node: Node) -> None:
    async def story() -> None:
        node.trouble = 4
        node.renewal.heed(Standing(renew_within_ns=Duration(0)))
        await asyncio.sleep(4)
        assert node.asked == 1
        await asyncio.sleep(120)
        assert (node.asked, node.renewals) == (5, 1)

    play(node, story)


def test_a_certificate_that_has_expired_while_nobody_led_is_renewed_as_soon_as_the_node_can_sign(node: Node) -> None:
    async def story() -> None:
        node.trouble = 10**6
        await asyncio.sleep(91 * 86400)
        assert node.credentials.presented.expired(LoopClock().now())
        assert node.renewals == 0
        await asyncio.sleep(600)
        node.signs = True
        await asyncio.sleep(EXPIRED_SECONDS)
        assert not node.credentials.presented.expired(LoopClock().now())
        assert node.renewals == 1

    play(node, story)


def test_new_roots_are_trusted_as_soon_as_a_manager_says_so(node: Node) -> None:
    async def story() -> None:
        both = node.roots + Authority.create(BEGIN).root.pem
        node.renewal.heed(Standing(roots=both))
        assert node.credentials.material().roots == both

    play(node, story)


def test_a_manager_whose_certificate_has_expired_signs_another_one_for_itself(node: Node) -> None:
    key = RootKey.generate()
    sealer = key.sealer(Purpose.AUTHORITY)
    copy = AuthorityCopy(node.home.path)

    async def story() -> None:
        renew_if_expired(node.credentials, copy, sealer, LoopClock())
        assert copy.load() is None
        copy.keep(new_authority(sealer, "c1", BEGIN))
        before = node.credentials.material()
        renew_if_expired(node.credentials, copy, sealer, LoopClock())
        assert node.credentials.material() == before
        await asyncio.sleep(91 * 86400)
        assert node.credentials.presented.expired(LoopClock().now())
        renew_if_expired(node.credentials, copy, RootKey.generate().sealer(Purpose.AUTHORITY), LoopClock())
        assert node.credentials.material() == before  # with another cluster's key nothing can be signed, and nothing breaks
        renew_if_expired(node.credentials, copy, sealer, LoopClock())
        assert node.credentials.presented.not_after > LoopClock().now() + 89 * DAY

    run(story())
