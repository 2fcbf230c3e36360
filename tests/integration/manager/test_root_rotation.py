"""The root certificate replaced under a cluster that goes on: with real consensus, and a new leader in the middle."""

from __future__ import annotations

from stackd.api.cluster import RotateRootRequest
from stackd.engine.model import Authority
from stackd.engine.parts import Role
from stackd.manager.manager import Manager
from stackd.manager.standing import managers_of, standing_of
from stackd.security.identity import verify_certificate

from manager_cluster import ANN, Host, Hosts, SystemClock, play


def authority(manager: Manager) -> Authority:
    found = manager.writer.view.authority
    assert found is not None
    return found


def told_to_renew(manager: Manager, host: Host) -> bool:
    view = manager.writer.view
    return standing_of(view, host.node_id, managers_of(view)).renew_within_ns is not None


def test_a_rotation_goes_on_under_the_next_leader_and_ends_when_the_last_node_has_moved() -> None:
    async def story(hosts: Hosts) -> None:
        await hosts.found()
        await hosts.join(Role.MANAGER)
        await hosts.join(Role.MANAGER)
        worker = await hosts.join(Role.WORKER)
        leader = (await hosts.leader()).manager
        old, old_token = authority(leader), leader.issuer.token(Role.WORKER)
        info = await leader.cluster.rotate_root(RotateRootRequest(), ANN)
        assert info.rotation is not None
        assert len(info.rotation.behind) == 4

        first, *others = hosts.hosts
        assert all(told_to_renew(leader, host) for host in hosts.hosts)
        await hosts.renew(first)
        verify_certificate(first.certificate, old.root_pem, SystemClock().now())  # who trusts only the old one accepts it
        assert not told_to_renew(leader, first)
        assert first.member is not None

        await (await hosts.leader()).member.transfer_leadership()  # type: ignore[union-attr]
        for host in others:
            assert authority(first.manager).rotation is not None
            await hosts.renew(host)
        await hosts.until(lambda: authority(first.manager).rotation is None)

        manager = (await hosts.leader()).manager
        await hosts.until(lambda: authority(manager).rotation is None)
        assert authority(manager).issuer != old.issuer
        assert manager.issuer.role_of(old_token.secret) is None
        for host in hosts.hosts:
            verify_certificate(host.certificate, manager.issuer.roots, SystemClock().now())
            assert not told_to_renew(manager, host)
        assert (await hosts.ask_to_join(worker, Role.WORKER)).roots == authority(manager).root_pem

    play(story)
