"""pysyncobj, loaded for us alone, with what it would do to the outside taken away.

The library's main module is loaded a second time, under no name: what is changed in its globals here (clock, pickle,
journal) is changed for `hardened.py` alone. Its network, poller and node ids are replaced through its own arguments.
"""

from __future__ import annotations

import functools
import importlib.util
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from types import ModuleType
from typing import Any, NoReturn

from pysyncobj.node import Node as LibraryNode
from pysyncobj.transport import Transport
from pysyncobj.version import VERSION

from stackd.raft.journal import Journal
from stackd.raft.message import AnyMessage, LogEntry
from stackd.raft.settings import Settings

LIBRARY_VERSION = "0.3.17"
if VERSION != LIBRARY_VERSION:
    raise ImportError(f"stackd is written for pysyncobj {LIBRARY_VERSION}, not {VERSION}")

_driven = threading.local()


def drive(clock: Callable[[], float]) -> None:
    """From now on the library, in this thread, works for the node that has this clock."""
    _driven.clock = clock


def _now() -> float:
    return float(_driven.clock())


class _NoPickle:
    """Nothing of ours is pickled, and nothing pickled is ever read: that would run what a peer or a disk says."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(f"pickle.{name} was asked for")


def _load() -> ModuleType:
    spec = importlib.util.find_spec("pysyncobj.syncobj")
    if spec is None or spec.loader is None:
        raise ImportError("pysyncobj has no module syncobj")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Time is the driven node's: the library asks a global function. One node is driven at a time in each thread.
    module.monotonicTime = _now  # type: ignore[attr-defined]
    # The journal is made by us; the library would make one from a file name.
    module.createJournal = lambda journal: journal  # type: ignore[attr-defined]
    # A command's first byte is its type, in the library. Our entries have no such byte: the only command that the library
    # makes itself is the one that opens a term, which is empty here.
    module._bchr = lambda kind: b""  # type: ignore[attr-defined]
    module.pickle = _NoPickle()  # type: ignore[attr-defined]
    return module


_module: Any = _load()

SyncObj: Any = _module.SyncObj
SyncObjConf: Any = _module.SyncObjConf


class Name(LibraryNode):  # type: ignore[misc]
    """A node id for the library. Its hash is the same in each process, so that sets of them are walked in one order."""

    def __init__(self, node: str) -> None:
        super().__init__(node)
        self._hash = zlib.crc32(node.encode())

    def __hash__(self) -> int:
        return self._hash

    @staticmethod
    @functools.cache
    def of(node: str) -> Name:
        """Always the same object: each message looks some up in several tables."""
        return Name(node)


class Post(Transport):  # type: ignore[misc]
    """What the library takes for its network: it hands over what the library says."""

    def __init__(self, say: Callable[[str, dict[str, Any]], None]) -> None:
        super().__init__(None, None, [])
        self._say = say

    def send(self, node: LibraryNode, message: dict[str, Any]) -> bool:
        self._say(node.id, message)
        return True


class Idle:
    """What the library takes for its poller: it polls nothing, the node does."""

    def poll(self, timeout: float) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the library's part of a node is given."""

    me: str
    journal: Journal
    settings: Settings
    clock: Callable[[], float]
    random: Random
    send: Callable[[str, AnyMessage], None]
    """Holds the message back until what it relies on is on the medium."""
    apply: Callable[[LogEntry], None]
    """Must not raise."""
    replicate: Callable[[bool], None]
    """Send entries to everyone who lacks some; True: and a heartbeat to everyone else."""
