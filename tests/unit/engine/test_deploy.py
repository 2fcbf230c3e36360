"""Deploying stacks: all or nothing, only what differs, ownership, ports, revisions, content."""

from __future__ import annotations

import msgspec
import pytest
from stackd.base.ids import BlobDigest, SpecDigest
from stackd.base.time import MINUTE, SECOND, Duration
from stackd.engine.inputs import (
    Applied,
    DeployRevision,
    ForceUpdate,
    Rejected,
    RemoveService,
    RemoveStack,
    Reply,
    RollbackService,
    ScaleService,
    ServiceManifest,
    SetSpec,
    StackManifest,
    StageContent,
)
from stackd.engine.model import Blob, Revision, SpecRow
from stackd.engine.parts import Owner, Principal, PrincipalKind, RevisionState
from stackd.engine.reap import DEFAULT_HISTORY
from stackd.engine.revisions import REVISIONS_KEPT
from stackd.engine.taskstate import TaskState
from stackd.spec.digest import blob_digest, spec_digest
from stackd.spec.stack import (
    REPLICAS_MAX,
    ContainerSpec,
    FailureAction,
    FileRef,
    Port,
    PublishMode,
    ServiceMode,
    TaskSpec,
    UpdateConfig,
)

from engine_builders import BAD, CRASHING, SOMEBODY, ToyCluster, a_spec, once, settings

SOURCE = Principal(kind=PrincipalKind.SOURCE, name="infra")
WEB = ("web", a_spec("v1"), settings(2))
DB = ("db", a_spec("db1"), settings(1))


def rejected(reply: Reply, code: str) -> Rejected:
    assert isinstance(reply, Rejected), reply
    assert reply.code == code
    assert reply.message
    return reply


def revision(cluster: ToyCluster, label: str) -> Revision:
    return next(row for row in cluster.view.revisions.values() if row.label == label)


def test_a_deployed_stack_has_its_services_under_scoped_names() -> None:
    cluster = ToyCluster()
    reply = cluster.deploy(WEB, DB, label="c1")
    assert isinstance(reply, Applied)
    assert reply.changed
    assert [service.name for service in cluster.services()] == ["shop_db", "shop_web"]
    stack = cluster.view.stacks.get("shop")
    assert stack is not None
    assert stack.revision == reply.revision


def test_deploying_the_same_again_writes_nothing() -> None:
    cluster = ToyCluster()
    first = cluster.deploy(WEB, DB)
    cluster.settle()
    before = cluster.entries
    again = cluster.deploy(WEB, DB)
    assert cluster.entries == before
    assert isinstance(first, Applied)
    assert again == Applied(changed=False, revision=first.revision)


def test_only_what_changed_is_touched() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB, DB)
    cluster.settle()
    before = cluster.service("shop_db")
    kept = [task.id for task in cluster.running("shop_db")]
    cluster.deploy(("web", a_spec("v2"), settings(2)), DB)
    cluster.settle()
    assert cluster.service("shop_db") == before
    assert [task.id for task in cluster.running("shop_db")] == kept


def test_a_service_that_left_the_stack_is_removed() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB, DB)
    cluster.settle()
    cluster.deploy(WEB)
    assert cluster.view.service_named("shop_db") is None
    cluster.until(lambda: len(cluster.view.services) == 1)


def test_a_service_whose_mode_changes_becomes_another_service() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB)
    cluster.settle()
    old = cluster.service().id
    cluster.deploy(("web", a_spec("v1"), settings(mode=ServiceMode.GLOBAL)))
    assert cluster.service().id != old
    cluster.until(lambda: old not in cluster.view.services)
    cluster.settle()
    assert len(cluster.running()) == 1


def test_a_revision_of_several_stacks_is_deployed_as_a_whole_or_not_at_all() -> None:
    cluster = ToyCluster()
    good = a_spec("v1")
    cluster.submit(StageContent(specs=(SpecRow(digest=spec_digest(good), spec=good),)))
    before = cluster.entries

    def stack(name: str, digest: SpecDigest) -> StackManifest:
        service = ServiceManifest(name="web", spec=digest, settings=settings(1))
        return StackManifest(name=name, owner=Owner(source="infra"), services=(service,))

    stacks = (stack("one", spec_digest(good)), stack("two", SpecDigest("0" * 32)))
    reply = cluster.submit(DeployRevision(label="c1", source="infra", stacks=stacks, principal=SOURCE))
    rejected(reply, "deploy.content.missing")
    assert cluster.entries == before
    assert len(cluster.view.stacks) == 0


