"""The machine's clocks."""

from __future__ import annotations

import time

from stackd.daemon.clock import BOOT_ID, SystemClock


def test_what_is_counted_goes_on_with_the_machine_whatever_the_time_of_day_is() -> None:
    clock = SystemClock()
    first = clock.elapsed()
    assert time.monotonic_ns() <= clock.elapsed(), "what a machine sleeps counts"
    assert first < clock.elapsed()


def test_every_clock_of_one_boot_names_the_same_boot() -> None:
    assert SystemClock().boot == SystemClock().boot == BOOT_ID.read_text().strip()
