"""Puts the stack together that several files say: files given side by side, files that they include, services they extend.

Each file is read, interpolated and typed by itself, and then merged as a document (`merge.py`). Its relative paths start
from its own folder, except those of files given side by side, which all start from the first one's. Env files are folded
into the environment here, because each belongs to the file that names it. How much is read and built is bounded, so that
a few lines can't make gigabytes.
"""

from __future__ import annotations

import posixpath
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from stackd.base.errors import StackdError
from stackd.spec import dotenv
from stackd.spec import environment as variables
from stackd.spec.document import EnvFileDocument, Said, ServiceDocument, StackDocument
from stackd.spec.interpolate import interpolate
from stackd.spec.merge import merge_services, merge_stacks, with_defaults
from stackd.spec.nodes import Mapping as MappingNode
from stackd.spec.nodes import Node
from stackd.spec.problems import Problems
from stackd.spec.read.ports import MAX_PORTS
from stackd.spec.read.service import Base, WrittenService
from stackd.spec.read.stack import Include, WrittenStack, read_stack
from stackd.spec.rebase import rebased_service, rebased_stack
from stackd.spec.sourcemap import SourceMap
from stackd.spec.surroundings import FileText, Surroundings
from stackd.spec.taken import taken_away, without

T = TypeVar("T")

MAX_FILES = 64
"""Stack files that one stack is made of."""

MAX_DEPTH = 16
"""Files that include one another, and services that extend one another."""

MAX_EXTENDED_VALUES = 300_000
"""What all extended services take over from their bases, as many values as one file may have: a large base that many
services extend would fill the memory."""

MAX_ENV_BYTES = 64 * 1024 * 1024
"""What the env files of one stack may add up to, each counted as often as it is used."""

Parse = Callable[[bytes, str, Problems], Node]


@dataclass(frozen=True, slots=True)
class Assembled:
    """The stack as all files say it, and the paths of the files that were read for it, from the project's folder."""

    document: StackDocument
    sources: SourceMap
    side_files: frozenset[str]


