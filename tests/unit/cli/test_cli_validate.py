"""`validate` shows every problem of every file, and needs no daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli_runner import Stackd

GOOD = "services:\n  web:\n    image: nginx:1.25\n"
BAD = "services:\n  web:\n    image: nginx:1.25\n    deploy:\n      replcas: 3\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_right_files_end_with_0(stackd: Stackd, files: Path) -> None:
    (files / "shop.yaml").write_text(GOOD)
    ended = stackd("validate", "-f", "shop.yaml")
    assert (ended.code, ended.out) == (0, "1 file, no errors\n")
    assert stackd.control.hosts == []


def test_every_problem_of_every_file_is_shown(stackd: Stackd, files: Path) -> None:
    (files / "shop.yaml").write_text(BAD)
    (files / "blog.yaml").write_text(BAD)
    ended = stackd("validate", "-f", ".")
    assert ended.code == 1
    assert ended.out.splitlines()[:3] == [
        'blog.yaml:5:7: error[spec.key.unknown]: unknown key "replcas" under services.web.deploy',
        "   5 |       replcas: 3",
        '     |       ^^^^^^^  did you mean "replicas"?',
    ]
    assert ended.out.endswith("2 files, 2 errors\n")


def test_a_directory_is_searched_as_a_source_is(stackd: Stackd, files: Path) -> None:
    (files / "shop").mkdir()
    (files / "shop" / "stack.yaml").write_text(GOOD)
    (files / "shop" / "values.yaml").write_text("not a stack")
    assert stackd("validate", "-f", str(files)).out == "1 file, no errors\n"


def test_problems_name_the_file_as_it_was_given(stackd: Stackd, files: Path) -> None:
    (files / "shop").mkdir()
    (files / "shop" / "stack.yaml").write_text(BAD)
    assert stackd("validate", "-f", "shop").out.startswith("shop/stack.yaml:5:7: ")


def test_two_files_of_one_stack_are_a_problem(stackd: Stackd, files: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (files / name).write_text("name: shop\n" + GOOD)
    ended = stackd("validate", "-f", "a.yaml", "-f", "b.yaml")
    assert ended.code == 1
    assert 'b.yaml:1:7: error[source.stack.duplicate]: stack "shop" is described by two files' in ended.out


def test_json_lists_problems_with_their_places(stackd: Stackd, files: Path) -> None:
    (files / "shop.yaml").write_text(BAD)
    ended = stackd("validate", "-f", "shop.yaml", "-o", "json")
    document = json.loads(ended.out)
    assert (ended.code, document["kind"], document["files"], document["errors"]) == (1, "ValidationReport", 1, 1)
    (item,) = document["items"]
    assert (item["file"], item["line"], item["column"], item["code"]) == ("shop.yaml", 5, 7, "spec.key.unknown")


def test_the_github_form_marks_lines(stackd: Stackd, files: Path) -> None:
    (files / "shop.yaml").write_text(BAD)
    ended = stackd("validate", "-f", "shop.yaml", "-o", "github")
    assert ended.out == (
        "::error file=shop.yaml,line=5,col=7,title=spec.key.unknown::"
        'unknown key "replcas" under services.web.deploy (did you mean "replicas"?)\n'
    )
    assert ended.err == "1 file, 1 error\n"


def test_a_missing_file_is_a_problem_like_any_other(stackd: Stackd, files: Path) -> None:
    ended = stackd("validate", "-f", "nowhere.yaml")
    assert ended.code == 1
    assert "nowhere.yaml" in ended.out


def test_an_empty_directory_is_an_error(stackd: Stackd, files: Path) -> None:
    ended = stackd("validate", "-f", ".")
    assert ended.code == 1
    assert "cli.files.none" in ended.err


def test_a_name_goes_with_one_file_only(stackd: Stackd, files: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (files / name).write_text(GOOD)
    assert stackd("validate", "-f", ".", "-n", "shop").code == 64
    assert stackd("validate", "-f", "a.yaml", "-n", "shop").code == 0


def test_side_files_are_read_relative_to_the_stack_file(stackd: Stackd, files: Path) -> None:
    (files / "shop").mkdir()
    (files / "shop" / "page.html").write_text("hello")
    (files / "shop" / "stack.yaml").write_text(GOOD + "    configs: [page]\nconfigs: {page: {file: ./page.html}}\n")
    assert stackd("validate", "-f", "shop").code == 0
    (files / "shop" / "page.html").unlink()
    assert "spec.file.missing" in stackd("validate", "-f", "shop").out


def test_variables_come_from_the_environment(stackd: Stackd, files: Path) -> None:
    (files / "shop.yaml").write_text(GOOD.replace("1.25", "${TAG:?say which}"))
    assert stackd("validate", "-f", "shop.yaml").code == 1
    stackd.environment["TAG"] = "1.26"
    assert stackd("validate", "-f", "shop.yaml").code == 0


@pytest.mark.parametrize("example", ["agent", "broken-update", "hello", "web", "worker"])
def test_the_examples_are_right(stackd: Stackd, example: str) -> None:
    folder = Path(__file__).parents[3] / "examples" / "stacks" / example
    ended = stackd("validate", "-f", str(folder))
    assert ended.out == "1 file, no errors\n"
    assert (folder / "README.md").exists()


def test_problems_as_sarif_have_rules_and_regions(stackd: Stackd, files: Path) -> None:
    (files / "my shop.yaml").write_text(BAD)
    ended = stackd("validate", "-f", "my shop.yaml", "-n", "shop", "-o", "sarif")
    assert ended.code == 1
    log = json.loads(ended.out)
    assert log["version"] == "2.1.0"
    run = log["runs"][0]
    assert run["tool"]["driver"]["rules"] == [{"id": "spec.key.unknown"}]
    (result,) = run["results"]
    assert (result["ruleId"], result["ruleIndex"], result["level"]) == ("spec.key.unknown", 0, "error")
    assert result["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "my%20shop.yaml"},
                "region": {"startLine": 5, "startColumn": 7, "endColumn": 14},
            }
        }
    ]


def test_right_files_as_sarif_are_a_run_without_results(stackd: Stackd, files: Path) -> None:
    (files / "shop.yaml").write_text(GOOD)
    ended = stackd("validate", "-f", "shop.yaml", "-o", "sarif")
    assert ended.code == 0
    assert json.loads(ended.out)["runs"][0]["results"] == []
