"""What is sealed opens only with its key, purpose and place, and nothing that is shown of a key tells it."""

from __future__ import annotations

import pytest
from stackd.base.errors import StackdError
from stackd.base.ids import BlobDigest
from stackd.security.keys import Purpose, RootKey

KEY = RootKey(b"k" * 32)
OTHER = RootKey(b"o" * 32)


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
