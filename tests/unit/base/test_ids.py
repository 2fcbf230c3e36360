"""Identifiers."""

from __future__ import annotations

import random
import re

from stackd.base.ids import new_id


def test_ids_are_25_characters_of_base_36_and_never_the_same() -> None:
    entropy = random.Random(1)
    made = {new_id(entropy) for _ in range(100_000)}
    assert len(made) == 100_000
    assert all(re.fullmatch(r"[0-9a-z]{25}", one) for one in made)
