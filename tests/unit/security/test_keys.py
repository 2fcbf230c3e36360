"""Key files are whole, private and never replaced; what is sealed opens only with its key, purpose and place."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from stackd.base.errors import StackdError
from stackd.base.ids import BlobDigest
from stackd.security.keys import Purpose, RootKey, create_key, load_key

KEY = RootKey(b"k" * 32)
OTHER = RootKey(b"o" * 32)


def code_of_loading(path: Path) -> str:
    with pytest.raises(StackdError) as refused:
        load_key(path)
    return refused.value.code


def test_a_created_key_is_loaded_again_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data.key"
    created = create_key(path)
    assert load_key(path).key_id == created.key_id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["data.key"]


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "data.key"
    first = create_key(path)
    with pytest.raises(StackdError) as refused:
        create_key(path)
    assert refused.value.code == "security.key.exists"
    assert load_key(path).key_id == first.key_id
    assert os.listdir(tmp_path) == ["data.key"]


def test_a_key_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StackdError) as refused:
        create_key(tmp_path / "missing" / "data.key")
    assert refused.value.code == "security.key.not_written"


def test_a_missing_key_has_its_own_error(tmp_path: Path) -> None:
    assert code_of_loading(tmp_path / "data.key") == "security.key.missing"


def test_a_key_open_to_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.key"
    create_key(path)
    path.chmod(0o640)
    assert code_of_loading(path) == "security.key.wrong_mode"


def test_a_link_in_place_of_a_key_is_refused(tmp_path: Path) -> None:
    create_key(tmp_path / "real.key")
    (tmp_path / "data.key").symlink_to(tmp_path / "real.key")
    assert code_of_loading(tmp_path / "data.key") == "security.key.unreadable"


def test_a_damaged_key_is_refused_whichever_byte_is_damaged_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "data.key"
    create_key(path)
    whole = path.read_bytes().removesuffix(b"\n")
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert code_of_loading(path) == "security.key.damaged"
        path.write_bytes(whole[:at])
        assert code_of_loading(path) == "security.key.damaged"


def test_a_key_of_a_newer_version_is_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / "data.key"
    create_key(path)
    path.write_bytes(path.read_bytes().replace(b"stackd-key:1:", b"stackd-key:20:"))
    assert code_of_loading(path) == "security.key.newer_version"


def test_what_was_sealed_is_opened() -> None:
    sealer = KEY.sealer(Purpose.LOG)
    for data in (b"", b"x", b"x" * 100_000):
        assert KEY.sealer(Purpose.LOG).open(sealer.seal(data, b"place"), b"place") == data


@pytest.mark.parametrize(
    ("opener", "place"),
    [(OTHER.sealer(Purpose.LOG), b"place"), (KEY.sealer(Purpose.BLOB), b"place"), (KEY.sealer(Purpose.LOG), b"elsewhere")],
    ids=["another key", "another purpose", "another place"],
)
def test_nothing_else_opens_what_was_sealed(opener: object, place: bytes) -> None:
    sealed = KEY.sealer(Purpose.LOG).seal(b"data", b"place")
    with pytest.raises(StackdError) as refused:
        opener.open(sealed, place)  # type: ignore[attr-defined]
    assert refused.value.code == "security.seal.broken"


def test_a_sealed_text_that_was_changed_or_cut_is_not_opened() -> None:
    sealer = KEY.sealer(Purpose.LOG)
    sealed = sealer.seal(b"data", b"place")
    changed = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    for broken in [*changed, *(sealed[:size] for size in range(len(sealed)))]:
        with pytest.raises(StackdError) as refused:
            sealer.open(broken, b"place")
        assert refused.value.code == "security.seal.broken"


def test_no_nonce_is_used_twice() -> None:
    sealer = KEY.sealer(Purpose.LOG)
    assert len({sealer.seal(b"same", b"")[:12] for _ in range(10_000)}) == 10_000


def test_the_name_of_a_secret_depends_on_its_content_and_on_the_key_alone() -> None:
    name = KEY.name_secret(b"hunter2")
    assert name == RootKey(b"k" * 32).name_secret(b"hunter2")
    assert name != KEY.name_secret(b"hunter3")
    assert name != OTHER.name_secret(b"hunter2")
    assert len(name) == 32


def test_a_sealed_blob_opens_only_under_its_own_name() -> None:
    sealed = KEY.seal_blob(b"hunter2", BlobDigest("a" * 32))
    assert KEY.open_blob(sealed, BlobDigest("a" * 32)) == b"hunter2"
    with pytest.raises(StackdError):
        KEY.open_blob(sealed, BlobDigest("b" * 32))


def test_nothing_shown_of_a_key_tells_the_key() -> None:
    key = RootKey(b"secretsecretsecretsecretsecretse")
    assert "secret" not in f"{key!r} {key.key_id} {key.sealer(Purpose.LOG).key_id} {vars(key.sealer(Purpose.LOG))}"
