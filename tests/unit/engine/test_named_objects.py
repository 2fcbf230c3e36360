"""Networks, configs and secrets: with their stack, from outside of it, by hand, and gone when nothing uses them."""

from __future__ import annotations

from typing import Any

import pytest
from stackd.engine.inputs import (
    Applied,
    CreateFile,
    CreateNetwork,
    FileManifest,
    Rejected,
    RemoveObject,
    RemoveService,
    RemoveStack,
    Reply,
    RollbackService,
    StageContent,
)
from stackd.engine.model import Blob
from stackd.engine.taskstate import TaskState
from stackd.spec.digest import blob_digest
from stackd.spec.stack import ContainerSpec, External, ExternalKind, FileRef, TaskSpec

from engine_builders import BAD, NO_WAIT, SOMEBODY, ToyCluster, a_spec, settings
from network_builders import a_network, joining, run_on

SITE = "shop_site"
PASSWORD = "shop_password"


def content(text: str) -> Blob:
    return Blob(digest=blob_digest(text.encode()), data=text.encode())


def sealed(text: str) -> Blob:
    return Blob(digest=blob_digest(b"hmac of " + text.encode()), data=text.encode(), sealed=True)


def a_file(name: str, blob: Blob, **fields: Any) -> FileManifest:
    return FileManifest(name=name, digest=blob.digest, **fields)


def reading(config: FileRef | None = None, secret: FileRef | None = None, image: str = "v1") -> TaskSpec:
    container = ContainerSpec(
        image=image, configs=(config,) if config is not None else (), secrets=(secret,) if secret is not None else ()
    )
    return TaskSpec(container=container, restart=NO_WAIT)


def ref(name: str, blob: Blob | None = None) -> FileRef:
    return FileRef(source=name, target=f"/{name}", **({"digest": blob.digest} if blob is not None else {}))


def with_config(cluster: ToyCluster, text: str, **fields: Any) -> Reply:
    """Deploy `shop_web`, which reads the config `shop_site` with this text."""
    blob = content(text)
    cluster.submit(StageContent(blobs=(blob,)))
    spec = reading(ref(SITE, blob))
    return cluster.deploy(("web", spec, settings()), objects={"configs": (a_file(SITE, blob),)}, **fields)


def by_hand(cluster: ToyCluster, kind: ExternalKind, name: str, blob: Blob) -> Reply:
    cluster.submit(StageContent(blobs=(blob,)))
    return cluster.submit(CreateFile(kind=kind, file=a_file(name, blob), principal=SOMEBODY))


def remove(cluster: ToyCluster, kind: ExternalKind, name: str, **fields: Any) -> Reply:
    return cluster.submit(RemoveObject(kind=kind, name=name, principal=SOMEBODY, **fields))


def refused(reply: Reply, code: str) -> Rejected:
    assert isinstance(reply, Rejected), reply
    assert reply.code == code
    return reply


# With their stack.


def test_the_objects_of_a_stack_come_with_it_in_one_entry() -> None:
    cluster = ToyCluster()
    blob = content("one")
    cluster.submit(StageContent(blobs=(blob,)))
    before = cluster.entries
    objects = {"networks": (a_network(),), "configs": (a_file(SITE, blob),)}
    cluster.deploy(("web", joining("shop_front"), settings()), objects=objects)
    assert cluster.entries == before + 2  # the spec, then everything
    network, config = cluster.view.networks.get("shop_front"), cluster.view.configs.get(SITE)
    assert network is not None
    assert config is not None
    assert network.stack == config.stack == "shop"


def test_deploying_the_same_objects_again_writes_nothing() -> None:
    cluster = ToyCluster()
    with_config(cluster, "one")
    cluster.settle()
    before = cluster.entries
    assert with_config(cluster, "one") == Applied(changed=False, revision=cluster.view.stacks.get("shop").revision)  # type: ignore[union-attr]
    assert cluster.entries == before


def test_changed_content_rolls_the_service_and_moves_the_name_along() -> None:
    cluster = ToyCluster()
    with_config(cluster, "one")
    cluster.settle()
    with_config(cluster, "two")
    cluster.settle()
    config = cluster.view.configs.get(SITE)
    assert config is not None
    assert config.digest == content("two").digest
    assert len(cluster.tasks()) == 2


