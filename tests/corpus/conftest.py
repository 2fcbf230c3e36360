"""The corpus is looked for where the variable CORPUS says, then beside the project; without one nothing is collected here."""

from __future__ import annotations

import os
from pathlib import Path

BESIDE = Path(__file__).parents[2].parent / "shared" / "corpus" / "dev"

collect_ignore = [] if os.environ.get("CORPUS") or BESIDE.is_dir() else ["test_corpus.py"]
