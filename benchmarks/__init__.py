"""Benchmarks and chaos: scripts that print one JSON object per figure or run. They use what the tests use to have clusters,
engines and hosts, under the same plain names."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))
