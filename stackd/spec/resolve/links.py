"""What a service refers to: networks, volumes, configs and secrets of the top level, found and named as in the cluster."""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Iterable, Mapping

import msgspec

from stackd.base.errors import StackdError
from stackd.base.ids import BlobDigest
from stackd.base.records import pairs
from stackd.spec import mounts
from stackd.spec.document import (
    AttachmentDocument,
    BindDocument,
    CredentialDocument,
    FileObjectDocument,
    MountDocument,
    ReferenceDocument,
    Said,
    ServiceDocument,
    StackDocument,
    TmpfsDocument,
    VolumeOptionsDocument,
)
from stackd.spec.hostpaths import host_path
from stackd.spec.names import PREDEFINED_NETWORKS, name_of
from stackd.spec.placed import PlacedProblems
from stackd.spec.resolve.deploy import word
from stackd.spec.stack import CredentialSpec, FileRef, Mount, MountType, NetworkAttachment

DEFAULT_NETWORK = "default"
"""The network of services that name none."""

SECRETS_FOLDER = "/run/secrets"

_GROUP = "group:"
"""Begins the source of a cluster mount that takes any volume of a group; groups have no place in the file."""


class Links:
    """The objects of one stack as its services see them. It remembers which ones were used."""

    def __init__(
        self,
        document: StackDocument,
        stack: str,
        directory: str | None,
        environment: Mapping[str, str],
        problems: PlacedProblems,
    ) -> None:
        self.used: set[tuple[str, str]] = set()
        self._document = document
        self._stack = stack
        self._directory = directory
        self._environment = environment
        self._problems = problems

    def is_defined(self, kind: str, key: str, known: Iterable[str], said: Said[object]) -> bool:
        """Whether the top level has the object; reports it if not."""
        self.used.add((kind, key))
        names = list(known)
        if key in names:
            return True
        self._problems.error_at(
            "spec.reference.undefined", f'{said.path}: there is no {kind} "{key}"', said, _near(kind, key, names)
        )
        return False

    # Networks

    def attachments(self, service: ServiceDocument) -> tuple[NetworkAttachment, ...]:
        """The networks of the service, by name; it has its short name in each that gives names."""
        found = [self.attachment(service, key, said) for key, said in networks_of(service).items()]
        return tuple(sorted((one for one in found if one is not None), key=lambda one: one.network))

    def attachment(self, service: ServiceDocument, key: str, said: AttachmentDocument | None) -> NetworkAttachment | None:
        """How the service is in the network `key`; None where there is no such network, which is reported."""
        self.used.add(("network", key))
        network = self._document.networks.get(key)
        if network is None and key != DEFAULT_NETWORK:
            path = f"{service.path}.networks.{key}"
            hint = _near("network", key, list(self._document.networks))
            self._problems.key_error("spec.reference.undefined", f'{path}: there is no network "{key}"', path, hint)
            return None
        said = said or AttachmentDocument()
        name = name_of(self._stack, key, network)
        aliases = said.aliases if name in PREDEFINED_NETWORKS else (*said.aliases, service.name)
        return NetworkAttachment(network=name, aliases=tuple(sorted(set(aliases))), driver_options=pairs(said.driver_opts))

    # Mounts

    def mount(self, said: Said[MountDocument]) -> Mount:
        written = said.value
        kind = word(MountType, written.type, MountType.VOLUME)
        bind, volume, tmpfs = written.bind or BindDocument(), written.volume or VolumeOptionsDocument(), written.tmpfs
        tmpfs = tmpfs or TmpfsDocument()
        mount = Mount(
            type=kind,
            target=_target(written.target),
            source=written.source,
            read_only=written.read_only,
            no_copy=volume.nocopy,
            size_bytes=tmpfs.size,
            propagation=bind.propagation,
            subpath=volume.subpath,
            tmpfs_mode=tmpfs.mode,
            create_host_path=bind.create_host_path,
        )
        return self._sourced(mount, said)

    def _sourced(self, mount: Mount, said: Said[MountDocument]) -> Mount:
        """The mount with its source as it is on the node or in the cluster."""
        match mount.type:
            case MountType.BIND:
                return msgspec.structs.replace(mount, source=posixpath.normpath(self.host_path(said)))
            case MountType.VOLUME if mount.source:
                return self._of_volume(mount, said)
            case MountType.CLUSTER if mount.source and not mount.source.startswith(_GROUP):
                return self._of_volume(mount, said)
            case _:
                return mount

    def host_path(self, said: Said[MountDocument]) -> str:
        """The absolute path of a bind mount's source."""
        try:
            return host_path(said.value.source, self._directory, self._environment)
        except StackdError as error:
            self._problems.error_at(error.code, f"{said.path}: {error.message}", said, error.hint)
            return said.value.source

    def _of_volume(self, mount: Mount, said: Said[MountDocument]) -> Mount:
        if not self.is_defined("volume", mount.source, self._document.volumes, said):
            return mount
        volume = self._document.volumes[mount.source]
        return msgspec.structs.replace(
            mount,
            source=name_of(self._stack, mount.source, volume),
            driver=volume.driver,
            driver_options=pairs(volume.driver_opts),
            labels=pairs(volume.labels),
        )

    # Configs and secrets

    def configs(self, service: ServiceDocument, digests: Mapping[str, BlobDigest]) -> tuple[FileRef, ...]:
        return self._references("config", "/", service.configs, self._document.configs, digests)

    def secrets(self, service: ServiceDocument) -> tuple[FileRef, ...]:
        return self._references("secret", SECRETS_FOLDER, service.secrets, self._document.secrets, {})

    def _references(
        self,
        kind: str,
        folder: str,
        said: tuple[Said[ReferenceDocument], ...],
        known: Mapping[str, FileObjectDocument],
        digests: Mapping[str, BlobDigest],
    ) -> tuple[FileRef, ...]:
        """References to existing objects; those to configs carry the digest of the content, which names it."""
        found = [
            FileRef(
                source=name_of(self._stack, reference.source, known[reference.source]),
                target=self._file_target(item, folder),
                uid=reference.uid or "0",
                gid=reference.gid or "0",
                mode=0o444 if reference.mode is None else reference.mode,
                digest=digests.get(reference.source, BlobDigest("")),
                template=known[reference.source].template_driver,
            )
            for item in said
            if (reference := item.value).source and self.is_defined(kind, reference.source, known, item)
        ]
        return tuple(sorted(found, key=lambda reference: (reference.source, reference.target)))

    def _file_target(self, said: Said[ReferenceDocument], folder: str) -> str:
        """Where the file appears; a relative target starts from `folder`."""
        target = posixpath.join(folder, said.value.target or said.value.source)
        try:
            return mounts.mount_target(target)
        except StackdError as error:
            self._problems.error_at(error.code, f"{said.path}: {error.message}", said, error.hint)
            return target

    def credentials(self, service: ServiceDocument) -> CredentialSpec | None:
        """The Windows account; one that is in a config is named by it."""
        said, path = service.credential_spec, f"{service.path}.credential_spec"
        if said == CredentialDocument():
            return None
        if len([one for one in (said.config, said.file, said.registry) if one]) > 1:
            hint = "keep one of config, file and registry"
            self._problems.error("spec.credentials.bad", f"{path} says more than one thing", path, hint)
        if not said.config:
            return CredentialSpec(file=said.file, registry=said.registry)
        self.used.add(("config", said.config))
        if said.config not in self._document.configs:
            message = f'{path}: there is no config "{said.config}"'
            hint = _near("config", said.config, list(self._document.configs))
            self._problems.error("spec.reference.undefined", message, f"{path}.config", hint)
        return CredentialSpec(config=name_of(self._stack, said.config, self._document.configs.get(said.config)))


def networks_of(service: ServiceDocument) -> Mapping[str, AttachmentDocument | None]:
    """The networks that the service joins; one that names none is in the default network."""
    return service.networks or {DEFAULT_NETWORK: None}


def _target(text: str) -> str:
    """The place of a mount in one spelling. What can't be one was reported where it was read."""
    return posixpath.normpath(text) if text else text


def _near(kind: str, key: str, names: list[str]) -> str:
    close = difflib.get_close_matches(key[:80], names, n=1)
    return f'did you mean "{close[0]}"?' if close else f"define it at the top level, under {kind}s"
