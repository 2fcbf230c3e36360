"""A git repository as a source: looks at its ref at an interval, reads the commit it points to, without a checkout.

A look costs one round trip (`ls-remote`); a commit is fetched, once, when the ref has moved. What fails on the way changes
nothing: a repository that can't be reached, or a ref that is gone, is an error and never an empty source.
"""

from __future__ import annotations

import asyncio
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stackd.base.errors import StackdError
from stackd.base.time import SECOND, Duration
from stackd.gitops.discovery import may_be_stack_file
from stackd.gitops.git import BlobReader, Git, TreeEntry
from stackd.gitops.remote import checked_path, checked_ref, checked_remote
from stackd.gitops.snapshot import Reading, SourceSnapshot, StackReader
from stackd.spec.files import MAX_FILE_BYTES
from stackd.spec.load import MAX_BYTES

MAX_LINKS = 16
"""Symbolic links on the way to one file; more is a loop."""

_COMMIT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LINK = "120000"
_FILES = ("100644", "100755")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitLocation:
    """Which files of which repository: `ref` is a branch, a tag or a commit ("" is what the remote has as its HEAD),
    `path` a folder ("" is all). `allow_local` admits repositories on this host."""

    url: str
    ref: str = ""
    path: str = ""
    interval_ns: Duration = Duration(30 * SECOND)
    allow_local: bool = False


class GitSource:
    """Implements `runner.Origin` for a git repository; the mirror is kept below `home`. Raises StackdError
    `source.url.bad`, `source.url.secret`, `source.ref.bad` or `source.path.bad` at once."""

    def __init__(self, location: GitLocation, *, home: Path, environment: Mapping[str, str]) -> None:
        remote = checked_remote(location.url, allow_local=location.allow_local)
        self._ref = checked_ref(location.ref)
        self._path = checked_path(location.path)
        self._interval_seconds = location.interval_ns / SECOND
        self._root_name = posixpath.basename(self._path) or remote.name
        self._git = Git(home, remote)
        self._reader = StackReader(environment)
        self._prepared = False
        self._latest: SourceSnapshot | None = None

    async def snapshot(self) -> SourceSnapshot:
        """The commit the ref points to now; raises StackdError `source.git.*` or `source.ref.missing`."""
        if not self._prepared:
            await self._git.prepare()
            self._prepared = True
        wanted, commit = await self._resolve()
        if self._latest is None or self._latest.label != commit:
            self._latest = await self._snapshot_of(await self._git.fetch(wanted))
        return self._latest

    async def changed(self) -> None:
        await asyncio.sleep(self._interval_seconds)

    async def close(self) -> None:
        """Nothing is held between looks."""

    async def _resolve(self) -> tuple[str, str]:
        """What to fetch, and the commit it stands for. A branch goes before a tag of the same name."""
        ref = self._ref
        if _COMMIT_ID.fullmatch(ref):
            return ref, ref
        names = ["HEAD"] if not ref else [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
        refs = await self._git.remote_refs(*names, *(f"{name}^{{}}" for name in names))
        for name in names:
            if name in refs:
                return name, refs.get(f"{name}^{{}}", refs[name])
        message = f'the repository has no branch or tag "{ref}"' if ref else "the repository's HEAD points to no commit"
        raise StackdError("source.ref.missing", message, hint="push it, or name another ref (a commit by its full id)")

    async def _snapshot_of(self, commit: str) -> SourceSnapshot:
        about = await self._git.commit(commit)
        entries = await self._git.tree(commit)
        reading = await asyncio.to_thread(self._read, entries)
        return SourceSnapshot(
            label=commit,
            stacks=reading.stacks,
            problems=reading.problems,
            author=about.author,
            subject=about.subject,
        )

    def _read(self, entries: Mapping[str, TreeEntry]) -> Reading:
        with self._git.blobs() as blobs:
            return self._reader.read(GitTree(entries, blobs, self._path), self._root_name)


class GitTree:
    """The files of one commit, below the folder `root`."""

    def __init__(self, entries: Mapping[str, TreeEntry], blobs: BlobReader, root: str = "") -> None:
        self._entries = entries
        self._blobs = blobs
        self._root = root

    def paths(self) -> list[str]:
        prefix = f"{self._root}/" if self._root else ""
        found = [path.removeprefix(prefix) for path in self._entries if path.startswith(prefix)]
        if not found:
            raise StackdError(
                "source.unreadable", f'the commit has no folder "{self._root}"' if self._root else "the commit is empty"
            )
        return [path for path in found if may_be_stack_file(posixpath.basename(path))]

    def files(self, folder: str) -> GitTreeFiles:
        return GitTreeFiles(self._entries, self._blobs, posixpath.join(self._root, folder))


class GitTreeFiles:
    """The files of a commit as folder `base` sees them. A path may lead anywhere in the commit and nowhere else."""

    directory: str | None = None
    """There is no folder on any host."""

    def __init__(self, entries: Mapping[str, TreeEntry], blobs: BlobReader, base: str) -> None:
        self._entries = entries
        self._blobs = blobs
        self._base = tuple(part for part in base.split("/") if part)

    def text(self, name: str) -> bytes:
        return self._content(name, MAX_BYTES)

    def read(self, path: str) -> bytes:
        return self._content(path, MAX_FILE_BYTES)

    def fingerprint(self, path: str) -> str:
        try:
            return self._entry(path).object_id
        except StackdError as exc:
            return exc.code

    def _content(self, path: str, limit: int) -> bytes:
        entry = self._entry(path)
        if entry.size > limit:
            raise StackdError("spec.file.too_large", f'"{path}" has {entry.size} bytes; the limit is {limit}')
        return self._blobs.read(entry.object_id)

    def _entry(self, path: str) -> TreeEntry:
        """The file at `path`, through links (whose targets start from the folder the link stands in)."""
        if path.startswith("/"):
            raise _escapes(path)
        place: list[str] = list(self._base)
        waiting = path.split("/")
        links = 0
        while waiting:
            part = waiting.pop(0)
            if part == "..":
                if not place:
                    raise _escapes(path)
                place.pop()
            elif part not in ("", "."):
                place.append(part)
                entry = self._entries.get("/".join(place))
                if entry is not None and entry.mode == _LINK:
                    links += 1
                    target = self._target(entry) if links <= MAX_LINKS else ""
                    if not target or target.startswith("/"):
                        raise _escapes(path)
                    place.pop()
                    waiting[:0] = target.split("/")
        found = self._entries.get("/".join(place))
        if found is None or found.mode not in _FILES:
            raise StackdError(
                "spec.file.missing", f'there is no file "{path}" in the commit', hint="paths start from the stack file's folder"
            )
        return found

    def _target(self, link: TreeEntry) -> str:
        return self._blobs.read(link.object_id).decode(errors="surrogateescape") if link.size <= 4096 else ""


def _escapes(path: str) -> StackdError:
    return StackdError(
        "spec.file.escapes",
        f'"{path}" lies outside of the repository',
        hint="commit the file and name it by a relative path",
    )
