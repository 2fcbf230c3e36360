from __future__ import annotations

import os
from pathlib import Path

import pytest
from stackd.gitops import snapshot
from stackd.gitops.directory import DirectoryTree
from stackd.gitops.snapshot import Reading, StackReader
from stackd.spec.load import LoadedStack
from stackd.spec.surroundings import Surroundings

from source_builders import a_stack_file, write

WITH_CONFIG = a_stack_file(extra="    configs: [motd]\nconfigs:\n  motd:\n    file: ./motd.txt\n")


def settle(root: Path) -> None:
    """Make everything look as if it had been written a while ago."""
    for path in (root, *root.rglob("*")):
        os.utime(path, (1_700_000_000, 1_700_000_000), follow_symlinks=False)


class Counted:
    """A reader that counts how often a stack file is parsed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parsed: list[str] = []
        original = snapshot.load_stack

        def counting(text: bytes, around: Surroundings) -> LoadedStack:
            self.parsed.append(around.file)
            return original(text, around)

        monkeypatch.setattr(snapshot, "load_stack", counting)
        # Whether a file has settled goes by the time of its last change of any kind, which can't be set back.
        monkeypatch.setattr("stackd.gitops.directory.UNSETTLED_NS", -(10**18))
        self.reader = StackReader({})

    def read(self, root: Path) -> Reading:
        self.parsed.clear()
        return self.reader.read(DirectoryTree(root), "source")


def read(root: Path, key: bytes = b"") -> Reading:
    return StackReader({"TAG": "7"}, key=key).read(DirectoryTree(root), "source")


def test_all_stacks_of_a_directory_are_read(tmp_path: Path) -> None:
    write(tmp_path, {"blog.yaml": a_stack_file(), "shop/stack.yaml": "name: store\n" + a_stack_file("app:${TAG}")})
    found = read(tmp_path)
    assert not found.problems
    assert [(stack.file, stack.spec.name) for stack in found.stacks] == [("blog.yaml", "blog"), ("shop/stack.yaml", "store")]
    assert found.stacks[1].spec.services[0].task.container.image == "app:7"


def test_every_problem_of_every_file_is_found_at_once(tmp_path: Path) -> None:
    write(tmp_path, {"a.yaml": "services: {web: {imaeg: x}}", "b.yaml": "services: [", "good.yaml": a_stack_file()})
    found = read(tmp_path)
    assert {problem.position.file for problem in found.problems if problem.position} == {"a.yaml", "b.yaml"}
    assert [stack.spec.name for stack in found.stacks] == ["good"]


def test_two_files_for_one_stack_are_a_problem(tmp_path: Path) -> None:
    write(tmp_path, {"shop.yaml": a_stack_file(), "shop/stack.yaml": a_stack_file()})
    found = read(tmp_path)
    assert [problem.code for problem in found.problems] == ["source.stack.duplicate"]
    assert "shop.yaml and shop/stack.yaml" in found.problems[0].message


def test_a_stack_file_above_the_limit_is_a_problem(tmp_path: Path) -> None:
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(1 << 40)
    assert [problem.code for problem in read(tmp_path).problems] == ["spec.limit.size"]


def test_a_link_to_nowhere_is_a_problem_and_not_a_deleted_stack(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").symlink_to("gone.yaml")
    problem = read(tmp_path).problems[0]
    assert problem.code == "spec.file.missing"
    assert problem.position is not None
    assert problem.position.file == "shop.yaml"


def test_only_what_changed_is_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {f"s{number}.yaml": a_stack_file() for number in range(20)})
    counted = Counted(monkeypatch)
    counted.read(tmp_path)
    assert len(counted.parsed) == 20
    write(tmp_path, {"s7.yaml": a_stack_file("app:2")})
    counted.read(tmp_path)
    assert counted.parsed == ["s7.yaml"]
    counted.read(tmp_path)
    assert counted.parsed == []


def test_a_stack_is_parsed_again_when_a_file_it_reads_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a.yaml": a_stack_file(), "b/stack.yaml": WITH_CONFIG, "b/motd.txt": "hello"})
    counted = Counted(monkeypatch)
    before = counted.read(tmp_path)
    write(tmp_path, {"b/motd.txt": "goodbye"})
    after = counted.read(tmp_path)
    assert counted.parsed == ["b/stack.yaml"]
    assert after.digest != before.digest


def test_a_missing_side_file_is_noticed_when_it_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"b.yaml": WITH_CONFIG})
    counted = Counted(monkeypatch)
    assert [problem.code for problem in counted.read(tmp_path).problems] == ["spec.file.missing"]
    counted.read(tmp_path)
    assert counted.parsed == []
    write(tmp_path, {"motd.txt": "hello"})
    assert not counted.read(tmp_path).problems


def test_variables_come_from_the_file_beside_the_stack_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a/stack.yaml": a_stack_file("app:${TAG:-none}"), "b/stack.yaml": a_stack_file("app:${TAG:-none}")})
    counted = Counted(monkeypatch)

    def images() -> list[str]:
        return [stack.spec.services[0].task.container.image for stack in counted.read(tmp_path).stacks]

    assert images() == ["app:none", "app:none"]
    write(tmp_path, {"a/.env": "TAG=1", ".env": "TAG=2"})
    assert images() == ["app:1", "app:none"]
    assert counted.parsed == ["a/stack.yaml"]


def test_a_problem_in_a_file_that_stacks_share_is_told_once(tmp_path: Path) -> None:
    write(tmp_path, {".env": "oops oops", "a.yaml": a_stack_file(), "b.yaml": a_stack_file()})
    assert [str(problem.position) for problem in read(tmp_path).problems] == [".env:1:1"]


def test_files_that_a_stack_is_made_of_stay_in_the_source(tmp_path: Path) -> None:
    write(tmp_path, {"outside.yml": a_stack_file(), "source/a/stack.yaml": "include: [../parts/db.yml, ../../outside.yml]"})
    write(tmp_path, {"source/parts/db.yml": "services: {db: {image: x, extends: {file: /x.yml, service: x}}}"})
    assert [(str(problem.position), problem.code) for problem in read(tmp_path / "source").problems] == [
        ("a/stack.yaml:1:28", "spec.file.escapes"),
        ("parts/db.yml:1:36", "spec.file.escapes"),
    ]


def test_a_file_that_was_just_written_is_read_again_at_the_next_look(tmp_path: Path) -> None:
    reader = StackReader({})
    write(tmp_path, {"a.yaml": a_stack_file("app:1")})
    first = reader.read(DirectoryTree(tmp_path), "source")
    stamp = (tmp_path / "a.yaml").stat()
    write(tmp_path, {"a.yaml": a_stack_file("app:2")})
    os.utime(tmp_path / "a.yaml", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert reader.read(DirectoryTree(tmp_path), "source").digest != first.digest


def test_the_digest_is_of_the_content_alone(tmp_path: Path) -> None:
    write(tmp_path, {"one/a.yaml": a_stack_file(), "two/a.yaml": a_stack_file(), "two/readme.md": "more"})
    settle(tmp_path / "two")
    assert read(tmp_path / "one").digest == read(tmp_path / "two").digest


def test_the_digest_depends_on_the_key_so_that_it_gives_away_no_secret(tmp_path: Path) -> None:
    write(tmp_path, {"a.yaml": a_stack_file()})
    assert read(tmp_path, b"one").digest != read(tmp_path, b"two").digest


def test_renaming_a_stack_changes_the_digest(tmp_path: Path) -> None:
    write(tmp_path, {"a.yaml": a_stack_file()})
    before = read(tmp_path).digest
    (tmp_path / "a.yaml").rename(tmp_path / "b.yaml")
    assert read(tmp_path).digest != before
