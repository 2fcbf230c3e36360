"""From what a stack file says to what it means: names the stack, reads side files, makes paths absolute, joins sections.

The order in which things are written never shows in the result: lists without an order of their own are sorted, so two
spellings of one meaning have one digest.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from stackd.base.errors import Position, StackdError
from stackd.spec import environment as variables
from stackd.spec import shorthand
from stackd.spec.check import check
from stackd.spec.digest import blob_digest
from stackd.spec.document import Said, ServiceDocument, StackDocument
from stackd.spec.files import MAX_CONFIG_BYTES, MAX_SECRET_BYTES, Files
from stackd.spec.problems import Problems
from stackd.spec.sourcemap import SourceMap
from stackd.spec.stack import (
    ConfigSpec,
    FileRef,
    Mount,
    MountType,
    RestartPolicy,
    SecretSpec,
    ServiceSpec,
    StackSpec,
    TaskSpec,
)

_GENERIC_NAMES = frozenset({"stack", "compose", "docker-compose"})
"""Files that are called so say nothing about the stack; their folder does."""

MAX_CARRIED_BYTES = 64 * 1024 * 1024
"""What the configs, secrets and env files of one stack may add up to, each counted as often as it is used."""

_TEMPLATE = re.compile(r"\{\{-?\s*\.(Service|Task|Node)\b")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a file's meaning depends on beside its text."""

    file: str
    name: str | None
    files: Files
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Resolved:
    """The meaning, and the paths of all side files that were read for it."""

    spec: StackSpec
    side_files: tuple[str, ...]


def resolve(document: StackDocument, around: Surroundings, sources: SourceMap, problems: Problems) -> Resolved:
    """What `document` means. What is wrong goes to `problems`; the result is of use only if nothing did."""
    return _Resolver(document, around, sources, problems).resolve()


