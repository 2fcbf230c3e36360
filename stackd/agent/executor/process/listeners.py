"""Who listens on a port of this host, for the fault that says it is taken (/proc/net/tcp, proc(5))."""

from __future__ import annotations

import os
from pathlib import Path

_LISTENING = {"tcp": "0A", "udp": "07"}
"""The state of a socket that receives from anyone, as these tables write it."""


def listener(protocol: str, port: int) -> str:
    """`nginx, process 4711`; "" if the process can't be told (it belongs to another user, or has just gone)."""
    inodes = {inode for table in (protocol, f"{protocol}6") for inode in _inodes(table, protocol, port)}
    if not inodes:
        return ""
    sockets = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        if _holds(process, sockets):
            return f"{_content(process / 'comm').strip()}, process {process.name}"
    return ""


def _inodes(table: str, protocol: str, port: int) -> list[str]:
    rows = (line.split() for line in _content(Path("/proc/net", table)).splitlines()[1:])
    wanted = f":{port:04X}"
    return [row[9] for row in rows if row[1].endswith(wanted) and row[3] == _LISTENING[protocol]]


def _holds(process: Path, sockets: set[str]) -> bool:
    try:
        return any(os.readlink(entry.path) in sockets for entry in os.scandir(process / "fd"))
    except OSError:
        return False


def _content(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
