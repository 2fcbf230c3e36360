"""Times, sizes and counts in Docker's words."""

from __future__ import annotations

import pytest
from stackd.cli.output import shortened, table
from stackd.cli.wording import about, ago, binary_size, clock_time, count, ports

from cli_control import a_port
from cli_runner import NOW


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (46 * 60, "46 minutes"),
        (3600, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_durations_are_said_as_docker_says_them(seconds: float, words: str) -> None:
    assert about(seconds) == words


def test_a_time_ahead_of_our_clock_counts_as_now() -> None:
    assert ago("2026-05-01T12:00:03.000Z", NOW) == "less than a second ago"
    assert ago(None, NOW) == ""


@pytest.mark.parametrize(("seconds", "words"), [(0.42, "0.4s"), (12.3, "12s"), (59.7, "1m0s"), (100, "1m40s"), (7500, "2h5m")])
def test_short_durations(seconds: float, words: str) -> None:
    assert clock_time(seconds) == words


@pytest.mark.parametrize(
    ("size", "words"), [(0, ""), (512, "512B"), (64 * 1024**2, "64MiB"), (8350000000, "7.777GiB"), (2 * 1024**4, "2TiB")]
)
def test_sizes(size: int, words: str) -> None:
    assert binary_size(size) == words


def test_counts_have_their_plural() -> None:
    assert [count(number, "error") for number in (0, 1, 2)] == ["no errors", "1 error", "2 errors"]


def test_ports_are_listed_in_dockers_form() -> None:
    assert ports([a_port(), a_port(9000, 90)]) == "*:8080->80/tcp, *:9000->90/tcp"


def test_tables_have_no_blanks_at_the_end_of_a_line() -> None:
    assert table(("A", "LONG"), [("value", ""), ("", "x")]) == "A       LONG\nvalue\n        x"


def test_shortened_texts_show_that_something_is_missing() -> None:
    assert shortened("one\n two three", 9) == "one two …"
    assert shortened("one two", 7) == "one two"
