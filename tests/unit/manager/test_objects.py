"""Networks, configs and secrets through the control service: made, listed, removed, and secrets never shown."""

from __future__ import annotations

import msgspec
import pytest
from stackd.api.control import ClusterRequest, Empty, FileRequest, NameRequest, NetworkRequest, RemoveRequest
from stackd.base.errors import NotFound, Refused
from stackd.simulation.stacks import a_service, a_stack
from stackd.spec.digest import blob_digest
from stackd.spec.files import MAX_CONFIG_BYTES, MAX_SECRET_BYTES
from stackd.spec.stack import (
    ConfigSpec,
    External,
    ExternalKind,
    FileRef,
    NetworkAttachment,
    NetworkSpec,
    Pool,
    SecretSpec,
    StackSpec,
)

from control_builders import ANN, LiveManager, play

PASSWORD = b"correct horse battery staple"
SITE = b"listen 80;"


def on_networks(stack: StackSpec, *networks: NetworkSpec, external: str = "") -> StackSpec:
    """The stack with these networks, which all of its services join."""
    names = [one.name for one in networks] + ([external] if external else [])
    attachments = tuple(NetworkAttachment(network=name) for name in names)
    services = tuple(
        msgspec.structs.replace(service, task=msgspec.structs.replace(service.task, networks=attachments))
        for service in stack.services
    )
    externals = (External(kind=ExternalKind.NETWORK, name=external),) if external else ()
    return msgspec.structs.replace(stack, services=services, networks=networks, externals=externals)


def test_a_network_is_made_by_hand_listed_and_removed() -> None:
    async def story(manager: LiveManager) -> None:
        spec = NetworkSpec(name="common", pools=(Pool(subnet="10.9.0.0/24"),))
        made = await manager.control.create_network(NetworkRequest(spec=spec), ANN)
        assert (made.state, made.capacity, made.vxlan_id) == ("ready", 253, 4096)
        assert [part.gateway for part in made.subnets] == ["10.9.0.1"]
        assert (await manager.control.networks(Empty(), ANN)).items == (made,)
        await manager.control.remove_object(RemoveRequest(kind=ExternalKind.NETWORK, name="common"), ANN)
        assert (await manager.control.networks(Empty(), ANN)).items == ()

    play(story)


def test_a_list_of_networks_says_who_is_attached_and_how_full_they_are() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(on_networks(a_stack("shop", a_service("web", replicas=2)), NetworkSpec(name="shop_default")))
        await manager.settle()
        (network,) = (await manager.control.networks(Empty(), ANN)).items
        assert network.services == ("shop_web",)
        assert network.addresses == 3  # two tasks and the service
        assert network.stack == "shop"

    play(story)


def test_a_network_in_use_is_not_removed_and_the_users_are_named() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.control.create_network(NetworkRequest(spec=NetworkSpec(name="common")), ANN)
        await manager.apply(on_networks(a_stack("shop", a_service("web")), external="common"))
        with pytest.raises(Refused, match="shop_web is using it") as refused:
            await manager.control.remove_object(RemoveRequest(kind=ExternalKind.NETWORK, name="common"), ANN)
        assert refused.value.code == "object.in_use"

    play(story)


def test_a_config_is_made_and_read_back() -> None:
    async def story(manager: LiveManager) -> None:
        request = FileRequest(name="site", data=SITE, labels={"tier": "front"})
        made = await manager.control.create_config(request, ANN)
        assert (made.size_bytes, made.digest, made.labels) == (len(SITE), blob_digest(SITE), {"tier": "front"})
        detail = await manager.control.inspect_config(NameRequest(name="site"), ANN)
        assert (detail.config, detail.data) == (made, SITE)
        with pytest.raises(NotFound):
            await manager.control.inspect_config(NameRequest(name="other"), ANN)

    play(story)


def test_a_secret_is_sealed_on_its_way_in_and_shown_nowhere() -> None:
    async def story(manager: LiveManager) -> None:
        made = await manager.control.create_secret(FileRequest(name="password", data=PASSWORD), ANN)
        assert made.services == ()
        answers = (made, *(await manager.control.secrets(Empty(), ANN)).items)
        assert PASSWORD not in msgspec.json.encode(answers)
        assert all(PASSWORD not in entry.data for entry in manager.log.entries)
        (blob,) = manager.view.blobs.values()
        assert blob.sealed
        assert manager.key.open_blob(blob.data, blob.digest) == PASSWORD

    play(story)


