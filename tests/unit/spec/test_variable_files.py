"""Variables from `.env` and from files that are named in its place: how they are written, and what wins."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from stackd.base.errors import SpecErrors
from stackd.spec.dotenv import parse
from stackd.spec.files import DictFiles
from stackd.spec.load import LoadedStack, load_stack
from stackd.spec.problems import Problems
from stackd.spec.surroundings import FileText, Surroundings

OUTSIDE = {"HOME": "/home/ann", "SET": "outside"}


def read(text: str) -> dict[str, str]:
    problems = Problems()
    found = parse(FileText(text.encode(), "shop/.env"), OUTSIDE, problems)
    problems.raise_errors()
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"), ("A = b", "b"), ("A: b", "b"), ("  A=b  ", "b"), ("export A=b", "b"), ("A=", ""), ("A= # none", ""),
        ("A=b # a comment", "b"), ("A=b#c", "b#c"), ("A=#b", "#b"), ("A=b=c", "b=c"), ("A=two words", "two words"),
        ("A='b # c'", "b # c"), ('A="b # c" # d', "b # c"), ("A='${SET}'", "${SET}"), (r"A='it\'s'", "it's"),
        (r'A="a\tb\n\"c\" \\ \x"', 'a\tb\n"c" \\ \\x'), (r'A="\$SET"', "$SET"), (r"A='a\n'", r"a\n"), (r"A=a\n", r"a\n"),
        ("A=${SET}-$HOME", "outside-/home/ann"), ('A="${NO:-d}"', "d"), ("A=$$5", "$5"), ("B=1\nA=$B", "1"),
        ("SET=in\nA=$SET", "outside"), ("A=1\nA=2", "2"), ("A='one\ntwo'", "one\ntwo"), ('A="one\n  two"\nB=1', "one\n  two"),
        ("\ufeffA=b", "b"), ("A=b\r\nB=c", "b"), ("# A=c\n\n  # more\nA=b", "b"), ("A.b-c=1\nA=b", "b"),
    ],
)  # fmt: skip
def test_a_value_is_read_as_compose_reads_it(text: str, value: str) -> None:
    assert read(text)["A"] == value


def test_a_name_alone_sets_nothing() -> None:
    assert read("HOME\nA # only a note\nexport B") == {}


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("A=1\n =2", "shop/.env:2:2", "the line is no NAME=VALUE"),
        ("A=1\nno value here", "shop/.env:2:1", 'the line has no = after the name "no"'),
        ("A='1\nB=2", "shop/.env:1:1", 'the line opens a quote for "A" that is never closed'),
        ("B='1\n2'\nA='1' 2", "shop/.env:3:1", 'the line goes on after the quoted value of "A"'),
        ("A=1\nB=${A", "shop/.env:2:3", '"${A" is not an expression'),
        ("A='\n'\nB=x${NO:?say it}", "shop/.env:3:4", 'the variable "NO" must be set: say it'),
        ('A="\n\n  ${NO:?say it}"', "shop/.env:3:3", 'the variable "NO" must be set: say it'),
        ("A=\0", "shop/.env", "the file has a zero byte"),
    ],
)
def test_a_mistake_is_shown_at_its_place(text: str, place: str, message: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        read(text)
    (problem,) = caught.value.problems
    assert (str(problem.position), problem.message) == (place, message)


def test_a_file_that_is_no_text_is_refused() -> None:
    problems = Problems()
    assert parse(FileText(b"A=\xff", ".env"), {}, problems) == {}
    assert problems.codes == {"spec.env_file.bad"}


# What it is for

STACK = """\
services:
  web:
    image: nginx:${TAG:-none}
    environment: [COLOUR, SET]
  debug: {image: x, profiles: [debug]}
secrets: {key: {environment: COLOUR}}
"""


def load(
    files: Mapping[str, str], variable_files: tuple[FileText, ...] | None = None, environment: Mapping[str, str] = OUTSIDE
) -> LoadedStack:
    read = DictFiles({path: text.encode() for path, text in files.items()})
    return load_stack(STACK.encode(), Surroundings("shop/stack.yaml", None, read, environment, variable_files))


def test_the_file_beside_the_stack_file_sets_what_is_not_set_outside() -> None:
    spec = load({".env": "TAG=1.4\nCOLOUR=blue\nSET=inside"}).spec
    (web,) = spec.services
    assert web.task.container.image == "nginx:1.4"
    assert web.task.container.env == ("COLOUR=blue", "SET=outside")
    assert spec.secrets[0].data == b"blue"


def test_profiles_may_be_active_by_it() -> None:
    services = load({".env": "COLOUR=x\nCOMPOSE_PROFILES=other,debug"}).spec.services
    assert [service.name for service in services] == ["debug", "web"]


def test_files_that_are_named_take_its_place_and_later_ones_win() -> None:
    named = (FileText(b"TAG=1\nCOLOUR=red", "one.env"), FileText(b"TAG=$TAG.2", "two.env"))
    container = load({".env": "TAG=9\nSET=9"}, named).spec.services[0].task.container
    assert (container.image, container.env) == ("nginx:1.2", ("COLOUR=red", "SET=outside"))


def test_it_is_known_to_a_watcher_whether_or_not_it_is_there() -> None:
    assert ".env" in load({}, environment={"COLOUR": "x"}).side_files
    assert ".env" in load({".env": "COLOUR=x"}).side_files


def test_what_is_wrong_in_it_is_told_with_everything_else() -> None:
    with pytest.raises(SpecErrors) as caught:
        load({".env": "oops oops"})
    assert [(str(problem.position), problem.code) for problem in caught.value.problems] == [
        ("shop/.env:1:1", "spec.env_file.bad"),
        ("shop/stack.yaml:6:30", "spec.variable.required"),
    ]


def test_one_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(SpecErrors) as caught:
        load({".env": "A=1\n" * 300_000})
    assert caught.value.problems[0].code == "spec.file.too_large"
    assert str(caught.value.problems[0].position) == "shop/.env"


def test_a_large_file_is_read_in_one_pass() -> None:
    assert len(read("".join(f"V{number}='a\nb'\n" for number in range(40_000)))) == 40_000
