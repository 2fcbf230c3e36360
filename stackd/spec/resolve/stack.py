"""What a whole stack means: it gets its name, its contents are read, its services are joined with what they refer to.

The order in which things are written never shows in the result: lists without an order of their own are sorted, so two
spellings of one meaning have one digest.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from stackd.base.errors import Position, StackdError
from stackd.base.ids import BlobDigest
from stackd.base.records import pairs
from stackd.spec import shorthand
from stackd.spec.check.stack import check
from stackd.spec.contents import Contents
from stackd.spec.digest import blob_digest
from stackd.spec.document import FileObjectDocument, NetworkDocument, PortDocument, ServiceDocument, StackDocument
from stackd.spec.names import PREDEFINED_NETWORKS, name_of
from stackd.spec.placed import PlacedProblems
from stackd.spec.problems import Problems
from stackd.spec.resolve.container import container_of, log_driver_of
from stackd.spec.resolve.deploy import limits_of, placement_of, reservations_of, restart_of, settings_of, word
from stackd.spec.resolve.links import DEFAULT_NETWORK, Links
from stackd.spec.sourcemap import SourceMap
from stackd.spec.stack import (
    ConfigSpec,
    External,
    ExternalKind,
    NetworkSpec,
    Pool,
    Port,
    PublishMode,
    SecretSpec,
    ServiceSpec,
    StackSpec,
    TaskSpec,
)
from stackd.spec.surroundings import Surroundings

_GENERIC_NAMES = frozenset({"stack", "compose", "docker-compose"})
"""Files that are called so say nothing about the stack; their folder does."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The meaning, and the paths of all side files that were read for it."""

    spec: StackSpec
    side_files: frozenset[str]


def resolve(document: StackDocument, around: Surroundings, sources: SourceMap, problems: Problems) -> Resolved:
    """What `document` means. What is wrong goes to `problems`; the result is of use only if nothing did."""
    stack = stack_name(document, around, problems)
    placed = PlacedProblems(problems, sources)
    resolver = _Resolver(document, stack, around, placed)
    spec = resolver.spec()
    check(document, stack, placed)
    return Resolved(spec, frozenset(resolver.contents.read_paths))


def stack_name(document: StackDocument, around: Surroundings, problems: Problems) -> str:
    """The file's own name for the stack, else the given one, else what its place is called; "" after an error."""
    if document.name:
        return document.name  # checked where it was read
    name = around.name or _name_of_place(around)
    try:
        return shorthand.stack_name(name)
    except StackdError as error:
        hint = f"name the stack in the file: add `name: ...` at the top; {error.hint}"
        problems.meaning_error(error.code, error.message, Position(around.file), hint)
        return ""


def _name_of_place(around: Surroundings) -> str:
    folder, base = posixpath.split(around.file)
    stem = base.split(".")[0]
    if stem not in _GENERIC_NAMES:
        return stem
    folder = posixpath.normpath(folder) if folder else "."
    return posixpath.basename(folder if folder != "." else around.files.directory or stem)