def test_content_is_neither_empty_nor_too_large() -> None:
    async def story(manager: LiveManager) -> None:
        for create, most in (
            (manager.control.create_config, MAX_CONFIG_BYTES),
            (manager.control.create_secret, MAX_SECRET_BYTES),
        ):
            for data in (b"", bytes(most + 1)):
                with pytest.raises(Refused) as refused:
                    await create(FileRequest(name="file", data=data), ANN)
                assert refused.value.code == "object.size"
            await create(FileRequest(name="file", data=bytes(most)), ANN)

    play(story)


def test_what_is_made_twice_is_refused() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.control.create_config(FileRequest(name="site", data=SITE), ANN)
        with pytest.raises(Refused) as refused:
            await manager.control.create_config(FileRequest(name="site", data=b"other"), ANN)
        assert refused.value.code == "object.exists"
        with pytest.raises(NotFound):
            await manager.control.remove_object(RemoveRequest(kind=ExternalKind.CONFIG, name="other"), ANN)

    play(story)


def test_the_configs_and_secrets_of_a_stack_are_listed_with_their_users() -> None:
    async def story(manager: LiveManager) -> None:
        stack = a_stack("shop", a_service("web", secret="password"), secrets={"password": PASSWORD})
        config = ConfigSpec(name="shop_site", digest=blob_digest(SITE), data=SITE)
        await manager.apply(msgspec.structs.replace(stack, configs=(config,)))
        (secret,) = (await manager.control.secrets(Empty(), ANN)).items
        (listed,) = (await manager.control.configs(Empty(), ANN)).items
        assert secret.services == ("shop_web",)
        assert (listed.name, listed.services) == ("shop_site", ())

    play(story)


def test_an_external_secret_reaches_the_spec_of_its_user() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.control.create_secret(FileRequest(name="password", data=PASSWORD), ANN)
        stack = a_stack("shop", a_service("web"))
        service = stack.services[0]
        ref = FileRef(source="password", target="password")
        container = msgspec.structs.replace(service.task.container, secrets=(ref,))
        user = msgspec.structs.replace(service, task=msgspec.structs.replace(service.task, container=container))
        external = External(kind=ExternalKind.SECRET, name="password")
        await manager.apply(msgspec.structs.replace(stack, services=(user,), externals=(external,)))
        row = manager.view.specs.get(manager.service().spec)
        assert row is not None
        assert row.spec.container.secrets[0].digest == manager.key.name_secret(PASSWORD)
        assert (await manager.control.secrets(Empty(), ANN)).items[0].services == ("shop_web",)

    play(story)


def test_a_secret_from_a_driver_is_refused_at_deployment() -> None:
    async def story(manager: LiveManager) -> None:
        stack = msgspec.structs.replace(
            a_stack("shop", a_service("web")), secrets=(SecretSpec(name="shop_password", data=b"", driver="vault"),)
        )
        with pytest.raises(Refused) as refused:
            await manager.apply(stack)
        assert refused.value.code == "deploy.secret.driver"

    play(story)


def test_settings_of_the_cluster_are_changed_one_by_one() -> None:
    async def story(manager: LiveManager) -> None:
        first = await manager.control.update_cluster(ClusterRequest(rebalance=2), ANN)
        second = await manager.control.update_cluster(ClusterRequest(history=9), ANN)
        assert (first.rebalance_tasks, first.history_limit) == (2, 5)
        assert (second.rebalance_tasks, second.history_limit) == (2, 9)
        third = await manager.control.update_cluster(ClusterRequest(address_pools=("172.20.0.0/14",), subnet_bits=22), ANN)
        assert (third.address_pools, third.subnet_bits, third.history_limit) == (("172.20.0.0/14",), 22, 9)
        with pytest.raises(Refused):
            await manager.control.update_cluster(ClusterRequest(history=0), ANN)

    play(story)