def test_a_config_whose_content_was_not_staged_is_refused() -> None:
    ref = FileRef(source="conf", target="/conf", digest=blob_digest(b"hello"))
    spec = TaskSpec(container=ContainerSpec(image="v1", configs=(ref,)))
    cluster = ToyCluster()
    rejected(cluster.deploy(("web", spec, settings(1))), "deploy.content.missing")
    cluster.submit(StageContent(blobs=(Blob(digest=ref.digest, data=b"hello"),)))
    assert isinstance(cluster.deploy(("web", spec, settings(1))), Applied)


def test_content_under_a_false_digest_is_refused() -> None:
    cluster = ToyCluster()
    rejected(cluster.submit(StageContent(specs=(SpecRow(digest=SpecDigest("x"), spec=a_spec()),))), "deploy.content.digest")
    rejected(cluster.submit(StageContent(blobs=(Blob(digest=BlobDigest("x"), data=b"y"),))), "deploy.content.digest")


def test_staging_what_is_known_writes_nothing() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB)
    before = cluster.entries
    row = SpecRow(digest=spec_digest(WEB[1]), spec=WEB[1])
    assert cluster.submit(StageContent(specs=(row,))) == Applied(changed=False)
    assert cluster.entries == before


def test_a_stack_of_another_owner_is_refused_unless_it_is_adopted() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB, source="infra", principal=SOURCE)
    reply = rejected(cluster.deploy(("web", a_spec("v2"), settings(2))), "deploy.owner")
    assert "infra" in reply.message
    assert "--adopt" in reply.hint
    assert isinstance(cluster.deploy(("web", a_spec("v2"), settings(2)), adopt=True), Applied)
    stack = cluster.view.stacks.get("shop")
    assert stack is not None
    assert stack.owner.source == ""


def test_one_name_for_two_stacks_of_a_revision_is_refused() -> None:
    cluster = ToyCluster()
    stack = StackManifest(name="shop", owner=Owner(), services=())
    reply = cluster.submit(DeployRevision(label="x", source="", stacks=(stack, stack), principal=SOMEBODY))
    rejected(reply, "deploy.stack.duplicate")


def published(port: int, mode: PublishMode = PublishMode.INGRESS, image: str = "v1") -> TaskSpec:
    return a_spec(image, ports=(Port(target=80, published=port, mode=mode),))


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        (PublishMode.INGRESS, PublishMode.INGRESS, True),
        (PublishMode.INGRESS, PublishMode.HOST, True),
        (PublishMode.HOST, PublishMode.INGRESS, True),
        (PublishMode.HOST, PublishMode.HOST, False),
    ],
)
def test_an_ingress_port_belongs_to_one_service(first: PublishMode, second: PublishMode, refused: bool) -> None:
    cluster = ToyCluster()
    cluster.deploy(("web", published(8080, first), settings(1)))
    reply = cluster.deploy(("web", published(8080, second), settings(1)), stack="other")
    if refused:
        assert "shop_web" in rejected(reply, "deploy.port.conflict").message
        assert "other" not in cluster.view.stacks
    else:
        assert isinstance(reply, Applied)


def test_a_port_may_move_from_one_service_to_another_in_one_revision() -> None:
    cluster = ToyCluster()
    cluster.deploy(("a", published(8080), settings(1)), ("b", a_spec("v1"), settings(1)))
    cluster.settle()
    reply = cluster.deploy(("a", a_spec("v1"), settings(1)), ("b", published(8080), settings(1)))
    assert isinstance(reply, Applied)
    cluster.settle()


def test_changing_a_port_in_place_is_no_conflict_with_itself() -> None:
    cluster = ToyCluster()
    cluster.deploy(("web", published(8080), settings(1)))
    assert isinstance(cluster.deploy(("web", published(8080, image="v2"), settings(1))), Applied)


def test_prune_removes_stacks_of_the_source_and_no_others() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB, stack="mine", source="infra", principal=SOURCE)
    cluster.deploy(WEB, stack="hand")
    prune = ("mine", "hand")
    cluster.submit(DeployRevision(label="c2", source="infra", stacks=(), principal=SOURCE, prune=prune))
    assert "mine" not in cluster.view.stacks
    assert "hand" in cluster.view.stacks
    cluster.until(lambda: len(cluster.view.services) == 1)


# Changes by hand.


