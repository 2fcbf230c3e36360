"""Turns loaded stacks into what the writer loop takes: staged content, then one small manifest.

Specs and contents are content-addressed and staged ahead in pieces that fit an entry; what the state already holds is not
sent again. The manifest flips the whole revision or nothing. Secrets are named by an HMAC under the cluster's key and
sealed before they leave this module; their plain content is in no input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from stackd.base.errors import Refused
from stackd.base.ids import BlobDigest, SpecDigest
from stackd.base.records import encode
from stackd.engine.inputs import (
    DeployRevision,
    FileManifest,
    Input,
    Rejected,
    Reply,
    ServiceManifest,
    StackManifest,
    StageContent,
)
from stackd.engine.model import Blob, SpecRow
from stackd.engine.parts import Owner
from stackd.engine.store import View
from stackd.spec.digest import spec_digest
from stackd.spec.stack import ConfigSpec, ExternalKind, FileRef, SecretSpec, ServiceSpec, StackSpec

STAGE_BYTES = 256 * 1024
"""Content per staging entry (a single larger blob has one of its own). A piece that is no larger together with its manifest
travels with it: both and what the engine decides on them fit into one entry."""

STAGE_ATTEMPTS = 3
"""Unreferenced content may be collected between staging and deploying; then it is staged again, this often."""


class SecretKeeper(Protocol):
    """What intake needs of the cluster's keys."""

    def name_secret(self, data: bytes) -> BlobDigest: ...

    def seal_blob(self, data: bytes, digest: BlobDigest) -> bytes: ...


class Submitter(Protocol):
    """The writer loop, as intake sees it."""

    @property
    def view(self) -> View: ...

    async def submit_all(self, inputs: Sequence[Input]) -> tuple[Reply, ...]: ...


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """Stacks ready to deploy: their manifests and all the content these name."""

    manifests: tuple[StackManifest, ...]
    specs: tuple[SpecRow, ...]
    blobs: tuple[Blob, ...]


def prepare(stacks: Iterable[tuple[StackSpec, Owner]], keeper: SecretKeeper) -> Prepared:
    """Name, seal and address everything in `stacks`. What is external keeps no digest: the engine fills in what the cluster
    has. Raises Refused if a service names a secret that its stack neither has nor declares external."""
    manifests: list[StackManifest] = []
    specs: dict[SpecDigest, SpecRow] = {}
    blobs: dict[BlobDigest, Blob] = {}
    for stack, owner in stacks:
        secrets = _seal(stack, keeper, blobs)
        known = {one.name: BlobDigest("") for one in stack.externals if one.kind is ExternalKind.SECRET} | secrets
        for config in stack.configs:
            blobs[config.digest] = Blob(digest=config.digest, data=config.data)
        manifests.append(
            StackManifest(
                name=stack.name,
                owner=owner,
                services=tuple(_manifest(service, known, specs) for service in stack.services),
                networks=stack.networks,
                configs=tuple(_config(config) for config in stack.configs),
                secrets=tuple(_secret(secret, secrets[secret.name]) for secret in stack.secrets),
                externals=stack.externals,
            )
        )
    return Prepared(manifests=tuple(manifests), specs=tuple(specs.values()), blobs=tuple(blobs.values()))


def _config(config: ConfigSpec) -> FileManifest:
    return FileManifest(name=config.name, digest=config.digest, labels=config.labels, template=config.template)


def _secret(secret: SecretSpec, digest: BlobDigest) -> FileManifest:
    return FileManifest(
        name=secret.name,
        digest=digest,
        labels=secret.labels,
        template=secret.template,
        driver=secret.driver,
        driver_options=secret.driver_options,
    )


def _seal(stack: StackSpec, keeper: SecretKeeper, blobs: dict[BlobDigest, Blob]) -> dict[str, BlobDigest]:
    """Seal the stack's secrets into `blobs`; their digests by name. One that a driver provides has none."""
    names: dict[str, BlobDigest] = {}
    for secret in stack.secrets:
        if secret.driver:
            names[secret.name] = BlobDigest("")
            continue
        digest = names[secret.name] = keeper.name_secret(secret.data)
        if digest not in blobs:
            blobs[digest] = Blob(digest=digest, data=keeper.seal_blob(secret.data, digest), sealed=True)
    return names


def _manifest(service: ServiceSpec, secrets: dict[str, BlobDigest], specs: dict[SpecDigest, SpecRow]) -> ServiceManifest:
    container = service.task.container
    refs = tuple(_named(ref, secrets) for ref in container.secrets)
    task = msgspec.structs.replace(service.task, container=msgspec.structs.replace(container, secrets=refs))
    digest = spec_digest(task)
    specs[digest] = SpecRow(digest=digest, spec=task)
    return ServiceManifest(name=service.name, spec=digest, settings=service.settings)


def _named(ref: FileRef, secrets: dict[str, BlobDigest]) -> FileRef:
    if ref.source not in secrets:
        raise Refused("deploy.content.missing", f'the stack names the secret "{ref.source}" but has no content for it')
    return msgspec.structs.replace(ref, digest=secrets[ref.source])


def staging(prepared: Prepared, view: View) -> Iterator[StageContent]:
    """What of the content the state lacks, in pieces that fit an entry."""
    specs: list[SpecRow] = []
    blobs: list[Blob] = []
    size = 0
    rows: tuple[SpecRow | Blob, ...] = (*prepared.specs, *prepared.blobs)
    for row in rows:
        if row.key in (view.specs if isinstance(row, SpecRow) else view.blobs):
            continue
        row_size = len(encode(row))
        if size and size + row_size > STAGE_BYTES:
            yield StageContent(specs=tuple(specs), blobs=tuple(blobs))
            specs, blobs, size = [], [], 0
        size += row_size
        if isinstance(row, SpecRow):
            specs.append(row)
        else:
            blobs.append(row)
    if specs or blobs:
        yield StageContent(specs=tuple(specs), blobs=tuple(blobs))


async def deploy(writer: Submitter, prepared: Prepared, command: DeployRevision) -> Reply:
    """Stage what is missing, then deploy. A small stack is one entry: the last piece travels with the manifest. Raises what
    the writer raises."""
    for _attempt in range(STAGE_ATTEMPTS - 1):
        reply = await _deploy_once(writer, prepared, command)
        if not (isinstance(reply, Rejected) and reply.code == "deploy.content.missing"):
            return reply
    return await _deploy_once(writer, prepared, command)


async def _deploy_once(writer: Submitter, prepared: Prepared, command: DeployRevision) -> Reply:
    pieces = list(staging(prepared, writer.view))
    along = pieces[-1:] if pieces and len(encode(pieces[-1])) + len(encode(command)) <= STAGE_BYTES else []
    for piece in pieces[: len(pieces) - len(along)]:
        (staged,) = await writer.submit_all((piece,))
        if isinstance(staged, Rejected):
            return staged
    *staged_along, reply = await writer.submit_all((*along, command))
    return next((one for one in staged_along if isinstance(one, Rejected)), reply)
