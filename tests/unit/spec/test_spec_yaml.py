"""Text to tree: what is YAML here, where its faults are shown, and what is refused before it can do harm."""

from __future__ import annotations

import time

import pytest
from stackd.base.errors import Problem
from stackd.spec.load import MAX_BYTES, parse
from stackd.spec.problems import Problems
from stackd.spec.scalars import resolve

from spec_builders import EVERY_KEY, a_service, load, plain, problem_of, problems_of, service_file


def tree_of(text: str) -> object:
    problems = Problems()
    root = parse(text.encode(), "file", problems)
    problems.raise_errors()
    return plain(root)


def place(problem: Problem) -> tuple[int, int]:
    assert problem.position is not None
    return problem.position.line, problem.position.column


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("Null", None), ("true", True), ("False", False), ("TRUE", True),
        ("yes", "yes"), ("on", "on"), ("no", "no"), ("y", "y"), ("tRue", "tRue"), ("none", "none"),
        ("0", 0), ("-7", -7), ("+7", 7), ("0555", 365), ("0o555", 365), ("-010", -8), ("0x1F", 31), ("0b101", 5),
        ("1_000", 1000), ("08", 8.0), ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-1.5E-2", -0.015),
        ("22:22", "22:22"), ("1:30:00", "1:30:00"), ("2024-01-02", "2024-01-02"), ("1.2.3", "1.2.3"), ("0x", "0x"),
        ("-", "-"), ("+", "+"), (".", "."), ("e3", "e3"), ("0o9", "0o9"), ("12ab", "12ab"), ("1 000", "1 000"),
        ("18446744073709551615", 2**64 - 1), ("18446744073709551616", 2.0**64), (".inf", float("inf")),
        ("-.Inf", float("-inf")), ("9" * 5000, float("inf")),
    ],
)  # fmt: skip
def test_plain_scalars_are_resolved_as_the_official_client_does(text: str, value: object) -> None:
    resolved = resolve(text)
    assert resolved == value
    assert type(resolved) is type(value)


def test_quoted_scalars_are_text_and_tags_of_yaml_are_followed() -> None:
    text = "a: '1'\nb: \"true\"\nc: !!str 2\nd: !!int '3'\ne: !!float 4\nf: ! 5\ng: |\n  6\nh: !!bool 'true'\ni: !!null ''\n"
    assert tree_of(text) == {"a": "1", "b": "true", "c": "2", "d": 3, "e": 4.0, "f": "5", "g": "6\n", "h": True, "i": None}


def test_a_mark_belongs_to_its_value_alone_also_when_that_is_forgotten() -> None:
    """What is taken away is let go by the reader; nothing that comes later may be taken for it."""
    taken = "{gone: !reset {a: {b: 1}, c: [1, 2]}, a: !reset [1], b: !reset 1}"
    tree = tree_of(
        "".join(f"m{number}: {taken}\nkept{number}: {{a: {{b: word}}, c: 4, d: [a, b], e: 1}}\n" for number in range(2000))
    )
    kept = {"a": {"b": "word"}, "c": 4, "d": ["a", "b"], "e": 1}
    assert isinstance(tree, dict)
    assert [name for name, value in tree.items() if name.startswith("kept") and value != kept] == []


def test_merges_take_what_is_not_written_and_earlier_ones_win() -> None:
    text = """
x-a: &a {one: 1, two: 1}
x-b: &b {two: 2, three: 2}
x-c: {<<: [*a, *b], three: 3}
x-d:
  one: 4
  <<: *b
"""
    tree = tree_of(text)
    assert isinstance(tree, dict)
    assert tree["x-c"] == {"one": 1, "two": 1, "three": 3}
    assert tree["x-d"] == {"one": 4, "two": 2, "three": 2}


def test_a_quoted_merge_sign_is_a_key() -> None:
    assert tree_of('a: {"<<": 1}') == {"a": {"<<": 1}}


def test_colons_in_plain_text_inside_of_brackets_are_text() -> None:
    service = a_service("healthcheck: {test: [CMD, curl, http://localhost:80/x]}\nports: [8080:80, 53:53/udp]")
    assert service.task.container.healthcheck is not None
    assert service.task.container.healthcheck.test == ("CMD", "curl", "http://localhost:80/x")
    assert [port.published for port in service.task.ports] == [53, 8080]


def test_a_file_may_be_json_and_may_begin_with_a_byte_order_mark_and_end_lines_as_windows_does() -> None:
    assert load(b'\xef\xbb\xbf{"services":{"web":{"image":"nginx"}}}').spec.services[0].name == "web"
    assert load(EVERY_KEY.replace("\n", "\r\n")).spec == load(EVERY_KEY).spec


