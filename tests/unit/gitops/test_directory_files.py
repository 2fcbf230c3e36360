from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from stackd.base.errors import StackdError
from stackd.gitops.directory import DirectoryFiles, DirectoryTree
from stackd.spec.files import MAX_FILE_BYTES


def code_of(files: DirectoryFiles, path: str) -> str:
    with pytest.raises(StackdError) as caught:
        files.read(path)
    return caught.value.code


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside.env").write_text("SECRET=1")
    root = tmp_path / "source"
    (root / "shop").mkdir(parents=True)
    (root / "common.env").write_text("A=1")
    (root / "shop" / "web.env").write_text("B=2")
    return root


def test_side_files_are_read_from_the_folder_and_from_elsewhere_in_the_source(root: Path) -> None:
    files = DirectoryFiles(root, "shop")
    assert files.read("web.env") == b"B=2"
    assert files.read("./web.env") == b"B=2"
    assert files.read("../common.env") == b"A=1"


def test_relative_bind_mounts_start_from_the_stack_files_folder(root: Path) -> None:
    assert DirectoryFiles(root, "shop").directory == str(root / "shop")


@pytest.mark.parametrize("path", ["../../outside.env", "/etc/hostname", "link.env", "out/outside.env"])
def test_a_path_that_leads_out_of_the_source_is_refused(root: Path, path: str) -> None:
    (root / "shop" / "link.env").symlink_to(root.parent / "outside.env")
    (root / "shop" / "out").symlink_to(root.parent)
    assert code_of(DirectoryFiles(root, "shop"), path) == "spec.file.escapes"


def test_an_absolute_path_is_refused_even_within_the_source(root: Path) -> None:
    assert code_of(DirectoryFiles(root, "shop"), str(root / "common.env")) == "spec.file.escapes"


def test_a_link_within_the_source_is_followed(root: Path) -> None:
    (root / "shop" / "link.env").symlink_to("../common.env")
    assert DirectoryFiles(root, "shop").read("link.env") == b"A=1"


def test_the_folder_of_a_linked_stack_may_hold_its_side_files(root: Path) -> None:
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.env").write_text("X=1")
    (root / "linked").symlink_to(elsewhere)
    files = DirectoryFiles(root, "linked")
    assert files.read("x.env") == b"X=1"
    assert code_of(files, "../outside.env") == "spec.file.escapes"


def test_whoever_applies_their_own_files_may_name_any(root: Path) -> None:
    files = DirectoryFiles(root, "shop", confined=False)
    assert files.read("../../outside.env") == b"SECRET=1"
    assert files.read(str(root.parent / "outside.env")) == b"SECRET=1"


def test_what_is_no_readable_file_is_an_error_and_nothing_blocks(root: Path) -> None:
    os.mkfifo(root / "pipe")
    files = DirectoryFiles(root)
    assert code_of(files, "nothing") == "spec.file.missing"
    assert code_of(files, "common.env/x") == "spec.file.missing"
    assert code_of(files, "shop") == "spec.file.missing"
    assert code_of(files, "pipe") == "spec.file.missing"
    assert code_of(files, "a\0b") == "spec.file.missing"


def test_a_file_above_the_limit_is_not_read_to_its_end(root: Path) -> None:
    with (root / "huge").open("wb") as file:
        file.truncate(1 << 40)  # a hole: reading all of it would not end soon
    assert code_of(DirectoryFiles(root), "huge") == "spec.file.too_large"
    (root / "full").write_bytes(b"x" * MAX_FILE_BYTES)
    assert len(DirectoryFiles(root).read("full")) == MAX_FILE_BYTES


def test_a_fingerprint_is_only_given_for_files_that_have_settled(root: Path) -> None:
    files = DirectoryFiles(root)
    file = root / "common.env"
    file.write_text("A=2")
    assert files.fingerprint("common.env") is None
    deadline = time.monotonic() + 5
    while files.fingerprint("common.env") is None and time.monotonic() < deadline:
        time.sleep(0.01)
    settled = files.fingerprint("common.env")
    assert settled is not None
    assert files.fingerprint("common.env") == settled
    assert files.fingerprint("nothing") == files.fingerprint("nothing2")


def test_a_walk_finds_files_through_folders_and_links_but_no_folder_twice(root: Path) -> None:
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    for path in (root / "a.yaml", root / "shop" / "stack.yaml", elsewhere / "stack.yml", root / "readme.md"):
        path.write_text("services: {}")
    (root / "alias").symlink_to("shop")
    (root / "loop").symlink_to(".")
    (root / "linked").symlink_to(elsewhere)
    (root / "b.yaml").symlink_to(elsewhere / "stack.yml")
    (root / "dangling.yaml").symlink_to("nowhere")
    tree = DirectoryTree(root)
    assert sorted(tree.paths()) == ["a.yaml", "b.yaml", "dangling.yaml", "linked/stack.yml", "shop/stack.yaml"]
    assert str(elsewhere) in tree.linked_folders


def test_hidden_and_excluded_folders_are_not_walked(root: Path) -> None:
    for folder in (".git", "data"):
        (root / folder).mkdir()
        (root / folder / "stack.yaml").write_text("")
    assert DirectoryTree(root, exclude=(root / "data",)).paths() == []


def test_a_directory_that_is_not_there_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(StackdError) as caught:
        DirectoryTree(tmp_path / "gone").paths()
    assert caught.value.code == "source.unreadable"


def test_a_file_in_the_place_of_the_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackdError) as caught:
        DirectoryTree(tmp_path / "file").paths()
    assert caught.value.code == "source.unreadable"
