"""Side files held in memory keep the rules that every kind of `Files` keeps."""

from __future__ import annotations

import pytest
from stackd.base.errors import StackdError
from stackd.spec.files import MAX_FILE_BYTES, DictFiles, path_inside


@pytest.mark.parametrize("path", ["site.conf", "./site.conf", "a/../site.conf"])
def test_a_file_is_found_however_its_path_is_written(path: str) -> None:
    assert DictFiles({"./site.conf": b"x"}).read(path) == b"x"


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "..", "a\0b"])
def test_a_path_that_leads_out_of_the_folder_is_refused(path: str) -> None:
    with pytest.raises(StackdError) as caught:
        DictFiles({}).read(path)
    assert caught.value.code == "spec.file.escapes"


def test_a_path_inside_is_normalised() -> None:
    assert path_inside("./a//b/../c") == "a/c"


@pytest.mark.parametrize(("size", "code"), [(None, "spec.file.missing"), (MAX_FILE_BYTES + 1, "spec.file.too_large")])
def test_a_missing_or_too_large_file_is_refused(size: int | None, code: str) -> None:
    files = DictFiles({} if size is None else {"a": b"x" * size})
    with pytest.raises(StackdError) as caught:
        files.read("a")
    assert caught.value.code == code