def assemble(texts: Sequence[FileText], parse: Parse, around: Surroundings, problems: Problems) -> Assembled:
    """The stack of `texts`, each put on top of those before it. Raises SpecErrors only where one of `texts` is no YAML."""
    assembler = _Assembler(parse, around, problems)
    document = assembler.stack(texts, _Place(around.environment))
    return Assembled(document, assembler.sources, frozenset(assembler.read_paths))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file stands: what its expressions are looked up in, the folder that its paths start from, seen from the first
    file, and the files on the way to it."""

    environment: Mapping[str, str]
    folder: str = ""
    way: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _File:
    """One file that was read: what it says, its tree, and its place."""

    written: WrittenStack
    root: Node
    shown: str
    place: _Place


class _Assembler:
    """One assembly; it remembers what was read and what has been built of it."""

    def __init__(self, parse: Parse, around: Surroundings, problems: Problems) -> None:
        self.sources = SourceMap()
        self.read_paths: set[str] = set()
        self._parse = parse
        self._around = around
        self._files = around.files
        self._problems = problems
        self._contents: dict[str, bytes | None] = {}
        self._trees: dict[str, Node | None] = {}
        self._bases: dict[str, _File] = {}
        self._env_files: dict[tuple[tuple[str, ...], str], dict[str, str]] = {}
        self._services: dict[tuple[str, str, str], ServiceDocument | None] = {}
        self._included: set[str] = set()
        self._values_left = MAX_EXTENDED_VALUES
        self._ports_left = MAX_PORTS
        self._bytes_left = MAX_ENV_BYTES

    # Files

    def stack(self, texts: Sequence[FileText], place: _Place) -> StackDocument:
        """The stack of files that are put on top of one another."""
        first, *others = [(self._parse(text.text, text.file, self._problems), text.file) for text in texts]
        stack = self._stack_of(*first, place)
        for root, shown in others:
            stack = merge_stacks(self._left(stack, root), self._stack_of(root, shown, place))
        return with_defaults(stack)

    def _stack_of(self, root: Node, shown: str, place: _Place) -> StackDocument:
        """What one file says together with all it names."""
        interpolate(root, place.environment, self._problems)
        self.sources.add_root(root)
        file = _File(read_stack(root, self._problems), root, shown, place)
        written = file.written
        services = {name: self._service(file, name, 0) for name in written.services}
        own = StackDocument(
            name=written.name,
            version=written.version,
            services={name: service for name, service in services.items() if service is not None},
            networks=written.networks,
            volumes=written.volumes,
            secrets=written.secrets,
            configs=written.configs,
            extension=written.extension,
            extras=written.extras,
        )
        own = rebased_stack(own, place.folder)
        for said in written.includes:
            included = self._include(said, file)
            if included is not None:
                own = self._joined(own, included, said)
        return own

    def _tree(self, path: str, shown: str, said: Said[object]) -> Node | None:
        """The tree of another file, None after an error. A file is parsed once."""
        if path in self._trees:
            return self._trees[path]
        self._trees[path] = None
        if len(self._trees) > MAX_FILES:
            self._error("spec.limit.files", f"{said.path}: the stack is made of more than {MAX_FILES} files", said)
            return None
        data = self._read(path, said)
        if data is not None:
            self._trees[path] = self._parse(data, shown, self._problems)
        return self._trees[path]

    def _read(self, path: str, said: Said[object]) -> bytes | None:
        """A file's content, None after an error. A path is remembered also when it is missing: it may come to be."""
        if path not in self._contents:
            self.read_paths.add(path)
            self._contents[path] = None
            try:
                self._contents[path] = self._files.read(path)
            except StackdError as error:
                self._error(error.code, f"{said.path}: {error.message}", said, error.hint)
        return self._contents[path]

    # Includes

    def _include(self, said: Said[Include], file: _File) -> StackDocument | None:
        """The stack that an include names; None where it is there already, or after an error."""
        paths = [posixpath.join(file.place.folder, path) for path in said.value.paths]
        first = posixpath.normpath(paths[0])
        if first in file.place.way:
            self._error("spec.include.cycle", f'{said.path}: "{first}" includes itself', said)
            return None
        if len(file.place.way) >= MAX_DEPTH:
            self._error("spec.limit.depth", f"{said.path}: more than {MAX_DEPTH} files include one another", said)
            return None
        if first in self._included:
            return None
        self._included.add(first)
        folder = posixpath.dirname(first)
        if said.value.project_directory:
            folder = posixpath.normpath(posixpath.join(file.place.folder, said.value.project_directory))
        folder = "" if folder == "." else folder
        place = _Place(self._included_environment(said, file, folder), folder, (*file.place.way, first))
        stack: StackDocument | None = None
        for path in paths:
            shown = self._around.shown(path)
            root = self._tree(path, shown, said)
            if root is not None:
                upper = self._stack_of(root, shown, place)
                stack = upper if stack is None else merge_stacks(self._left(stack, root), upper)
        return None if stack is None else with_defaults(stack)

    def _included_environment(self, said: Said[Include], file: _File, folder: str) -> Mapping[str, str]:
        """The including file's environment, and what it lacks from the include's variable files, or from the file `.env` of
        its own folder."""
        outer = file.place.environment
        paths = [posixpath.join(file.place.folder, path) for path in said.value.env_files]
        contents = {path: self._read(path, said) for path in paths}
        if not paths and folder != file.place.folder:
            path = posixpath.join(folder, dotenv.VARIABLES_FILE)
            contents[path] = self._optional(path)
        found: dict[str, str] = {}
        for path, data in contents.items():
            if data is not None and self._has_room(data, said):
                text = FileText(data, self._around.shown(path))
                found |= dotenv.parse(text, ChainMap(dict(outer), found), self._problems)
        return {**found, **outer}

    def _joined(self, own: StackDocument, included: StackDocument, said: Said[Include]) -> StackDocument:
        """Both together. An include adds; what should be changed in it is said by a file given beside."""
        sections: dict[str, dict[str, object]] = {}
        for section in ("services", "networks", "volumes", "secrets", "configs"):
            mine, theirs = getattr(own, section), getattr(included, section)
            for name in mine.keys() & theirs.keys():
                if mine[name] != theirs[name]:
                    message = f'{said.path}: {section}.{name} is in this file and in "{said.value.paths[0]}"'
                    self._error("spec.include.conflict", message, said, "give one of them another name")
            sections[section] = {**theirs, **mine}
        return replace(own, **sections)  # type: ignore[arg-type]  # each section is of its own type

    # Services

    def _service(self, file: _File, name: str, depth: int) -> ServiceDocument | None:
        """A service of the file on top of those it extends, with its env files read; None after an error."""
        key = (file.shown, file.place.folder, name)
        if key not in self._services:
            self._services[key] = None  # while it is being built: it can't be its own base
            written = file.written.services[name]
            document = rebased_service(self._folded(written, file), file.place.folder)
            if written.base is not None:
                document = self._extended(document, written.base, file, depth)
            self._services[key] = document
            self._count_ports(document)
        return self._services[key]

    def _extended(self, service: ServiceDocument, said: Said[Base], file: _File, depth: int) -> ServiceDocument:
        if depth >= MAX_DEPTH:
            self._error("spec.limit.depth", f"{said.path}: more than {MAX_DEPTH} services extend one another", said)
            return service
        source = self._base_file(said, file)
        if source is None:
            return service
        if said.value.service not in source.written.services:
            message = f'{said.path}: there is no service "{said.value.service}" in {source.shown}'
            self._error("spec.extends.bad", message, said)
            return service
        base = self._service(source, said.value.service, depth + 1)
        if base is None:
            message = f'{said.path}: "{said.value.service}" extends itself, or can\'t be read'
            self._error("spec.extends.cycle", message, said)
            return service
        self._values_left -= _weight(base)
        if self._values_left < 0:
            message = f"extended services take over more than {MAX_EXTENDED_VALUES} values"
            self._error("spec.limit.values", message, said, "split the stack")
            return service
        node = _service_node(source.root, said.value.service)
        if node is not None:
            self.sources.add_base(service.path, node)
        own = _service_node(file.root, service.name)
        return merge_services(base if own is None else self._left(base, own), service)

    def _base_file(self, said: Said[Base], file: _File) -> _File | None:
        if not said.value.file:
            return file
        path = posixpath.normpath(posixpath.join(file.place.folder, said.value.file))
        if path not in self._bases:
            shown = self._around.shown(path)
            root = self._tree(path, shown, said)
            if root is None:
                return None
            place = replace(file.place, folder=posixpath.dirname(path))
            interpolate(root, place.environment, self._problems)
            self._bases[path] = _File(read_stack(root, self._problems), root, shown, place)
        return self._bases[path]

    def _count_ports(self, service: ServiceDocument) -> None:
        self._ports_left -= len(service.ports)
        if self._ports_left < 0:
            message = f"the stack publishes more than {MAX_PORTS} ports"
            self._problems.error("spec.limit.ports", message, self.sources.key(service.path), "publish fewer")

    # Environments

    def _folded(self, written: WrittenService, file: _File) -> ServiceDocument:
        """The service with one environment: the files in their order, then what it says itself. As in the official
        client, a variable that is empty or has no value takes it from outside, if it is set there."""
        joined: dict[str, str | None] = {}
        for said in written.env_files:
            joined |= self._env_file(said, file)
        joined |= written.document.environment
        outside = file.place.environment
        filled = {name: value or outside.get(name, value) for name, value in joined.items()}
        return replace(written.document, environment=filled, env_file=tuple(said.value for said in written.env_files))

    def _env_file(self, said: Said[EnvFileDocument], file: _File) -> dict[str, str]:
        """The file's variables; a file that several services use is read once."""
        path = posixpath.join(file.place.folder, said.value.path)
        data = self._optional(path) if not said.value.required else self._read(path, said)
        if data is None or not self._has_room(data, said):
            return {}
        key = (file.place.way, path)
        if key not in self._env_files:
            self._env_files[key] = self._variables(data, said, file.place.environment)
        return self._env_files[key]

    def _has_room(self, data: bytes, said: Said[object]) -> bool:
        """Whether another env file may be read."""
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            message = f"the env files of this stack add up to more than {MAX_ENV_BYTES} bytes"
            self._error("spec.limit.files", message, said)
        return self._bytes_left >= 0

    def _optional(self, path: str) -> bytes | None:
        self.read_paths.add(path)
        try:
            return self._files.read(path)
        except StackdError:
            return None

    def _variables(self, data: bytes, said: Said[EnvFileDocument], environment: Mapping[str, str]) -> dict[str, str]:
        try:
            return variables.parse(data, environment)
        except StackdError as error:
            self._error(error.code, f'{said.path}: "{said.value.path}" {error.message}', said, error.hint)
            return {}

    def _left(self, lower: T, upper: Node) -> T:
        """What is left of a document when that of the tree `upper` is put on it."""
        for path, key in taken_away(upper):
            try:
                lower = without(lower, path)
            except KeyError:
                message = f'"{path[-1]}" is nothing that another file could give, so it can\'t be taken away'
                self._problems.error("spec.yaml.tag", message, key.position(), "remove the tag")
        return lower

    def _error(self, code: str, message: str, said: Said[object], hint: str | None = None) -> None:
        self._problems.error(code, message, said.node.position(), hint)


def _service_node(root: Node, name: str) -> Node | None:
    services = root.entries["services"].value if isinstance(root, MappingNode) else None
    return services.entries[name].value if isinstance(services, MappingNode) and name in services.entries else None


def _weight(service: ServiceDocument) -> int:
    """About how many values a service holds."""
    parts: Iterable[object] = (getattr(service, name) for name in service.__slots__)
    return 1 + sum(len(part) for part in parts if isinstance(part, tuple | dict))
