"""Where things are written: the source map, and problems as people and programs read them."""

from __future__ import annotations

import pytest
from stackd.base.errors import Position, Problem
from stackd.spec.report import format_problem, format_problems, problem_record
from stackd.spec.sourcemap import SourceMap

from spec_builders import EVERY_KEY, load, problem_of, problems_of

TEXT = """\
x-base: &base
  image: nginx:1.25
services:
  web:
    <<: *base
    labels:
      com.example.tier: front
      com: other
    deploy:
      replicas: 3
    ports: ["80", "81"]
"""


@pytest.fixture
def sources() -> SourceMap:
    return load(TEXT).sources


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("services", (3, 1)),
        ("services.web", (4, 3)),
        ("services.web.image", (2, 10)),
        ("services.web.deploy.replicas", (10, 17)),
        ("services.web.ports.1", (11, 19)),
        ("services.web.labels.com.example.tier", (7, 25)),
        ("services.web.labels.com", (8, 12)),
        ("services.web.deploy.update_config.order", (9, 5)),
        ("services.web.user", (4, 3)),
        ("services.web.ports.7", (11, 5)),
    ],
)
def test_a_path_leads_to_its_value_or_to_the_nearest_ancestor(sources: SourceMap, path: str, place: tuple[int, int]) -> None:
    position = sources.position(path)
    assert position is not None
    assert (position.file, position.line, position.column) == ("shop/stack.yaml", *place)


def test_a_path_that_is_nowhere_in_the_file_has_no_place(sources: SourceMap) -> None:
    assert sources.position("volumes.data") is None
    assert sources.position("") is None


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("services.web.deploy.replicas", (10, 7)),
        ("services.web.image", (2, 3)),
        ("services.web.labels.com.example.tier", (7, 7)),
        ("services.web.ports.1", (11, 19)),
        ("services.web.user", (4, 3)),
    ],
)
def test_a_key_has_a_place_of_its_own(sources: SourceMap, path: str, place: tuple[int, int]) -> None:
    position = sources.key(path)
    assert position is not None
    assert (position.line, position.column) == place


def test_a_place_carries_its_line_and_what_to_underline(sources: SourceMap) -> None:
    position = sources.position("services.web.labels.com.example.tier")
    assert position == Position("shop/stack.yaml", 7, 25, 5, "      com.example.tier: front")


def test_every_path_of_a_whole_file_has_a_place() -> None:
    sources = load(EVERY_KEY).sources
    assert str(sources.position("services.web.stop_grace_period")) == "shop/stack.yaml:4:22"
    assert str(sources.position("configs.site.file")) == "shop/stack.yaml:71:16"


# Reports


def test_a_problem_shows_its_line_and_its_hint() -> None:
    problem = problem_of("services:\n  web:\n    image: nginx\n    deploy:\n      replcas: 3\n")
    assert format_problem(problem) == (
        'shop/stack.yaml:5:7: error[spec.key.unknown]: unknown key "replcas" under services.web.deploy\n'
        "   5 |       replcas: 3\n"
        '     |       ^^^^^^^  did you mean "replicas"?'
    )


def test_problems_stand_one_after_the_other() -> None:
    found = problems_of("services: {a: {}, b: {}}")
    assert format_problems(found).count("spec.image.missing") == 2
    assert format_problems([]) == ""


def test_a_problem_of_a_whole_file_shows_no_line() -> None:
    problem = Problem("spec.limit.size", "too large", Position("a.yaml"), "split it")
    assert format_problem(problem) == "a.yaml: error[spec.limit.size]: too large\n     = split it"


def test_a_problem_without_a_place_and_hint_is_one_line() -> None:
    assert format_problem(Problem("spec.more", "3 more", severity="warning")) == "warning[spec.more]: 3 more"


def test_tabs_and_wide_characters_do_not_shift_the_marks() -> None:
    tabbed = Problem("c", "m", Position("f", 1, 4, 2, "\ta\tbc"))
    assert format_problem(tabbed).splitlines()[-1] == "     | \t \t^^"
    wide = Problem("c", "m", Position("f", 1, 3, 1, "日本x"))
    assert format_problem(wide).splitlines()[-1] == "     |     ^"


def test_of_a_long_line_only_the_part_around_the_place_is_shown() -> None:
    text = "a" * 200 + "XYZ" + "b" * 200
    lines = format_problem(Problem("c", "m", Position("f", 9, 201, 3, text))).splitlines()
    assert len(lines[1]) < 140
    marked = lines[1][lines[2].index("^") : lines[2].rindex("^") + 1]
    assert marked == "XYZ"


def test_a_record_has_every_field_also_where_there_is_nothing() -> None:
    assert problem_record(Problem("c", "m")) == {
        "file": "",
        "line": 0,
        "column": 0,
        "length": 1,
        "severity": "error",
        "code": "c",
        "message": "m",
        "hint": "",
        "text": "",
    }
