"""Where a node keeps its state and where its daemon listens, when nobody says otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

SOCKET_NAME = "stackd.sock"


def default_data_dir(environment: Mapping[str, str] | None = None) -> Path:
    """`$STACKD_DATA_DIR`, else /var/lib/stackd for root and `$XDG_DATA_HOME/stackd` (~/.local/share/stackd) for a user."""
    env = os.environ if environment is None else environment
    if chosen := env.get("STACKD_DATA_DIR"):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/var/lib/stackd")
    base = env.get("XDG_DATA_HOME") or os.path.join(env.get("HOME") or os.path.expanduser("~"), ".local", "share")
    return Path(base) / "stackd"


def socket_path(data_dir: Path) -> Path:
    """The local API's socket of the daemon on `data_dir`."""
    return data_dir / SOCKET_NAME