class _Resolver:
    """One resolution."""

    def __init__(self, document: StackDocument, stack: str, around: Surroundings, problems: PlacedProblems) -> None:
        self.contents = Contents(around.files, around.environment, problems)
        self._document = document
        self._stack = stack
        self._problems = problems
        self._links = Links(document, stack, around.files.directory, around.environment, problems)

    def spec(self) -> StackSpec:
        configs = self._configs()
        secrets = self._secrets()
        digests = {key: config.digest for key, config in configs.items()}
        services = tuple(self._service(self._document.services[name], digests) for name in sorted(self._document.services))
        networks = self._networks()
        externals = tuple(sorted(self._externals(), key=lambda external: (external.kind, external.name)))
        self._warn_of_unused()
        return StackSpec(
            name=self._stack,
            services=services,
            configs=tuple(sorted(configs.values(), key=lambda config: config.name)),
            secrets=tuple(sorted(secrets, key=lambda secret: secret.name)),
            networks=networks,
            externals=externals,
        )

    # Services

    def _service(self, service: ServiceDocument, digests: Mapping[str, BlobDigest]) -> ServiceSpec:
        mounts = [self._links.mount(said) for said in service.volumes]
        container = container_of(service, mounts, self._links.configs(service, digests), self._links.secrets(service))
        task = TaskSpec(
            container=msgspec.structs.replace(container, credentials=self._links.credentials(service)),
            limits=limits_of(service),
            reservations=reservations_of(service),
            restart=restart_of(service),
            placement=placement_of(service.deploy.placement),
            ports=tuple(sorted((_port(said.value) for said in service.ports), key=_port_order)),
            networks=self._links.attachments(service),
            log=log_driver_of(service),
            executor=service.extension.executor,
            fence=bool(service.extension.fence),
        )
        return ServiceSpec(name=service.name, task=task, settings=settings_of(service))

    # Objects

    def _configs(self) -> dict[str, ConfigSpec]:
        found: dict[str, ConfigSpec] = {}
        for key, item in _own(self._document.configs):
            data = self.contents.of("configs", key, item)
            found[key] = ConfigSpec(
                name=name_of(self._stack, key, item),
                digest=blob_digest(data),
                data=data,
                labels=pairs(item.labels),
                template=item.template_driver,
            )
        return found

    def _secrets(self) -> list[SecretSpec]:
        return [
            SecretSpec(
                name=name_of(self._stack, key, item),
                data=self.contents.of("secrets", key, item),
                labels=pairs(item.labels),
                template=item.template_driver,
                driver=item.driver,
                driver_options=pairs(item.driver_opts),
            )
            for key, item in _own(self._document.secrets)
        ]

    def _networks(self) -> tuple[NetworkSpec, ...]:
        """The networks that services use; as in Swarm, others aren't made."""
        used = [key for kind, key in self._links.used if kind == "network"]
        written = {key: self._document.networks.get(key, NetworkDocument()) for key in used}
        defined = {key: item for key, item in written.items() if key in self._document.networks or key == DEFAULT_NETWORK}
        own = [_network(name_of(self._stack, key, item), item) for key, item in defined.items() if not item.external]
        return tuple(sorted(own, key=lambda network: network.name))

    def _externals(self) -> Iterable[External]:
        """What has to be there already. Networks that every engine has are no objects of the cluster."""
        sections: tuple[tuple[ExternalKind, Mapping[str, NetworkDocument | FileObjectDocument]], ...] = (
            (ExternalKind.NETWORK, self._document.networks),
            (ExternalKind.CONFIG, self._document.configs),
            (ExternalKind.SECRET, self._document.secrets),
        )
        found: set[External] = set()
        for kind, section in sections:
            for key, item in section.items():
                used = (str(kind), key) in self._links.used
                predefined = kind is ExternalKind.NETWORK and item.name in PREDEFINED_NETWORKS
                if item.external and used and not predefined:
                    found.add(External(kind=kind, name=item.name))
        return found

    def _warn_of_unused(self) -> None:
        sections: tuple[tuple[str, Iterable[str]], ...] = (
            ("network", self._document.networks.keys() - {DEFAULT_NETWORK}),
            ("volume", self._document.volumes),
            ("config", self._document.configs),
            ("secret", self._document.secrets),
        )
        for kind, keys in sections:
            for key in keys:
                if (kind, key) not in self._links.used:
                    message = f'no service uses the {kind} "{key}"'
                    self._problems.key_warning("spec.reference.unused", message, f"{kind}s.{key}", "remove it")


def _own(section: Mapping[str, FileObjectDocument]) -> Iterable[tuple[str, FileObjectDocument]]:
    """The configs or secrets that the stack itself makes."""
    return ((key, item) for key, item in section.items() if not item.external)


def _network(name: str, said: NetworkDocument) -> NetworkSpec:
    return NetworkSpec(
        name=name,
        driver=said.driver or NetworkSpec(name="").driver,
        driver_options=pairs(said.driver_opts),
        internal=said.internal,
        attachable=said.attachable,
        ipv6=said.enable_ipv6,
        ipam_driver=said.ipam.driver,
        pools=tuple(Pool(subnet=pool.subnet, gateway=pool.gateway, ip_range=pool.ip_range) for pool in said.ipam.config),
        labels=pairs(said.labels),
    )


def _port(said: PortDocument) -> Port:
    return Port(
        target=said.target,
        published=said.published,
        protocol=said.protocol or "tcp",
        mode=word(PublishMode, said.mode, PublishMode.INGRESS),
        host_ip=said.host_ip,
    )


def _port_order(port: Port) -> tuple[int, int, str, str]:
    return port.published, port.target, port.protocol, port.host_ip
