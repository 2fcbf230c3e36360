"""The readers and the JSON schema take the same documents: for every place of the schema, and for whole documents.

What the schema refuses, the readers refuse, and what they refuse for its form, the schema refuses. Only the meaning is the
readers' alone: units, references, what fits with what.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from stackd.spec.interpolate import interpolate
from stackd.spec.load import parse
from stackd.spec.problems import Problems
from stackd.spec.read.stack import read_stack
from stackd.spec.schema import schema_text

from schema_documents import JUNK, Documents, damaged
from spec_builders import ENVIRONMENT, EVERY_KEY, FILE, FURTHER_KEYS, as_yaml, plain

SCHEMA: dict[str, Any] = json.loads(schema_text())
ORACLE = Draft7Validator(SCHEMA)
DOCUMENTS = Documents(SCHEMA)

FINER = frozenset({"spec.port.bad", "spec.external.conflict"})
"""Faults of form that are finer than a pattern: an address, a range of ports that runs backwards, settings of an external
object that say something."""

FAULTS_OF_MEANING = frozenset({"spec.value.choice"})
"""What the schema sees although the readers count it as meaning, since the official client copies such words unseen."""

TIMES = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def disagreement(document: Any) -> str:
    """What one refuses and the other takes; "" where they agree."""
    problems = Problems()
    root = parse(as_yaml(document), FILE, problems)
    interpolate(root, ENVIRONMENT, problems)
    assert not problems.codes
    read_stack(root, problems)
    read = plain(root)
    if ORACLE.is_valid(read):
        refused = (problems.form_is_wrong and not problems.codes & FINER) or problems.codes & FAULTS_OF_MEANING
        return f"only the readers refuse: {sorted(problems.codes)}" if refused else ""
    seen = [f"{error.json_path}: {error.message}" for error in ORACLE.iter_errors(read)] if not problems.codes else []
    return f"only the schema refuses: {seen}" if seen else ""


def test_the_readers_and_the_schema_agree_at_every_place_about_every_kind_of_value() -> None:
    found = {}
    for place in DOCUMENTS.places():
        for value in JUNK:
            if said := disagreement(place.wrap(value)):
                found[f"{place.path}: {value!r}"] = said
    assert found == {}


@st.composite
def allowed(draw: st.DrawFn) -> Any:
    """A document that is made of what the schema allows."""
    return draw(DOCUMENTS.values(SCHEMA))


@TIMES
@given(allowed())
def test_what_the_schema_allows_is_taken(document: Any) -> None:
    assert not disagreement(document)


@TIMES
@given(allowed().flatmap(lambda document: damaged(document, 2)))
def test_the_readers_and_the_schema_agree_about_what_is_nearly_right(document: Any) -> None:
    assert not disagreement(document)


@st.composite
def damaged_files(draw: st.DrawFn) -> Any:
    root = parse(draw(st.sampled_from([EVERY_KEY, FURTHER_KEYS])).encode(), FILE, Problems())
    return draw(damaged(plain(root), draw(st.integers(1, 3))))


@TIMES
@given(damaged_files())
def test_the_readers_and_the_schema_agree_about_files_with_every_key(document: Any) -> None:
    assert not disagreement(document)