@pytest.mark.parametrize("override", [False, True])
def test_changes_by_hand_of_what_a_source_owns_need_an_override(override: bool) -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB, source="infra", principal=SOURCE)
    cluster.settle()
    cluster.submit(ForceUpdate(name="shop_web", principal=SOMEBODY))  # changes nothing of what the source says
    cluster.settle()
    commands = [
        ScaleService(name="shop_web", replicas=5, principal=SOMEBODY, override=override),
        RollbackService(name="shop_web", principal=SOMEBODY, override=override),
        SetSpec(
            name="shop_web",
            spec=cluster.service().spec,
            settings=settings(7),
            principal=SOMEBODY,
            override=override,
        ),
    ]
    for command in commands:
        reply = cluster.submit(command)
        if override:
            assert isinstance(reply, Applied)
            assert cluster.service().override
        else:
            assert "shop.yaml" in rejected(reply, "deploy.owned").hint
    for command in (
        RemoveService(name="shop_web", principal=SOMEBODY, override=override),
        RemoveStack(name="shop", principal=SOMEBODY, override=override),
    ):
        assert isinstance(cluster.submit(command), Applied if override else Rejected)


def test_the_next_sync_undoes_an_override() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB, source="infra", principal=SOURCE, label="c1")
    cluster.settle()
    cluster.submit(ScaleService(name="shop_web", replicas=5, principal=SOMEBODY, override=True))
    cluster.deploy(WEB, source="infra", principal=SOURCE, label="c1")
    assert (cluster.service().settings.replicas, cluster.service().override) == (2, False)


def test_an_override_that_the_source_comes_to_say_as_well_is_none_any_more() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB, source="infra", principal=SOURCE, label="c1")
    cluster.submit(ScaleService(name="shop_web", replicas=5, principal=SOMEBODY, override=True))
    assert cluster.service().override
    cluster.deploy(("web", a_spec("v1"), settings(5)), source="infra", principal=SOURCE, label="c2")
    assert (cluster.service().settings.replicas, cluster.service().override) == (5, False)


def test_a_source_that_moves_on_without_changing_anything_is_at_its_new_revision_at_once() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB, source="infra", principal=SOURCE, label="c1")
    cluster.settle()
    tasks = cluster.tasks()
    reply = cluster.deploy(WEB, source="infra", principal=SOURCE, label="c2")
    assert isinstance(reply, Applied)
    revision = cluster.view.revisions.get(reply.revision)
    assert revision is not None
    assert (revision.label, revision.state) == ("c2", RevisionState.CONVERGED)
    assert cluster.tasks() == tasks
    assert cluster.deploy(WEB, source="infra", principal=SOURCE, label="c2") == Applied(changed=False, revision=revision.id)


def test_a_forced_update_is_not_undone_by_the_next_sync() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB, source="infra", principal=SOURCE, label="c1")
    cluster.settle()
    cluster.submit(ForceUpdate(name="shop_web", principal=SOMEBODY))
    cluster.settle()
    before = cluster.entries
    cluster.deploy(WEB, source="infra", principal=SOURCE, label="c1")
    assert cluster.entries == before


def test_a_stale_version_is_refused() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB)
    version = cluster.service().version
    cluster.submit(ScaleService(name="shop_web", replicas=3, principal=SOMEBODY, version=version))
    reply = cluster.submit(ScaleService(name="shop_web", replicas=4, principal=SOMEBODY, version=version))
    rejected(reply, "service.stale")
    assert cluster.service().settings.replicas == 3


def test_a_version_does_not_move_with_reports() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB)
    version = cluster.service().version
    cluster.settle()
    assert cluster.service().version == version


def test_commands_on_what_is_not_there_are_refused() -> None:
    cluster = ToyCluster()
    rejected(cluster.submit(ScaleService(name="x", replicas=1, principal=SOMEBODY)), "service.unknown")
    rejected(cluster.submit(RemoveStack(name="x", principal=SOMEBODY)), "stack.unknown")
    cluster.deploy(WEB, ("agent", a_spec("v1"), settings(mode=ServiceMode.GLOBAL)))
    rejected(cluster.submit(ScaleService(name="shop_agent", replicas=1, principal=SOMEBODY)), "service.scale.global")
    for replicas in (-1, REPLICAS_MAX + 1):
        scaling = ScaleService(name="shop_web", replicas=replicas, principal=SOMEBODY)
        rejected(cluster.submit(scaling), "service.scale.range")
    rejected(cluster.submit(RollbackService(name="shop_web", principal=SOMEBODY)), "service.rollback.none")
    wrong = SetSpec(name="shop_agent", spec=cluster.service("shop_agent").spec, settings=settings(1), principal=SOMEBODY)
    rejected(cluster.submit(wrong), "service.mode")


