"""From loaded stacks to what the writer takes: nothing secret in the clear, nothing too large, nothing twice."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from stackd.base.errors import Refused
from stackd.base.records import encode
from stackd.engine.inputs import Applied, DeployRevision, Input, Rejected, Reply, StageContent
from stackd.engine.model import Blob, SpecRow
from stackd.engine.parts import SYSTEM, Owner
from stackd.engine.store import Store, Transaction
from stackd.engine.view import View
from stackd.manager.intake import STAGE_ATTEMPTS, STAGE_BYTES, Prepared, deploy, prepare, staging
from stackd.raft.consensus import MAX_ENTRY_BYTES
from stackd.security.keys import KEY_BYTES, RootKey
from stackd.simulation.loop import run
from stackd.simulation.stacks import a_service, a_stack
from stackd.spec.stack import StackSpec

from control_builders import LiveManager, play

KEY = RootKey(bytes(KEY_BYTES))
SECRET = b"correct horse battery staple"
EMPTY = Store().view


def prepared(*stacks: StackSpec) -> Prepared:
    return prepare([(stack, Owner(file=f"{stack.name}.yaml")) for stack in stacks], KEY)


def revision(content: Prepared) -> DeployRevision:
    return DeployRevision(label="one", source="", stacks=content.manifests, principal=SYSTEM)


def secretive(name: str = "shop") -> StackSpec:
    return a_stack(name, a_service(secret="password"), secrets={"password": SECRET})


def large_stack(services: int) -> StackSpec:
    names = [f"service-{number:04}" for number in range(services)]
    return a_stack("large", *(a_service(name, f"registry/{name}:v1", replicas=2) for name in names))


class Recorder:
    """A writer that passes everything on and keeps it."""

    def __init__(self, manager: LiveManager) -> None:
        self._manager = manager
        self.batches: list[Sequence[Input]] = []

    @property
    def view(self) -> View:
        return self._manager.view

    async def submit_all(self, inputs: Sequence[Input]) -> tuple[Reply, ...]:
        self.batches.append(inputs)
        return await self._manager.submit(*inputs)


def test_no_secret_is_in_the_clear_in_anything_that_is_submitted_or_logged() -> None:
    async def story(manager: LiveManager) -> None:
        recorder = Recorder(manager)
        content = prepared(secretive())
        assert isinstance(await deploy(recorder, content, revision(content)), Applied)
        assert not any(SECRET in encode(one) for batch in recorder.batches for one in batch)
        assert not any(SECRET in entry.data for entry in manager.log.entries)
        assert SECRET.decode() not in repr(recorder.batches)
        (blob,) = manager.view.blobs.values()
        assert blob.sealed
        assert KEY.open_blob(blob.data, blob.digest) == SECRET

    play(story)


def test_one_secret_in_two_stacks_is_one_blob() -> None:
    content = prepared(secretive("shop"), secretive("blog"))
    assert len(content.blobs) == 1
    refs = {ref.digest for row in content.specs for ref in row.spec.container.secrets}
    assert refs == {content.blobs[0].digest}


def test_a_secret_that_the_stack_names_but_lacks_is_refused() -> None:
    with pytest.raises(Refused, match="password") as refused:
        prepared(a_stack("shop", a_service(secret="password")))
    assert refused.value.code == "deploy.content.missing"


def test_equal_specs_are_staged_once() -> None:
    content = prepared(a_stack("shop", a_service("a"), a_service("b"), a_service("c", "other")))
    assert len(content.specs) == 2
    assert len(content.manifests[0].services) == 3


def test_pieces_stay_below_the_limit_and_hold_everything() -> None:
    configs = [a_stack(f"s{n}", a_service(config=bytes([n]) * 100_000), config=bytes([n]) * 100_000) for n in range(12)]
    content = prepared(*configs, large_stack(2000))
    pieces = list(staging(content, EMPTY))
    assert all(len(encode(piece)) <= STAGE_BYTES for piece in pieces)
    assert sum(len(piece.specs) for piece in pieces) == len(content.specs)
    assert sum(len(piece.blobs) for piece in pieces) == 12


def test_a_config_as_large_as_configs_may_be_travels_alone() -> None:
    async def story(manager: LiveManager) -> None:
        recorder = Recorder(manager)
        data = b"x" * (1000 * 1024)
        content = prepared(a_stack("shop", a_service(config=data), config=data))
        assert await deploy(recorder, content, revision(content)) == Applied(
            changed=True, version=manager.service().version, revision=manager.service().revision
        )
        assert [len(batch) for batch in recorder.batches] == [1, 1, 1]
        assert max(len(entry.data) for entry in manager.log.entries) < MAX_ENTRY_BYTES

    play(story)


def test_two_thousand_services_are_deployed_and_changed_as_a_whole() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(large_stack(2000))
        assert len(manager.view.services) == 2000
        changed = [a_service(service.name, "registry/another:v2") for service in large_stack(2000).services]
        await manager.apply(a_stack("large", *changed))
        assert all(service.previous for service in manager.view.services.values())
        assert max(len(entry.data) for entry in manager.log.entries) < MAX_ENTRY_BYTES

    play(story, node=False)


def test_a_small_stack_is_one_entry() -> None:
    async def story(manager: LiveManager) -> None:
        recorder = Recorder(manager)
        content = prepared(secretive())
        await deploy(recorder, content, revision(content))
        assert [[type(one) for one in batch] for batch in recorder.batches] == [[StageContent, DeployRevision]]

    play(story)


def test_what_the_state_holds_is_not_staged_again() -> None:
    async def story(manager: LiveManager) -> None:
        await manager.apply(secretive())
        assert list(staging(prepared(secretive()), manager.view)) == []
        (piece,) = staging(prepared(secretive(), a_stack("blog", a_service("blog", "blog:v1"))), manager.view)
        assert ([row.spec.container.image for row in piece.specs], piece.blobs) == (["blog:v1"], ())

    play(story)


class CollectingWriter:
    """A writer whose state loses what was staged `times` times, just before the deployment."""

    def __init__(self, times: int) -> None:
        self.store = Store()
        self.times = times
        self.staged: list[StageContent] = []

    @property
    def view(self) -> View:
        return self.store.view

    async def submit_all(self, inputs: Sequence[Input]) -> tuple[Reply, ...]:
        self.staged += [one for one in inputs if isinstance(one, StageContent)]
        *others, last = inputs
        if not isinstance(last, DeployRevision):
            return tuple(Applied(changed=True) for _ in inputs)
        self.times -= 1
        missing = Rejected(code="deploy.content.missing", message="it is gone")
        return (*(Applied(changed=True) for _ in others), missing if self.times >= 0 else Applied(changed=True))


def test_content_collected_before_the_deployment_is_staged_again() -> None:
    writer = CollectingWriter(times=1)
    content = prepared(secretive())
    assert run(deploy(writer, content, revision(content))) == Applied(changed=True)
    assert len(writer.staged) == 2


def test_content_that_is_gone_each_time_is_an_error_in_the_end() -> None:
    writer = CollectingWriter(times=100)
    content = prepared(secretive())
    reply = run(deploy(writer, content, revision(content)))
    assert isinstance(reply, Rejected)
    assert len(writer.staged) == STAGE_ATTEMPTS


def test_content_that_is_refused_is_the_answer() -> None:
    async def story(manager: LiveManager) -> None:
        content = prepared(a_stack("shop", a_service(config=b"right"), config=b"right"))
        forged = Prepared(
            manifests=content.manifests,
            specs=content.specs,
            blobs=tuple(Blob(digest=blob.digest, data=b"wrong") for blob in content.blobs),
        )
        reply = await deploy(manager.writer, forged, revision(forged))
        assert isinstance(reply, Rejected)
        assert reply.code == "deploy.content.digest"
        assert manager.view.service_named("shop_web") is None

    play(story)


def test_a_stored_spec_is_known_by_its_digest_only() -> None:
    store = Store()
    content = prepared(a_stack("shop", a_service()))
    rows: tuple[SpecRow, ...] = content.specs
    store.apply(1, encode(Transaction(now=store.view.now, puts=rows)))
    assert list(staging(content, store.view)) == []
