"""YAML that is printed is read back as the same data, by readers of YAML old and new."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from stackd.cli.yamltext import yaml_text
from stackd.spec.load import parse
from stackd.spec.nodes import plain
from stackd.spec.problems import Problems

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
SCALARS = TEXTS | st.integers(-(2**63), 2**64 - 1) | st.booleans() | st.none() | st.floats(allow_nan=False)
DOCUMENTS = st.dictionaries(
    TEXTS,
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)),
    min_size=1,
)


def old_reader() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)
    return yaml


@given(DOCUMENTS)
def test_what_is_printed_is_read_back(document: dict[str, Any]) -> None:
    assert plain(parse(yaml_text(document).encode(), "printed", Problems())) == document


@pytest.mark.parametrize(
    "text",
    ["yes", "No", "on", "y", "1", "1.5", "1e3", "0x1F", "1_000", "22:22", "2024-01-02", "~", "null", "", "-", "- a", "? b",
     ":", "a: b", "a #b", "#", "@a", "`", "%a", "&a", "*a", "!a", "{a", "[a", "|", ">", "'a", '"a', "a\nb", " a", "a ", "=",
     "<<", ".inf", "\x85", "\u2028", "\ufeff", "é", "😀", "---", "...", "True"],
)  # fmt: skip
def test_texts_that_look_like_something_else_stay_texts(text: str) -> None:
    written = yaml_text({"a": text, "b": [text]})
    assert old_reader().load(written) == {"a": text, "b": [text]}
    assert plain(parse(written.encode(), "printed", Problems())) == {"a": text, "b": [text]}


def test_it_is_written_as_people_write_it() -> None:
    document = {"services": {"web": {"command": ["a b", "--x=1"], "ports": [{"target": 80}, {"target": 81}], "none": {}}}}
    assert yaml_text(document) == (
        "services:\n  web:\n    command:\n      - a b\n      - --x=1\n    ports:\n      - target: 80\n      - target: 81\n"
        "    none: {}\n"
    )
