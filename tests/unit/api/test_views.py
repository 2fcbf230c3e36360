"""How public records show what they have."""

from __future__ import annotations

import pytest
from stackd.api.views import rfc3339
from stackd.base.time import Instant


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (1_795_417_200_000_000_000, "2026-11-23T07:00:00.000Z"),
        (1_795_417_200_007_000_000, "2026-11-23T07:00:00.007Z"),
        (1_795_417_200_999_999_999, "2026-11-23T07:00:00.999Z"),
        (1, "1970-01-01T00:00:00.000Z"),
        (0, None),
    ],
)
def test_an_instant_is_shown_to_the_millisecond_it_has_reached(at: int, text: str | None) -> None:
    assert rfc3339(Instant(at)) == text