# Revisions.


def test_a_revision_rolls_until_its_services_have_converged() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB, DB, label="c1")
    assert revision(cluster, "c1").state is RevisionState.ROLLING
    cluster.settle()
    assert revision(cluster, "c1").state is RevisionState.CONVERGED
    assert revision(cluster, "c1").finished_at == cluster.now


def test_a_newer_revision_of_the_source_supersedes_one_that_still_rolls() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB, label="c1", source="infra", principal=SOURCE)
    cluster.deploy(("web", a_spec("v2"), settings(2)), label="c2", source="infra", principal=SOURCE)
    assert revision(cluster, "c1").state is RevisionState.SUPERSEDED
    cluster.settle()
    assert revision(cluster, "c2").state is RevisionState.CONVERGED


def test_stacks_applied_by_hand_do_not_supersede_each_other() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB, label="a", stack="one")
    cluster.deploy(WEB, label="b", stack="two")
    assert revision(cluster, "a").state is RevisionState.ROLLING


def test_a_revision_whose_update_pauses_has_failed_and_says_why() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB, label="c1")
    cluster.settle()
    cluster.deploy(("web", a_spec(BAD), settings(2)), label="c2")
    cluster.until(lambda: revision(cluster, "c2").state is RevisionState.FAILED)
    assert "no such image" in revision(cluster, "c2").message


def test_a_rollback_of_the_revision_before_is_none_of_this_one() -> None:
    """It changes nothing that is rolled out, so the last rollout on record is still the one that was rolled back."""
    cluster = ToyCluster()
    rolling = settings(2, update=UpdateConfig(failure_action=FailureAction.ROLLBACK, monitor_ns=1))
    for label, image, wanted in (
        ("c1", "v1", rolling),
        ("c2", CRASHING, rolling),
        ("c3", "v1", msgspec.structs.replace(rolling, drain_start_first=True)),
    ):
        cluster.deploy(("web", a_spec(image), wanted), label=label)
        cluster.settle()
    assert revision(cluster, "c2").state is RevisionState.ROLLED_BACK
    assert revision(cluster, "c3").state is RevisionState.CONVERGED


def test_a_revision_has_not_failed_while_it_is_still_rolled_back_although_a_slot_is_given_up() -> None:
    cluster = ToyCluster()
    rollback = UpdateConfig(max_failure_ratio=1.0, monitor_ns=Duration(5 * SECOND))
    rolling = settings(2, update=UpdateConfig(failure_action=FailureAction.ROLLBACK, monitor_ns=1), rollback=rollback)
    cluster.deploy(("web", a_spec("v1", restart=once()), rolling), label="c1")
    cluster.settle()
    cluster.broken.add("v1")
    cluster.deploy(("web", a_spec(CRASHING, restart=once()), rolling), label="c2")
    cluster.until(lambda: "rollout.rollback_started" in cluster.kinds())
    cluster.until(lambda: cluster.health().health == "failed")
    assert revision(cluster, "c2").state is RevisionState.ROLLING
    cluster.until(lambda: "rollout.rollback_completed" in cluster.kinds())
    assert revision(cluster, "c2").state is RevisionState.ROLLED_BACK


def test_a_revision_whose_update_rolls_back_is_rolled_back_and_not_tried_again_by_its_source() -> None:
    cluster = ToyCluster()
    rolling = settings(2, update=UpdateConfig(failure_action=FailureAction.ROLLBACK, monitor_ns=1))
    cluster.deploy(("web", a_spec("v1"), rolling), label="c1", source="infra", principal=SOURCE)
    cluster.settle()
    bad = ("web", a_spec(CRASHING), rolling)
    cluster.deploy(bad, label="c2", source="infra", principal=SOURCE)
    cluster.until(lambda: revision(cluster, "c2").state is RevisionState.ROLLED_BACK)
    assert "can't be started" in revision(cluster, "c2").message
    before = cluster.entries
    again = cluster.deploy(
        bad,
        label="c2",
        source="infra",
        principal=SOURCE,
    )
    assert isinstance(again, Applied)
    assert not again.changed
    assert cluster.entries <= before + 1  # at most the staged content
    by_hand = cluster.deploy(bad, label="c2", source="infra", principal=SOMEBODY)
    assert isinstance(by_hand, Applied)
    assert by_hand.changed


def test_a_first_deploy_that_can_never_run_fails_its_revision() -> None:
    cluster = ToyCluster()
    cluster.deploy(("web", a_spec(BAD, restart=once()), settings(1)), label="c1")
    cluster.until(lambda: revision(cluster, "c1").state is RevisionState.FAILED)
    assert cluster.health().health == "failed"


