"""`new` writes a stack that is right and never replaces one; `schema` prints what is shipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stackd.spec.schema import schema_text

from cli_runner import Stackd


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_new_stack_is_valid_and_names_its_schema(stackd: Stackd, folder: Path) -> None:
    ended = stackd("new", "shop")
    assert (ended.code, ended.out) == (0, "shop/stack.yaml\n")
    assert (folder / "shop/stack.yaml").read_text().startswith("# yaml-language-server: $schema=./stack.schema.json\n")
    assert (folder / "shop/stack.schema.json").read_text() == schema_text()
    assert stackd("validate", "-f", "shop").out == "1 file, no errors\n"


def test_a_new_stack_goes_where_it_is_told(stackd: Stackd, folder: Path) -> None:
    assert stackd("new", "shop", "--directory", "stacks/front").code == 0
    assert "name: shop\n" in (folder / "stacks/front/stack.yaml").read_text()


def test_a_file_that_is_there_is_kept(stackd: Stackd, folder: Path) -> None:
    (folder / "shop").mkdir()
    (folder / "shop/stack.yaml").write_text("mine")
    ended = stackd("new", "shop")
    assert ended.code == 3
    assert "error[cli.new.exists]: shop/stack.yaml exists already and is kept" in ended.err
    assert (folder / "shop/stack.yaml").read_text() == "mine"
    assert not (folder / "shop/stack.schema.json").exists()


def test_a_name_that_no_stack_can_have_is_refused(stackd: Stackd, folder: Path) -> None:
    ended = stackd("new", "Shop!")
    assert ended.code == 1
    assert "spec.name.bad" in ended.err
    assert list(folder.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(stackd: Stackd, folder: Path) -> None:
    (folder / "shop").write_text("a file")
    ended = stackd("new", "shop")
    assert ended.code == 1
    assert "error[cli.new.unwritable]: can't write shop/stack.yaml" in ended.err


def test_the_schema_is_printed_as_it_is_shipped(stackd: Stackd, folder: Path) -> None:
    ended = stackd("schema")
    assert ended.out == schema_text()
    assert json.loads(ended.out)["$schema"] == "http://json-schema.org/draft-07/schema#"
