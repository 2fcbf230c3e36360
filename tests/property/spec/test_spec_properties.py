"""For any file: it means something or is refused with reasons at places in it; spelling doesn't change the meaning."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stackd.base.errors import SpecErrors
from stackd.cli.yamltext import yaml_text
from stackd.spec.digest import spec_digest
from stackd.spec.document import StackDocument
from stackd.spec.files import DictFiles
from stackd.spec.load import load_document, load_stack, parse
from stackd.spec.problems import Problems
from stackd.spec.render import render
from stackd.spec.surroundings import Surroundings

from schema_documents import damaged
from spec_builders import ENVIRONMENT, EVERY_KEY, FILE, FURTHER_KEYS, SIDE_FILES, as_yaml, load, plain, problems_of

TIMES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check_outcome(data: bytes) -> None:
    """The file is loaded, or refused with problems that all stand in it."""
    lines = data.decode("utf-8", "replace").splitlines() or [""]
    found = problems_of(data)
    assert len(found) <= 51
    for problem in found:
        assert problem.code.startswith("spec.")
        assert problem.message
        position = problem.position
        if position is not None and position.line:
            assert position.file == FILE
            assert position.line <= len(lines)
            assert 1 <= position.column <= len(lines[position.line - 1]) + 1


@TIMES
@given(st.binary(max_size=200))
@example(b"\xff\xfe\x00")
def test_any_bytes_are_loaded_or_refused(data: bytes) -> None:
    check_outcome(data)


@TIMES
@given(st.text(alphabet="ab:-?[]{},&*!|>'\"%@`#~<$ \t\n.0123456789éxyz\\", max_size=120))
@example("? ? [}")
@example("a: &b *b")
@example("!!map []")
@example("<<: [<<]")
def test_any_text_is_loaded_or_refused(text: str) -> None:
    check_outcome(text.encode())


PIECES = [
    "",
    " ",
    "\n",
    "\t",
    ":",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<: ",
    "!x ",
    "'",
    '"',
    "${",
    "$",
    "\0",
    "\\",
    "0",
    "-1",
    "~",
    "é",
    "x-",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    text = EVERY_KEY
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        text = text[:start] + draw(st.sampled_from(PIECES)) + text[end:]
    return text.encode()


@settings(TIMES, max_examples=300)
@given(mutated())
def test_a_good_file_with_damage_is_loaded_or_refused(data: bytes) -> None:
    check_outcome(data)


# Spelling


def shuffled(value: Any, draw: st.DrawFn) -> Any:
    if isinstance(value, dict):
        names = draw(st.permutations(list(value)))
        return {name: shuffled(value[name], draw) for name in names}
    return [shuffled(item, draw) for item in value] if isinstance(value, list) else value


@st.composite
def reordered(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file, and the same with its keys in another order."""
    text = draw(st.sampled_from([EVERY_KEY, FURTHER_KEYS]))
    return text, as_yaml(shuffled(plain(parse(text.encode(), FILE, Problems())), draw))


@settings(TIMES, max_examples=50)
@given(reordered())
def test_the_order_of_keys_never_changes_a_digest(texts: tuple[str, bytes]) -> None:
    expected, found = (load(text).spec for text in texts)
    assert found == expected
    digests = [spec_digest(service.task) for service in found.services]
    assert digests == [spec_digest(service.task) for service in expected.services]


# Documents


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """A file with every key, some of its values replaced, some keys removed, renamed or added."""
    root = parse(draw(st.sampled_from([EVERY_KEY, FURTHER_KEYS])).encode(), FILE, Problems())
    return draw(damaged(plain(root), draw(st.integers(1, 3))))


@TIMES
@given(documents())
def test_any_document_is_loaded_or_refused(document: Any) -> None:
    check_outcome(as_yaml(document))


# The long form


class LongFormFiles(DictFiles):
    """Side files that are named by their absolute paths, as the long form does."""

    def read(self, path: str) -> bytes:
        return super().read(path.removeprefix("/srv/shop/"))


def in_long_form(document: StackDocument) -> str:
    return yaml_text(render(document, "/srv/shop", ENVIRONMENT))


@settings(TIMES, max_examples=100)
@given(documents())
def test_the_long_form_of_a_file_means_the_same(document: Any) -> None:
    around = Surroundings(FILE, None, LongFormFiles(SIDE_FILES, directory="/srv/shop"), ENVIRONMENT)
    try:
        written = load_document(as_yaml(document), around)
        meant = load(as_yaml(document)).spec
    except SpecErrors:
        return
    text = in_long_form(written.document)
    if "$" in text:
        return  # the long form is not interpolated again, and doubles no dollar signs
    again = load_stack(text.encode(), around)
    assert again.spec == meant
    repeated = load_document(text.encode(), around)
    assert in_long_form(repeated.document) == text
