"""Frames of the engine's log cut into lines."""

from __future__ import annotations

from stackd.agent.executor.docker.logs import lines_of

FIRST = b"1970-01-01T00:00:01Z "
SECOND = b"1970-01-01T00:00:02Z "


def test_lines_keep_time_stream_and_text() -> None:
    lines = list(lines_of([(1, FIRST + b"hello world\n"), (2, SECOND + b"\n")]))
    assert [(line.at, line.stream, line.line) for line in lines] == [
        (1_000_000_000, "stdout", b"hello world"),
        (2_000_000_000, "stderr", b""),
    ]


def test_a_long_line_in_several_frames_is_one_line_with_its_first_time() -> None:
    frames = [(1, FIRST + b"a" * 10), (2, SECOND + b"other\n"), (1, SECOND + b"b\n")]
    assert [(line.at, line.line) for line in lines_of(frames)] == [
        (2_000_000_000, b"other"),
        (1_000_000_000, b"a" * 10 + b"b"),
    ]


def test_a_last_line_without_an_end_is_not_lost() -> None:
    assert [line.line for line in lines_of([(1, FIRST + b"prompt> ")])] == [b"prompt> "]