def test_content_that_nothing_names_any_more_is_collected() -> None:
    cluster = ToyCluster()
    ref = FileRef(source="conf", target="/conf", digest=blob_digest(b"hello"))
    container = ContainerSpec(image="v1", configs=(ref,))
    cluster.submit(StageContent(blobs=(Blob(digest=ref.digest, data=b"hello"),)))
    cluster.deploy(("web", msgspec.structs.replace(a_spec(), container=container), settings(1)))
    cluster.settle()
    for image in ("v2", "v3"):
        cluster.now = type(cluster.now)(cluster.now + 11 * MINUTE)
        cluster.deploy(("web", a_spec(image), settings(1)))
        cluster.settle()
    assert ref.digest in cluster.view.blobs  # a task of the history still names it
    cluster.submit(RemoveStack(name="shop", principal=SOMEBODY))
    cluster.until(lambda: len(cluster.view.services) == 0)
    cluster.now = type(cluster.now)(cluster.now + 11 * MINUTE)
    cluster.new_leader()
    assert len(cluster.view.specs) == 0
    assert len(cluster.view.blobs) == 0


def test_content_of_what_was_removed_soon_after_it_was_staged_goes_when_it_has_aged() -> None:
    cluster = ToyCluster()
    cluster.run()
    cluster.settle()
    cluster.submit(RemoveStack(name="shop", principal=SOMEBODY))
    cluster.until(lambda: not cluster.view.services)
    assert len(cluster.view.specs) == 1
    cluster.rounds(12, after_ns=MINUTE)
    assert len(cluster.view.specs) == 0


def test_the_spec_that_a_service_may_go_back_to_is_kept_however_old_it_is() -> None:
    cluster = ToyCluster()
    for image in ("v1", "v2", "v3"):
        cluster.run(a_spec(image))
        cluster.settle()
        cluster.round(after_ns=20 * MINUTE)
    for _ in range(DEFAULT_HISTORY):  # no task of an earlier spec is on record any more
        cluster.report(cluster.running()[0], TaskState.FAILED, error="killed")
        cluster.settle()
    cluster.deploy(("web", a_spec("gone"), settings()), stack="other")
    cluster.submit(RemoveStack(name="other", principal=SOMEBODY))
    cluster.rounds(20, after_ns=MINUTE)
    kept = {row.spec.container.image for row in cluster.view.specs.values()}
    assert kept == {"v2", "v3"}


def test_content_whose_deployment_never_came_goes_as_well() -> None:
    cluster = ToyCluster()
    spec = a_spec("never")
    cluster.submit(StageContent(specs=(SpecRow(digest=spec_digest(spec), spec=spec),)))
    cluster.rounds(12, after_ns=MINUTE)
    assert len(cluster.view.specs) == 0


def test_content_just_staged_is_not_collected_before_its_deployment_comes() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB)
    cluster.settle()
    cluster.deploy(WEB, DB)
    spec = a_spec("next")
    cluster.submit(StageContent(specs=(SpecRow(digest=spec_digest(spec), spec=spec),)))
    cluster.settle()  # the end of a revision that changes a stack collects
    assert spec_digest(spec) in cluster.view.specs


def test_the_oldest_revisions_that_are_over_go_and_those_that_stacks_name_stay() -> None:
    cluster = ToyCluster()
    cluster.deploy(DB, stack="old", label="kept")
    for number in range(REVISIONS_KEPT + 20):
        cluster.deploy(("web", a_spec(), settings(number % 2)), label=f"c{number}")
        cluster.settle()
    labels = {row.label for row in cluster.view.revisions.values()}
    assert len(labels) == REVISIONS_KEPT
    assert {"kept", "c119"} <= labels
    assert not {f"c{number}" for number in range(20)} & labels


def test_events_tell_what_a_person_wants_to_know() -> None:
    cluster = ToyCluster()
    cluster.deploy(WEB)
    cluster.settle()
    cluster.report(cluster.running()[0], TaskState.FAILED, error="killed")
    cluster.settle()
    kinds = cluster.kinds()
    for kind in ("stack.created", "service.created", "revision.converged", "task.failed", "task.restarted"):
        assert kinds.count(kind) == 1, kind
    event = next(event for event in cluster.view.events_after(0) if event.kind == "task.failed")
    assert (event.subject, event.message, event.stack) == ("shop_web.1", "killed", "shop")
