"""The one form in which benchmarks speak: a JSON object per figure, one a line."""

from __future__ import annotations

import json


def figure(name: str, value: float, unit: str, **more: float | str) -> None:
    """Print one figure, for example `{"figure": "create_20_over_floor", "value": 1.06, "unit": "ratio", ...}`."""
    numbers = {key: round(item, 3) if isinstance(item, float) else item for key, item in more.items()}
    print(json.dumps({"figure": name, "value": round(value, 4), "unit": unit, **numbers}), flush=True)


def ratio(name: str, ours: float, base: float, **more: float | str) -> None:
    """Print how our seconds compare with the base's, measured in the same run."""
    figure(name, ours / base, "ratio", ours=ours, base=base, **more)