def test_a_rollback_finds_the_old_content_again() -> None:
    cluster = ToyCluster()
    with_config(cluster, "one")
    cluster.settle()
    with_config(cluster, "two")
    cluster.settle()
    cluster.submit(RollbackService(name="shop_web", principal=SOMEBODY))
    cluster.settle()
    row = cluster.view.specs.get(cluster.service().spec)
    assert row is not None
    assert row.spec.container.configs[0].digest in cluster.view.blobs


def test_labels_of_a_network_change_in_place() -> None:
    cluster = ToyCluster()
    run_on(cluster, a_network())
    cluster.settle()
    before = cluster.view.networks.get("shop_front")
    run_on(cluster, a_network(labels=(("tier", "front"),)))
    after = cluster.view.networks.get("shop_front")
    assert before is not None
    assert after is not None
    assert after.id == before.id
    assert after.spec.labels == (("tier", "front"),)


def test_a_network_in_use_is_not_changed_under_its_services() -> None:
    cluster = ToyCluster()
    run_on(cluster, a_network())
    reply = refused(cluster.deploy(("web", joining("shop_front"), settings()), objects={"networks": (a_network(ipv6=True),)}),
                    "deploy.network.changed")  # fmt: skip
    assert "shop_web" in reply.message
    assert cluster.view.networks.get("shop_front").spec.ipv6 is False  # type: ignore[union-attr]


def test_a_network_that_nothing_uses_is_replaced() -> None:
    cluster = ToyCluster()
    cluster.deploy(("web", a_spec(), settings()), objects={"networks": (a_network(),)})
    before = cluster.view.networks.get("shop_front")
    cluster.deploy(("web", a_spec(), settings()), objects={"networks": (a_network(ipv6=True),)})
    after = cluster.view.networks.get("shop_front")
    assert before is not None
    assert after is not None
    assert after.id != before.id


def test_what_a_stack_no_longer_lists_goes_when_no_task_and_no_rollback_needs_it() -> None:
    cluster = ToyCluster()
    run_on(cluster, a_network())
    cluster.settle()
    cluster.deploy(("web", a_spec("v2"), settings()))
    cluster.settle()
    network = cluster.view.networks.get("shop_front")
    assert network is not None  # the service could be rolled back to it
    assert network.removing
    cluster.deploy(("web", a_spec("v3"), settings()))
    cluster.settle()
    assert "shop_front" not in cluster.view.networks


def test_the_objects_of_a_removed_stack_go_with_its_last_task() -> None:
    cluster = ToyCluster()
    run_on(cluster, a_network())
    cluster.settle()
    (task,) = cluster.tasks()
    cluster.submit(RemoveStack(name="shop", principal=SOMEBODY))
    assert "shop_front" in cluster.view.networks
    cluster.report(task, TaskState.SHUTDOWN)
    assert "shop_front" not in cluster.view.networks


def test_an_object_on_its_way_out_comes_back_with_its_stack() -> None:
    cluster = ToyCluster()
    run_on(cluster, a_network())
    cluster.settle()
    before = cluster.view.networks.get("shop_front")
    cluster.submit(RemoveStack(name="shop", principal=SOMEBODY))
    run_on(cluster, a_network())
    after = cluster.view.networks.get("shop_front")
    assert before is not None
    assert after is not None
    assert (after.id, after.removing) == (before.id, False)


def test_an_object_of_another_stack_is_taken_over_only_with_adopt() -> None:
    cluster = ToyCluster()
    run_on(cluster, a_network())
    objects = {"networks": (a_network(),)}
    late = ("web", joining("shop_front"), settings())
    refused(cluster.deploy(late, stack="late", objects=objects), "deploy.object.owned")
    assert isinstance(cluster.deploy(late, stack="late", objects=objects, adopt=True), Applied)
    assert cluster.view.networks.get("shop_front").stack == "late"  # type: ignore[union-attr]


def test_names_that_differ_only_in_case_are_one_name() -> None:
    cluster = ToyCluster()
    by_hand(cluster, ExternalKind.CONFIG, "Site", content("one"))
    refused(by_hand(cluster, ExternalKind.CONFIG, "site", content("one")), "object.exists")


@pytest.mark.parametrize("name", ["", "-site", "site-", "a b", "x" * 65])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    refused(by_hand(ToyCluster(), ExternalKind.SECRET, name, sealed("s")), "object.name")


