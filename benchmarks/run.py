"""`make bench NAME=single-node`: run one benchmark by name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main() -> int:
    """Run `benchmarks/<name>.py`; without a name, list what there is."""
    here = Path(__file__).parent
    names = sorted(path.stem.replace("_", "-") for path in here.glob("*.py") if "\ndef main(" in path.read_text())
    names.remove("run")
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        print(f"usage: make bench NAME=<{'|'.join(names)}>", file=sys.stderr)
        return 64
    module = importlib.import_module(f"benchmarks.{sys.argv[1].replace('-', '_')}")
    return int(module.main(sys.argv[2:]) or 0)


if __name__ == "__main__":
    sys.exit(main())
