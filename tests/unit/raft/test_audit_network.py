"""Defects of the stock library in what it sends and reads: each shows there, and not on our members."""

from __future__ import annotations

import os
import pickle
import struct
import zlib
from pathlib import Path

import pytest
from audit_cluster import MAX_IN_FLIGHT
from audit_members import NewCluster, both
from pysyncobj.poller import createPoller
from pysyncobj.tcp_connection import TcpConnection


@both
def test_only_stock_floods_a_follower_while_its_snapshot_is_being_written(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    cluster.isolate("C")
    for number in range(8):
        cluster.propose("A", b"%d" % number)
    cluster.pass_time()
    cluster.compact("A")
    cluster.begin_snapshot("A")
    cluster.rejoin("C")
    cluster.now += 1.0
    cluster.tick("A")
    assert (len(cluster.in_flight) >= MAX_IN_FLIGHT) == cluster.is_stock


class Trap:
    """Unpickled, it makes a file: it could do anything."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_the_stock_library_runs_what_a_stranger_sends(tmp_path: Path) -> None:
    """Ours reads nothing but the forms of `message.py`, and that only from members whose certificate was checked."""
    connection = TcpConnection(createPoller("auto"))
    data = zlib.compress(pickle.dumps(Trap(tmp_path / "trap"), protocol=2))
    connection._TcpConnection__readBuffer = struct.pack("i", len(data)) + data
    connection._TcpConnection__processParseMessage()
    assert (tmp_path / "trap").exists()
