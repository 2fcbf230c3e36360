"""What configs and secrets hold: a file beside the stack file, text in the stack file, or a variable."""

from __future__ import annotations

from collections.abc import Mapping

from stackd.base.errors import StackdError
from stackd.spec.document import FileObjectDocument
from stackd.spec.files import MAX_CONFIG_BYTES, MAX_SECRET_BYTES, Files
from stackd.spec.placed import PlacedProblems

MAX_CARRIED_BYTES = 64 * 1024 * 1024
"""What the configs and secrets of one stack may add up to, each counted as often as it is used."""

_LIMITS = {"configs": MAX_CONFIG_BYTES, "secrets": MAX_SECRET_BYTES}


class Contents:
    """Reads the contents of one stack; a file that several objects name is read once."""

    def __init__(
        self, files: Files, environment: Mapping[str, str], problems: PlacedProblems, *, may_be_empty: bool = False
    ) -> None:
        self.read_paths: set[str] = set()
        self._files = files
        self._environment = environment
        self._problems = problems
        self._known: dict[str, bytes | None] = {}
        self._room = MAX_CARRIED_BYTES
        self._may_be_empty = may_be_empty

    def of(self, section: str, key: str, item: FileObjectDocument) -> bytes:
        """The content of a config or secret (`section` is `configs` or `secrets`); b"" after an error, and for those that
        others make."""
        if item.external or item.driver:
            return b""
        path = f"{section}.{key}"
        data = self._content(path, item)
        if data is None:
            return b""
        limit = _LIMITS[section]
        if not data and not self._may_be_empty:
            self._problems.error("spec.file.empty", f"{path} is empty", path, "a config or secret holds at least one byte")
        if len(data) > limit:
            message = f"{path} has {len(data)} bytes; the limit is {limit}"
            self._problems.error("spec.file.too_large", message, path, "mount larger data as a volume")
        self._room -= len(data)
        if self._room < 0:
            message = f"the files of this stack add up to more than {MAX_CARRIED_BYTES} bytes"
            self._problems.error("spec.limit.files", message, path, "mount larger data as volumes")
            return b""
        return data

    def _content(self, path: str, item: FileObjectDocument) -> bytes | None:
        if item.content is not None:
            return item.content.encode()
        if item.environment:
            return self._variable(path, item.environment)
        return self._file(f"{path}.file", item.file)

    def _variable(self, path: str, name: str) -> bytes | None:
        value = self._environment.get(name)
        if value is None:
            message = f'{path}: the variable "{name}" is not set'
            self._problems.error("spec.variable.required", message, f"{path}.environment", "set it where the file is deployed")
            return None
        return value.encode(errors="surrogateescape")

    def _file(self, at: str, path: str) -> bytes | None:
        """The file's content, None after an error. A path is remembered also when it is missing: it may come to be."""
        if not path:
            self._problems.key_error("spec.file.unnamed", f"{at} names no file", at, "write the path of the content")
            return None
        if path not in self._known:
            self.read_paths.add(path)
            self._known[path] = None
            try:
                self._known[path] = self._files.read(path)
            except StackdError as error:
                self._problems.error(error.code, f"{at}: {error.message}", at, error.hint)
        return self._known[path]