# From outside.


def test_an_external_object_that_does_not_exist_is_refused_by_name() -> None:
    for kind in ExternalKind:
        cluster = ToyCluster()
        objects = {"externals": (External(kind=kind, name="common"),)}
        reply = refused(cluster.deploy(("web", a_spec(), settings()), objects=objects), "deploy.external.missing")
        assert '"common"' in reply.message
        assert f"stackd {kind} create common" in reply.hint


def test_networks_that_every_node_has_need_not_be_made() -> None:
    cluster = ToyCluster()
    objects = {"externals": (External(kind=ExternalKind.NETWORK, name="host"),)}
    assert isinstance(cluster.deploy(("web", joining("host"), settings()), objects=objects), Applied)


def test_a_network_that_nobody_made_is_refused_by_name() -> None:
    reply = refused(ToyCluster().deploy(("web", joining("nowhere"), settings())), "deploy.network.unknown")
    assert '"nowhere"' in reply.message


def test_an_external_config_is_taken_as_it_is_in_the_cluster() -> None:
    cluster = ToyCluster()
    by_hand(cluster, ExternalKind.CONFIG, "common", content("one"))
    objects = {"externals": (External(kind=ExternalKind.CONFIG, name="common"),)}
    cluster.deploy(("web", reading(ref("common")), settings()), objects=objects)
    row = cluster.view.specs.get(cluster.service().spec)
    assert row is not None
    assert row.spec.container.configs[0].digest == content("one").digest
    cluster.settle()
    assert cluster.deploy(("web", reading(ref("common")), settings()), objects=objects).changed is False  # type: ignore[union-attr]


def test_an_external_secret_is_taken_as_it_is_in_the_cluster() -> None:
    cluster = ToyCluster()
    by_hand(cluster, ExternalKind.SECRET, "common", sealed("s"))
    objects = {"externals": (External(kind=ExternalKind.SECRET, name="common"),)}
    cluster.deploy(("web", reading(secret=ref("common")), settings()), objects=objects)
    row = cluster.view.specs.get(cluster.service().spec)
    assert row is not None
    assert row.spec.container.secrets[0].digest == sealed("s").digest


def test_what_one_stack_makes_another_may_name_external() -> None:
    cluster = ToyCluster()
    run_on(cluster, a_network("common"))
    objects = {"externals": (External(kind=ExternalKind.NETWORK, name="common"),)}
    assert isinstance(cluster.deploy(("web", joining("common"), settings()), stack="late", objects=objects), Applied)


def test_a_network_stays_as_long_as_another_stack_uses_it() -> None:
    cluster = ToyCluster()
    run_on(cluster, a_network("common"))
    objects = {"externals": (External(kind=ExternalKind.NETWORK, name="common"),)}
    cluster.deploy(("web", joining("common"), settings()), stack="late", objects=objects)
    cluster.settle()
    cluster.submit(RemoveStack(name="shop", principal=SOMEBODY))
    cluster.rounds(5)
    assert "common" in cluster.view.networks
    cluster.submit(RemoveStack(name="late", principal=SOMEBODY))
    cluster.rounds(5)
    assert "common" not in cluster.view.networks


# By hand.


def test_an_object_made_by_hand_stays_until_it_is_removed_by_hand() -> None:
    cluster = ToyCluster()
    by_hand(cluster, ExternalKind.CONFIG, "common", content("one"))
    refused(by_hand(cluster, ExternalKind.CONFIG, "common", content("two")), "object.exists")
    assert isinstance(remove(cluster, ExternalKind.CONFIG, "common"), Applied)
    assert len(cluster.view.configs) == 0
    refused(remove(cluster, ExternalKind.CONFIG, "common"), "object.unknown")


def test_removing_an_object_in_use_is_refused_naming_the_users() -> None:
    cluster = ToyCluster()
    cluster.submit(CreateNetwork(spec=a_network("common"), principal=SOMEBODY))
    cluster.deploy(
        *((name, joining("common"), settings()) for name in ("one", "two")),
        objects={"externals": (External(kind=ExternalKind.NETWORK, name="common"),)},
    )
    reply = refused(remove(cluster, ExternalKind.NETWORK, "common"), "object.in_use")
    assert "shop_one, shop_two are using it" in reply.message