class _Resolver:
    """One resolution; it remembers the side files that were read and the names that services refer to."""

    def __init__(self, document: StackDocument, around: Surroundings, sources: SourceMap, problems: Problems) -> None:
        self._document = document
        self._around = around
        self._sources = sources
        self._problems = problems
        self._contents: dict[str, bytes | None] = {}
        self._env_files: dict[str, dict[str, str]] = {}
        self._room = MAX_CARRIED_BYTES
        self._used: set[tuple[str, str]] = set()
        self._stack = ""

    def resolve(self) -> Resolved:
        self._stack = self._stack_name()
        configs = {
            name: self._content("configs", name, path, MAX_CONFIG_BYTES) for name, path in self._document.configs.items()
        }
        secrets = {
            name: self._content("secrets", name, path, MAX_SECRET_BYTES) for name, path in self._document.secrets.items()
        }
        services = tuple(self._service(service, configs) for service in self._document.services)
        check(self._document, self._sources, self._problems)
        self._warn_of_unused()
        spec = StackSpec(
            name=self._stack,
            services=services,
            configs=tuple(ConfigSpec(name=name, digest=blob_digest(data), data=data) for name, data in sorted(configs.items())),
            secrets=tuple(SecretSpec(name=name, data=data) for name, data in sorted(secrets.items())),
        )
        return Resolved(spec, tuple(sorted(self._contents)))

    # The stack's name

    def _stack_name(self) -> str:
        """The file's own name for itself, else the given one, else what its place is called; "" after an error."""
        said = self._document.name  # checked where it was read
        name = said.value if said else self._checked_name(self._around.name or self._name_of_place())
        self._check_scoped_names(name)
        return name

    def _checked_name(self, name: str) -> str:
        try:
            return shorthand.stack_name(name)
        except StackdError as error:
            hint = f"name the stack in the file: add `name: ...` at the top; {error.hint}"
            self._problems.error(error.code, error.message, Position(self._around.file), hint)
            return ""

    def _name_of_place(self) -> str:
        folder, base = posixpath.split(self._around.file)
        stem = base.split(".")[0]
        if stem not in _GENERIC_NAMES:
            return stem
        folder = posixpath.normpath(folder) if folder else "."
        return posixpath.basename(folder if folder != "." else self._around.files.directory or stem)

    def _check_scoped_names(self, stack: str) -> None:
        for service in self._document.services:
            scoped = f"{stack}_{service.name}"
            if stack and len(scoped) > shorthand.MAX_NAME:
                message = (
                    f'the service is called "{scoped}" in the cluster, which has more than {shorthand.MAX_NAME} characters'
                )
                self._problems.error("spec.name.bad", message, self._sources.key(service.path), "use a shorter name")

    # Side files

    def _content(self, section: str, name: str, path: str, limit: int) -> bytes:
        """The content of a config or secret; b"" after an error."""
        at = f"{section}.{name}.file"
        data = self._read(Said(at, path)) if path else None
        if data is None:
            return b""
        if not data:
            self._error(
                "spec.file.empty", f'{at}: the file "{path}" is empty', at, "a config or secret holds at least one byte"
            )
        if len(data) > limit:
            hint = "mount larger data as a volume"
            self._error("spec.file.too_large", f'{at}: "{path}" has {len(data)} bytes; the limit is {limit}', at, hint)
        return data if self._fits(len(data), at) else b""

    def _fits(self, size: int, path: str) -> bool:
        self._room -= size
        if self._room < 0:
            message = f"the files of this stack add up to more than {MAX_CARRIED_BYTES} bytes"
            self._error("spec.limit.files", message, path, "mount larger data as volumes")
        return self._room >= 0

    def _read(self, said: Said[str]) -> bytes | None:
        """The file's content, None after an error. A path is remembered also when it is missing: it may come to be."""
        path = said.value
        if path not in self._contents:
            self._contents[path] = None
            try:
                self._contents[path] = self._around.files.read(path)
            except StackdError as error:
                self._error(error.code, f"{said.path}: {error.message}", said.path, error.hint)
        return self._contents[path]

    # Services

    def _service(self, service: ServiceDocument, configs: Mapping[str, bytes]) -> ServiceSpec:
        deploy = service.deploy
        container = msgspec.structs.replace(
            service.container,
            env=self._environment(service),
            mounts=tuple(sorted((self._mount(said) for said in service.mounts), key=lambda mount: mount.target)),
            configs=self._references("config", service.configs, configs),
            secrets=self._references("secret", service.secrets, self._document.secrets),
        )
        ports = sorted(
            (said.value for said in service.ports), key=lambda port: (port.published, port.target, port.protocol, port.host_ip)
        )
        task = TaskSpec(
            container=container,
            limits=deploy.limits,
            reservations=deploy.reservations,
            restart=deploy.restart or service.restart or RestartPolicy(),
            placement=deploy.placement,
            ports=tuple(ports),
        )
        return ServiceSpec(name=service.name, task=task, settings=deploy.settings)

    def _environment(self, service: ServiceDocument) -> tuple[str, ...]:
        """The files in their order, then `environment`; sorted, as the official client sends it."""
        joined: dict[str, str | None] = {}
        for said in service.env_files:
            joined |= self._env_file(said)
        for name, value in service.environment.items():
            joined[name] = self._around.environment.get(name) if value is None else value
            if value is not None and _TEMPLATE.search(value):
                path = f"{service.path}.environment"
                hint = "templates of swarm are not filled in here; write the value itself"
                self._error(
                    "spec.template.unsupported", f"{path}.{name}: templates are not supported yet", f"{path}.{name}", hint
                )
        return tuple(sorted(name if value is None else f"{name}={value}" for name, value in joined.items()))

    def _env_file(self, said: Said[str]) -> dict[str, str]:
        """The file's variables; a file that several services use is read once."""
        data = self._read(said)
        if data is None or not self._fits(len(data), said.path):
            return {}
        if said.value not in self._env_files:
            self._env_files[said.value] = {}
            try:
                self._env_files[said.value] = variables.parse(data, self._around.environment)
            except StackdError as error:
                self._error(error.code, f'{said.path}: "{said.value}" {error.message}', said.path, error.hint)
        return self._env_files[said.value]

    def _references(self, kind: str, said: tuple[Said[FileRef], ...], known: Mapping[str, object]) -> tuple[FileRef, ...]:
        """References to existing objects; those to configs carry the digest of the content, which names it."""
        found: list[FileRef] = []
        for path, reference in ((item.path, item.value) for item in said):
            if not reference.source or not self._is_defined(kind, reference.source, known, path):
                continue
            content = known[reference.source]
            digest = blob_digest(content) if isinstance(content, bytes) else reference.digest
            found.append(msgspec.structs.replace(reference, digest=digest))
        return tuple(sorted(found, key=lambda reference: (reference.source, reference.target)))

    def _is_defined(self, kind: str, name: str, known: Iterable[str], path: str) -> bool:
        self._used.add((kind, name))
        names = list(known)
        if name in names:
            return True
        close = difflib.get_close_matches(name, names, n=1)
        hint = f'did you mean "{close[0]}"?' if close else f"define it at the top level, under {kind}s"
        self._error("spec.reference.undefined", f'{path}: there is no {kind} "{name}"', path, hint)
        return False

    # Mounts

    def _mount(self, said: Said[Mount]) -> Mount:
        mount = said.value
        if mount.type is MountType.BIND:
            return msgspec.structs.replace(mount, source=self._host_path(said.path, mount.source))
        if mount.type is MountType.TMPFS or not mount.source:
            return mount
        if not self._is_defined("volume", mount.source, self._document.volumes, said.path):
            return mount
        volume = self._document.volumes[mount.source]
        return msgspec.structs.replace(
            mount,
            source=volume.name or (mount.source if volume.external else f"{self._stack}_{mount.source}"),
            driver=volume.driver,
            driver_options=volume.driver_options,
            labels=volume.labels,
        )

    def _host_path(self, path: str, source: str) -> str:
        """The absolute path that a bind mount's source means: relative ones start from the stack file's folder."""
        if _TEMPLATE.search(source):
            self._error("spec.template.unsupported", f"{path}: templates are not supported yet", path, "write the path itself")
        if source == "~" or source.startswith("~/"):
            home = self._around.environment.get("HOME", "")
            if not home:
                self._error("spec.mount.home", f'{path}: "{source}" means nothing here', path, "write the whole path")
            return posixpath.normpath(posixpath.join(home, source[2:]))
        if posixpath.isabs(source):
            return posixpath.normpath(source)
        if source.startswith("~"):
            self._error("spec.mount.home", f'{path}: "{source}" means nothing here', path, "write the whole path")
        elif self._around.files.directory is None:
            message = f'{path}: "{source}" is relative, and a stack from git has no folder on the node'
            hint = "use a config for a small file, a named volume for data, or an absolute path of the node"
            self._error("spec.mount.relative_in_git", message, path, hint)
        return posixpath.normpath(posixpath.join(self._around.files.directory or "/", source))

    # The rest

    def _warn_of_unused(self) -> None:
        sections: tuple[tuple[str, Iterable[str]], ...] = (
            ("volume", self._document.volumes),
            ("config", self._document.configs),
            ("secret", self._document.secrets),
        )
        for kind, names in sections:
            for name in names:
                if (kind, name) not in self._used:
                    message = f'no service uses the {kind} "{name}"'
                    self._problems.warning("spec.reference.unused", message, self._sources.key(f"{kind}s.{name}"), "remove it")

    def _error(self, code: str, message: str, path: str, hint: str | None) -> None:
        self._problems.error(code, message, self._sources.position(path), hint)
