"""Networks, configs and secrets for clients: the lists they see, and what they make and remove by hand.

The content of a secret goes one way: it is sealed here and never leaves again; nothing that lists or logs can show it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from stackd.api.control import (
    ConfigDetail,
    Configs,
    FileRequest,
    NetworkRequest,
    Networks,
    RemoveRequest,
    Secrets,
)
from stackd.api.views import ConfigView, NetworkView, SecretView, SubnetView, rfc3339
from stackd.base.errors import NotFound, Refused
from stackd.base.records import pairs
from stackd.engine.allocate.ipmath import space_of
from stackd.engine.inputs import CreateFile, CreateNetwork, FileManifest, RemoveObject, StageContent
from stackd.engine.model import Blob, Config, Network, Secret
from stackd.engine.objects import names_in
from stackd.engine.parts import Principal
from stackd.engine.status import NetworkStatus
from stackd.engine.store import View
from stackd.manager.intake import SecretKeeper
from stackd.spec.digest import blob_digest
from stackd.spec.files import MAX_CONFIG_BYTES, MAX_SECRET_BYTES
from stackd.spec.stack import ExternalKind

T = TypeVar("T", Network, Config, Secret)


Command = Callable[..., Awaitable[None]]
"""Has inputs decided on, one after the other; raises Refused or NotFound if one of them is refused."""


class Objects:
    """The part of the control service that is about networks, configs and secrets."""

    def __init__(self, view: Callable[[], View], command: Command, keeper: SecretKeeper) -> None:
        self._present = view
        self._command = command
        self._keeper = keeper

    @property
    def _view(self) -> View:
        return self._present()

    def networks(self) -> Networks:
        users = Users(self._view, ExternalKind.NETWORK)
        return Networks(items=tuple(network_view(self._view, row, users) for row in _by_name(self._view.networks.values())))

    def configs(self) -> Configs:
        users = Users(self._view, ExternalKind.CONFIG)
        return Configs(items=tuple(config_view(self._view, row, users) for row in _by_name(self._view.configs.values())))

    def secrets(self) -> Secrets:
        users = Users(self._view, ExternalKind.SECRET)
        return Secrets(items=tuple(secret_view(row, users) for row in _by_name(self._view.secrets.values())))

    def config(self, name: str) -> ConfigDetail:
        row = self._view.configs.get(name)
        blob = self._view.blobs.get(row.digest) if row is not None else None
        if row is None or blob is None:
            raise NotFound("object.unknown", f'no config named "{name}"', hint="`stackd config ls` lists them")
        return ConfigDetail(config=config_view(self._view, row, Users(self._view, ExternalKind.CONFIG)), data=blob.data)

    async def create_network(self, request: NetworkRequest, principal: Principal) -> NetworkView:
        await self._command(CreateNetwork(spec=request.spec, principal=principal))
        row = self._view.networks.get(request.spec.name)
        assert row is not None
        return network_view(self._view, row, Users(self._view, ExternalKind.NETWORK))

    async def create_config(self, request: FileRequest, principal: Principal) -> ConfigView:
        _check_size(ExternalKind.CONFIG, request, MAX_CONFIG_BYTES)
        blob = Blob(digest=blob_digest(request.data), data=request.data)
        await self._create(ExternalKind.CONFIG, request, blob, principal)
        row = self._view.configs.get(request.name)
        assert row is not None
        return config_view(self._view, row, Users(self._view, ExternalKind.CONFIG))

    async def create_secret(self, request: FileRequest, principal: Principal) -> SecretView:
        _check_size(ExternalKind.SECRET, request, MAX_SECRET_BYTES)
        digest = self._keeper.name_secret(request.data)
        blob = Blob(digest=digest, data=self._keeper.seal_blob(request.data, digest), sealed=True)
        await self._create(ExternalKind.SECRET, request, blob, principal)
        row = self._view.secrets.get(request.name)
        assert row is not None
        return secret_view(row, Users(self._view, ExternalKind.SECRET))

    async def _create(self, kind: ExternalKind, request: FileRequest, blob: Blob, principal: Principal) -> None:
        file = FileManifest(name=request.name, digest=blob.digest, labels=pairs(request.labels), template=request.template)
        await self._command(StageContent(blobs=(blob,)), CreateFile(kind=kind, file=file, principal=principal))

    async def remove(self, request: RemoveRequest, principal: Principal) -> None:
        command = RemoveObject(kind=request.kind, name=request.name, principal=principal, override=request.override)
        await self._command(command)


def _check_size(kind: ExternalKind, request: FileRequest, most: int) -> None:
    """Refuse content that is empty or too large (semantics 26)."""
    if not 0 < len(request.data) <= most:
        raise Refused("object.size", f"a {kind} holds 1 to {most} bytes, and this one {len(request.data)}")


class Users:
    """Which services use what, found in one pass over all of them."""

    def __init__(self, view: View, kind: ExternalKind) -> None:
        self._services: dict[str, list[str]] = {}
        for service in view.services.values():
            row = view.specs.get(service.spec)
            if row is not None and not service.removing:
                for name in names_in(row.spec, kind):
                    self._services.setdefault(name, []).append(service.name)

    def of(self, name: str) -> tuple[str, ...]:
        return tuple(sorted(self._services.get(name, ())))


def network_view(view: View, network: Network, users: Users) -> NetworkView:
    status = view.network_statuses.get(network.id) or NetworkStatus(id=network.id, name=network.name)
    spec = network.spec
    return NetworkView(
        id=network.id,
        name=network.name,
        stack=network.stack,
        driver=spec.driver,
        state="removing" if network.removing else "waiting" if status.reason else "ready",
        message=status.error,
        subnets=tuple(SubnetView(subnet=one.subnet, gateway=one.gateway, ip_range=one.ip_range) for one in status.pools),
        vxlan_id=status.vni,
        internal=spec.internal,
        attachable=spec.attachable,
        ipv6=spec.ipv6,
        addresses=view.ledger.addresses.population(network.id),
        capacity=sum(space_of(pool).capacity for pool in status.pools),
        services=users.of(network.name),
        labels=dict(spec.labels),
        driver_options=dict(spec.driver_options),
        created_at=rfc3339(network.created_at),
    )


def config_view(view: View, config: Config, users: Users) -> ConfigView:
    blob = view.blobs.get(config.digest)
    return ConfigView(
        id=config.id,
        name=config.name,
        stack=config.stack,
        state="removing" if config.removing else "ready",
        digest=config.digest,
        size_bytes=len(blob.data) if blob is not None else 0,
        template=config.template,
        services=users.of(config.name),
        labels=dict(config.labels),
        created_at=rfc3339(config.created_at),
        updated_at=rfc3339(config.updated_at),
    )


def secret_view(secret: Secret, users: Users) -> SecretView:
    return SecretView(
        id=secret.id,
        name=secret.name,
        stack=secret.stack,
        state="removing" if secret.removing else "ready",
        template=secret.template,
        driver=secret.driver,
        services=users.of(secret.name),
        labels=dict(secret.labels),
        created_at=rfc3339(secret.created_at),
        updated_at=rfc3339(secret.updated_at),
    )


def _by_name(rows: Iterable[T]) -> list[T]:
    return sorted(rows, key=lambda row: row.name)