def test_a_secret_in_use_by_a_service_is_not_removed_and_afterwards_it_is() -> None:
    cluster = ToyCluster()
    by_hand(cluster, ExternalKind.SECRET, PASSWORD, sealed("s"))
    objects = {"externals": (External(kind=ExternalKind.SECRET, name=PASSWORD),)}
    cluster.deploy(("web", reading(secret=ref(PASSWORD)), settings()), objects=objects)
    refused(remove(cluster, ExternalKind.SECRET, PASSWORD), "object.in_use")
    cluster.submit(RemoveService(name="shop_web", principal=SOMEBODY))
    assert isinstance(remove(cluster, ExternalKind.SECRET, PASSWORD), Applied)


def test_a_network_used_only_by_tasks_that_stop_can_be_removed() -> None:
    cluster = ToyCluster()
    cluster.submit(CreateNetwork(spec=a_network("common"), principal=SOMEBODY))
    cluster.deploy(("web", joining("common"), settings()))
    cluster.settle()
    cluster.submit(RemoveService(name="shop_web", principal=SOMEBODY))
    assert isinstance(remove(cluster, ExternalKind.NETWORK, "common"), Applied)
    assert "common" not in cluster.view.networks
    assert len(cluster.view.network_statuses) == 1
    cluster.rounds(5)
    assert len(cluster.view.network_statuses) == 0


def test_a_network_that_a_paused_update_was_to_leave_is_not_removed_while_tasks_are_in_it() -> None:
    cluster = ToyCluster()
    cluster.submit(CreateNetwork(spec=a_network("common"), principal=SOMEBODY))
    cluster.deploy(("web", joining("common"), settings(2)))
    cluster.settle()
    cluster.deploy(("web", a_spec(BAD), settings(2)))
    cluster.until(lambda: "rollout.paused" in cluster.kinds())
    reply = refused(remove(cluster, ExternalKind.NETWORK, "common"), "object.in_use")
    assert "shop_web is using it" in reply.message
    cluster.submit(RollbackService(name="shop_web", principal=SOMEBODY))
    cluster.settle()


def test_a_task_that_goes_back_to_a_network_that_is_gone_waits_until_somebody_makes_it_again() -> None:
    cluster = ToyCluster()
    cluster.submit(CreateNetwork(spec=a_network("common"), principal=SOMEBODY))
    for spec in (joining("common"), a_spec("v2")):
        cluster.deploy(("web", spec, settings()))
        cluster.settle()
    assert isinstance(remove(cluster, ExternalKind.NETWORK, "common"), Applied)
    cluster.submit(RollbackService(name="shop_web", principal=SOMEBODY))
    (waiting,) = [task for task in cluster.live() if not task.node_id]
    status = cluster.view.status_of(waiting.id)
    assert (status.reason, status.error) == ("allocate.network.missing", 'there is no network "common"')
    cluster.submit(CreateNetwork(spec=a_network("common"), principal=SOMEBODY))
    cluster.settle()
    assert cluster.images() == ["v1"]


def test_an_object_that_a_source_owns_is_not_removed_by_hand() -> None:
    cluster = ToyCluster()
    cluster.deploy(("web", a_spec(), settings()), source="infra", objects={"networks": (a_network(),)})
    refused(remove(cluster, ExternalKind.NETWORK, "shop_front"), "deploy.owned")
    assert isinstance(remove(cluster, ExternalKind.NETWORK, "shop_front", override=True), Applied)


def test_the_content_of_a_named_object_is_kept_though_no_task_uses_it() -> None:
    cluster = ToyCluster()
    by_hand(cluster, ExternalKind.CONFIG, "common", content("one"))
    cluster.deploy(("web", a_spec(), settings()))
    cluster.now = type(cluster.now)(cluster.now + 3600 * 10**9)
    cluster.submit(RemoveStack(name="shop", principal=SOMEBODY))
    cluster.rounds(5)
    assert content("one").digest in cluster.view.blobs


def test_a_secret_from_a_driver_is_refused_because_no_node_has_one() -> None:
    file = FileManifest(name=PASSWORD, digest=blob_digest(b""), driver="vault")
    reply = ToyCluster().deploy(("web", a_spec(), settings()), objects={"secrets": (file,)})
    refused(reply, "deploy.secret.driver")
