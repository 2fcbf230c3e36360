"""A directory as a source: looks when the kernel says that something changed, and now and then anyway.

The only door to watchdog. Events are hints and nothing more: after any of them the directory is read anew and the result
compared, so a lost, doubled or misread event costs time, never correctness. What links lead to and side files outside of
the directory are watched as well; a directory that is deleted, replaced or created later is picked up again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import ObservedWatch

from stackd.gitops.directory import DirectoryTree
from stackd.gitops.snapshot import SourceSnapshot, StackReader

_log = logging.getLogger(__name__)

QUIET_SECONDS = 0.05
"""Saving one file makes several events within a millisecond or two; reading waits until there were none for this long."""

MAX_WAIT_SECONDS = 0.5
"""A directory that is written all the time is read this often all the same."""

SWEEP_SECONDS = 10.0
"""How long a change may stay unseen that no event told of (network file systems, an exhausted inotify)."""

CONFIRM_SECONDS = 0.2
"""Tools replace files by deleting and creating them. A stack is taken for deleted if it is still gone after this time."""

MAX_OUTSIDE = 64
"""Folders outside the directory that are watched each for itself (each costs a thread); the sweep covers the rest."""

_EVENTS: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]
"""Without opening and closing for reading, which our own looks would cause."""


Folders = dict[str, frozenset[str] | None]
"""Folders to watch, by real path, each with the files in it that matter (None: all of them)."""


class DirectorySource:
    """Implements `runner.Origin` for a directory.

    `environment` fills in variables; `key` makes the shown digest of what was read unguessable; `exclude` are folders
    that aren't part of the source. Close it when done: the watch has threads."""

    def __init__(
        self,
        root: Path,
        *,
        environment: Mapping[str, str],
        key: bytes,
        exclude: tuple[Path, ...] = (),
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        self._root = Path(os.path.abspath(root))
        self._tree = DirectoryTree(self._root, exclude=exclude)
        self._reader = StackReader(environment, key=key)
        self._sweep_seconds = sweep_seconds
        self._stacks: frozenset[str] = frozenset()
        self._outside: Folders = {}
        self._hint = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._watch = _Watch(self._root, exclude, self._hint_from_thread)

    async def snapshot(self) -> SourceSnapshot:
        """The directory as it is; raises StackdError `source.unreadable` or `source.too_large`."""
        found = await asyncio.to_thread(self._read)
        if not found.problems and not self._stacks <= found.stack_names():
            await asyncio.sleep(CONFIRM_SECONDS)
            found = await asyncio.to_thread(self._read)
        if not found.problems:
            self._stacks = found.stack_names()
        return found

    async def changed(self) -> None:
        """Returns once something may have changed and no further event has come for a moment."""
        try:
            async with asyncio.timeout(self._sweep_seconds):
                await self._hint.wait()
        except TimeoutError:
            return
        give_up = self._loop.time() + MAX_WAIT_SECONDS
        while self._loop.time() < give_up:
            self._hint.clear()
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    await self._hint.wait()
            except TimeoutError:
                return

    async def close(self) -> None:
        await asyncio.to_thread(self._watch.close)

    def _read(self) -> SourceSnapshot:
        """Watch, then read: what changes in between is seen by the watch. Where reading has led to new places, these were
        read before they were watched, so it is done again."""
        self._watch.follow(self._outside)
        reading = self._reader.read(self._tree, self._root.name)
        self._outside = self._find_outside()
        if self._watch.follow(self._outside):
            self._hint_from_thread()
        return SourceSnapshot(label=reading.digest, stacks=reading.stacks, problems=reading.problems)

    def _find_outside(self) -> Folders:
        """The folders to watch that aren't below the root."""
        real_root = os.path.realpath(self._root)
        files: dict[str, set[str]] = {}
        for folder, path in self._reader.files_read():
            written = os.path.join(self._root, folder, path)
            for place in {
                os.path.realpath(written),
                os.path.join(os.path.realpath(os.path.dirname(written)), os.path.basename(path)),
            }:
                if os.path.commonpath((place, real_root)) != real_root:
                    files.setdefault(os.path.dirname(place), set()).add(place)
        outside: Folders = {folder: frozenset(names) for folder, names in files.items()}
        for folder in self._tree.linked_folders:
            if os.path.commonpath((folder, real_root)) != real_root:
                outside[folder] = None
        return outside

    def _hint_from_thread(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._hint.set)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more


@dataclass(frozen=True, slots=True)
class _Scheduled:
    """One watch. `identity` tells whether its folder is still the one it was made for, `names` which files matter."""

    watch: ObservedWatch
    identity: tuple[int, int]
    names: frozenset[str] | None


class _Watch:
    """The set of watched folders, kept in step with where things are. Used from one reading thread at a time."""

    def __init__(self, root: Path, exclude: tuple[Path, ...], changed: Callable[[], None]) -> None:
        self._root = os.fspath(root)
        self._exclude = tuple(os.path.realpath(path) for path in exclude)
        self._changed = changed
        self._scheduled: dict[str, _Scheduled] = {}
        self._observer = Observer()
        self._lock = threading.Lock()
        self._closed = False
        self._warned = False
        # A folder that is made while the tree is walked is found twice, and watched once all the same.
        warnings.filterwarnings("ignore", "Callback with id .* already exists", RuntimeWarning, r"watchdog\.")
        self._observer.start()

    def follow(self, outside: Folders) -> bool:
        """Watch the directory with all below it, its own entry in the folder above, and the folders `outside` without what
        is below them, as links lead at present; no others any more. Whether a folder is now watched that wasn't before."""
        with self._lock:
            if self._closed:
                return False
            root = os.path.realpath(self._root)
            above = os.path.realpath(os.path.dirname(self._root))
            wanted: Folders = dict(sorted(outside.items())[:MAX_OUTSIDE])
            entry = frozenset({os.path.join(above, os.path.basename(self._root))})
            names = wanted.get(above, entry)
            wanted[above] = names if names is None else names | entry
            for folder in self._scheduled.keys() - wanted.keys() - {root}:
                self._unschedule(folder)
            made = [self._schedule(folder, names) for folder, names in wanted.items() if folder != root]
            return self._schedule(root, None, recursive=True) or any(made)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._observer.stop()
            self._observer.join()

    def _schedule(self, folder: str, names: frozenset[str] | None, *, recursive: bool = False) -> bool:
        """Watch `folder` if it exists and isn't watched yet; whether a watch was made."""
        try:
            found = os.stat(folder)
            identity = (found.st_dev, found.st_ino)
            known = self._scheduled.get(folder)
            if known is not None and (known.identity, known.names) == (identity, names):
                return False
            self._unschedule(folder)
            handler = _Handler(self._changed, self._concerns_below(folder) if recursive else _concerns(names))
            watch = self._observer.schedule(handler, folder, recursive=recursive, event_filter=_EVENTS)
        except OSError as exc:
            self._unschedule(folder)
            self._warn(folder, exc)
            return False
        self._scheduled[folder] = _Scheduled(watch, identity, names)
        return True

    def _unschedule(self, folder: str) -> None:
        known = self._scheduled.pop(folder, None)
        if known is not None:
            self._observer.unschedule(known.watch)

    def _concerns_below(self, root: str) -> Callable[[str], bool]:
        """What is in hidden folders is noise (a repository's own `.git` above all). Hidden files aren't: stacks read
        `.env`. Nor are names such as `..data`: atomic writers of whole directories swap a link of that form."""

        def concerns(path: str) -> bool:
            folders = os.path.relpath(path, root).split(os.sep)[:-1]
            hidden = any(part.startswith(".") and not part.startswith("..") for part in folders)
            return not hidden and not any(path == top or path.startswith(top + os.sep) for top in self._exclude)

        return concerns

    def _warn(self, folder: str, exc: OSError) -> None:
        if not self._warned and not isinstance(exc, FileNotFoundError):
            self._warned = True
            _log.warning("can't watch %s (%s): changes there are seen within %g s", folder, exc, SWEEP_SECONDS)


def _concerns(names: frozenset[str] | None) -> Callable[[str], bool]:
    if names is None:
        return lambda path: True
    return names.__contains__


class _Handler(FileSystemEventHandler):
    """Passes on that something of concern has changed."""

    def __init__(self, changed: Callable[[], None], concerns: Callable[[str], bool]) -> None:
        self._changed = changed
        self._concerns = concerns

    def on_any_event(self, event: FileSystemEvent) -> None:
        if any(path and self._concerns(os.fsdecode(path)) for path in (event.src_path, event.dest_path)):
            self._changed()