@pytest.mark.parametrize(
    ("text", "code", "where", "message"),
    [
        ("services:\n\tweb: 1\n", "spec.yaml.tab", (2, 1), "a tab can't indent YAML"),
        ("services:\n  web:\n  \timage: x\n", "spec.yaml.tab", (3, 3), "a tab can't indent YAML"),
        ("services: {a: 1\n", "spec.yaml.syntax", (1, 16), "a bracket isn't closed, or a comma is missing"),
        ("name: a: b\n", "spec.yaml.syntax", (1, 8), 'no ": " can stand here'),
        ("name: 'a\n", "spec.yaml.syntax", (1, 7), "the quote that opens here is never closed"),
        ("name: @a\n", "spec.yaml.syntax", (1, 7), "no value begins so"),
        ("a:\n  image:x\n  b: 1\n", "spec.yaml.syntax", (2, 3), 'no blank follows "image:"'),
        ("a: {b: 1\n} c: {d: 1}\n", "spec.yaml.syntax", (2, 3), "this line doesn't go on with what is above"),
        ("- a\nb: 1\n", "spec.yaml.syntax", (2, 1), "this is no item of the list above"),
        ("", "spec.yaml.empty", (1, 1), "the file holds nothing"),
        ("# nothing\n", "spec.yaml.empty", (1, 1), "the file holds nothing"),
        ("a: 1\n---\nb: 1\n", "spec.yaml.documents", (2, 1), "a stack file holds one document"),
        ("a: *b\n", "spec.yaml.alias", (1, 4), 'there is no anchor "b" above'),
        ("a: &a\n  b: *a\n", "spec.yaml.alias", (2, 6), '"a" contains itself'),
    ],
)  # fmt: skip
def test_text_that_is_no_tree_ends_the_pass_at_its_place(text: str, code: str, where: tuple[int, int], message: str) -> None:
    problem = problem_of(text)
    assert (problem.code, place(problem)) == (code, where)
    assert message in problem.message


@pytest.mark.parametrize(
    ("settings", "code", "where", "message"),
    [
        ("user: a\nuser: b", "spec.yaml.duplicate", (5, 5), 'the key "user" stands twice in one mapping'),
        ("labels: {1: a}", "spec.yaml.key", (4, 14), "a key must be text, not the number 1"),
        ("labels: {true: a}", "spec.yaml.key", (4, 14), "a key must be text, not true"),
        ("labels: {[a]: b}", "spec.yaml.key", (4, 14), "a key must be text, not a list"),
        ("user: !name a", "spec.yaml.tag", (4, 11), 'the tag "!name" means nothing here'),
        ("user: !!binary a", "spec.yaml.tag", (4, 11), 'the tag "!!binary" means nothing here'),
        ("dns_search: [!reset a]", "spec.yaml.tag", (4, 18), '"!reset" means nothing here'),
        ("labels: {<<: a}", "spec.yaml.merge", (4, 18), '<< merges a mapping or a list of mappings, not the text "a"'),
        ('user: "a\\0b"', "spec.yaml.character", (4, 11), "a zero byte can't stand in a stack file"),
    ],
)
def test_faults_that_leave_a_tree_are_gathered(settings: str, code: str, where: tuple[int, int], message: str) -> None:
    found = problems_of(service_file(settings + "\nimagine: x"))
    assert [problem.code for problem in found if problem.code != code] == ["spec.key.unknown"]
    problem = next(problem for problem in found if problem.code == code)
    assert place(problem) == where
    assert message in problem.message


@pytest.mark.parametrize(
    ("data", "code", "where"),
    [
        (b"a: 1\nb: \xc3(\n", "spec.yaml.encoding", (2, 4)),
        ("a: 1\n".encode("utf-16"), "spec.yaml.encoding", (1, 1)),
        (b"a: 1\nbc: \x01\n", "spec.yaml.character", (2, 5)),
        ("é: \x7f\n".encode(), "spec.yaml.character", (1, 4)),
    ],
)
def test_bytes_that_are_no_text_are_refused_at_their_place(data: bytes, code: str, where: tuple[int, int]) -> None:
    problem = problem_of(data)
    assert (problem.code, place(problem)) == (code, where)


# Limits


def test_a_large_file_is_refused_before_it_is_parsed() -> None:
    data = b"a: [" + b"b, " * MAX_BYTES
    start = time.process_time()
    problem = problem_of(data)
    assert time.process_time() - start < 0.05
    assert problem.code == "spec.limit.size"


@pytest.mark.parametrize("opening", ["[", "{a: ", "[{a: ", "? ", "- "])
def test_deep_nesting_is_refused_without_recursion(opening: str) -> None:
    assert problem_of(opening * 50_000).code == "spec.limit.depth"


def test_nesting_through_aliases_counts() -> None:
    text = "a0: &a0 []\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 100))
    assert problem_of(text).code == "spec.limit.depth"


def test_an_alias_bomb_is_refused_before_it_goes_off() -> None:
    text = "x-a0: &a0 [x]\n" + "".join(f"x-a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20))
    assert problem_of(text).code == "spec.limit.values"


def test_a_bomb_of_merges_is_refused() -> None:
    text = "x-a0: &a0 {k: x}\n" + "".join(f"x-a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 20))
    assert problem_of(text).code == "spec.limit.values"


def test_aliases_of_a_long_text_count_by_its_length() -> None:
    services = "\n".join(f"  s{n}: {{image: x, command: *a}}" for n in range(1000))
    assert problem_of(f"x-a: &a {'a' * 100_000}\nservices:\n{services}\n").code == "spec.limit.values"


def test_a_very_long_key_is_refused() -> None:
    problem = problem_of(service_file(f"labels:\n  ? {'k' * 5000}\n  : x"))
    assert (problem.code, problem.message) == ("spec.yaml.key", "a key has more than 1024 characters")


def test_loading_is_fast_enough_to_happen_at_every_save() -> None:
    services = "".join(
        f"  s{n}:\n    image: nginx:1.{n}\n    environment: {{A: '{n}', B: x}}\n    deploy: {{replicas: 2}}\n"
        for n in range(300)
    )
    load(EVERY_KEY)
    start = time.process_time()
    load(EVERY_KEY)
    small = time.process_time() - start
    load(f"name: x\nservices:\n{services}")
    assert small < 0.05
    assert time.process_time() - start < 1
