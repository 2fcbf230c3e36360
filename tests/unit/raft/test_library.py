"""The library is the one that the overrides were written for, and does nothing that they must keep it from."""

from __future__ import annotations

import hashlib
import pickle
import re
from pathlib import Path

import pysyncobj
import pysyncobj.syncobj
import pytest
from stackd.raft import library
from stackd.raft.hardened import Hardened

from raft_nodes import Nodes

SOURCE = Path(pysyncobj.__file__).parent
READ_FOR_THE_OVERRIDES = {
    "syncobj.py": "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4",
    "transport.py": "0c9d89f9c4781ec9772df8011d7975a1a4a1a5f541357e12eae85a813e92b50b",
    "node.py": "e4a3f027cd8291f558334bb9c977e952f6b6989e7e1fa1588d3005ef0b990e2c",
    "serializer.py": "4d39fde2f15000ad8f507ec229ebd4f6a86371b6f84d4dc1439a9cccd52857ee",
    "journal.py": "9cf1eaf6acc704581a4cf7d3de330a404403913107adc91c929778b7e3f35edf",
    "config.py": "fbbc7ff9f18e4d15a7fd563376e42f5bd192956879d4b810b056d5248b955698",
    "fast_queue.py": "8477fe5fdf36d9766df933310d3d66ee953d1afc195b1e6482b3a1498fc517bd",
    "version.py": "0b8426a8b52ecf874193897d26c4214acbd85335145ea9ff17e27a22b1132943",
}
"""The files whose behaviour `hardened.py` and `library.py` rely on, with the SHA-256 of what was read."""


@pytest.mark.parametrize("name", READ_FOR_THE_OVERRIDES)
def test_the_library_s_source_is_the_one_that_the_overrides_were_written_for(name: str) -> None:
    found = hashlib.sha256((SOURCE / name).read_bytes()).hexdigest()
    assert found == READ_FOR_THE_OVERRIDES[name], f"{name} has changed: read it again, and every override with it"


def test_every_override_of_a_private_part_replaces_something_that_is_there() -> None:
    private = [name for name in vars(Hardened) if name.startswith(("_SyncObj__", "_onTick", "_check"))]
    callables = [name for name in private if callable(getattr(Hardened, name))]
    assert callables
    assert [name for name in callables if not hasattr(pysyncobj.syncobj.SyncObj, name)] == []


def test_what_is_changed_in_the_library_is_changed_for_us_alone() -> None:
    assert pysyncobj.syncobj.SyncObj is not library.SyncObj
    assert pysyncobj.syncobj.pickle is not library._module.pickle


def test_our_code_never_names_pickle_but_to_refuse_it() -> None:
    package = Path(library.__file__).parents[1]
    using = [path.name for path in package.rglob("*.py") if re.search(r"^\s*(import|from) +c?pickle", path.read_text(), re.M)]
    assert using == []


def test_nothing_is_pickled_in_a_cluster_s_life(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("something was pickled or unpickled")

    for module in (pickle, pysyncobj.syncobj.pickle):
        for name in ("loads", "load", "dumps", "dump"):
            monkeypatch.setattr(module, name, refuse, raising=False)
    nodes = Nodes("abc", kept_entries=0)
    away = nodes.followers()[0]
    nodes.isolate(away.name)
    nodes.write(b"1", b"2")
    nodes.compact(nodes.lead())
    nodes.isolate()
    nodes.run(1.0)
    ticket = nodes.lead().node.add("d", "d:1")
    nodes.run_until(lambda: ticket.is_done)
    nodes.run(0.3)
    assert away.node.applied_index == nodes.lead().node.applied_index


def test_asking_the_library_for_pickle_is_an_error() -> None:
    with pytest.raises(RuntimeError):
        library._module.pickle.loads(b"")
