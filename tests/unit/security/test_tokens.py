"""Tokens are read back exactly, give one role, and show nothing."""

from __future__ import annotations

import hashlib

import pytest
from stackd.base.errors import StackdError
from stackd.engine.parts import Role
from stackd.security.tokens import JoinSecrets, JoinToken, base36, base36_digest, new_secret

DIGEST = base36_digest(hashlib.sha256(b"root").digest())


def test_a_token_is_read_back() -> None:
    token = JoinToken(DIGEST, new_secret())
    assert JoinToken.parse(f"  {token}\n") == token
    assert str(token).startswith("STKN-1-")
    assert len(str(token)) == len("STKN-1-") + 50 + 1 + 25


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: text + "a", lambda text: text.upper(), lambda _: ""])
def test_a_token_that_is_not_whole_is_refused(change: object) -> None:
    assert callable(change)
    with pytest.raises(StackdError) as caught:
        JoinToken.parse(change(str(JoinToken(DIGEST, new_secret()))))
    assert caught.value.code == "security.token.bad"


def test_a_token_of_a_newer_version_says_so() -> None:
    with pytest.raises(StackdError) as caught:
        JoinToken.parse(f"STKN-2-{DIGEST}-{new_secret()}")
    assert caught.value.code == "security.token.newer_version"


def test_a_secret_gives_its_own_role_only() -> None:
    secrets = JoinSecrets(worker=new_secret(), manager=new_secret())
    assert secrets.role_of(secrets.worker) is Role.WORKER
    assert secrets.role_of(secrets.manager) is Role.MANAGER
    for other in ("", new_secret(), secrets.worker[:-1], secrets.manager + "0", "é"):
        assert secrets.role_of(other) is None


def test_secrets_are_never_shown() -> None:
    token = JoinToken(DIGEST, new_secret())
    secrets = JoinSecrets(worker=new_secret(), manager=new_secret())
    assert token.secret not in repr(token)
    assert secrets.worker not in repr(secrets)
    assert secrets.manager not in repr(secrets)


def test_secrets_differ_and_have_one_length() -> None:
    many = {new_secret() for _ in range(100)}
    assert len(many) == 100
    assert {len(secret) for secret in many} == {25}


@pytest.mark.parametrize(("number", "text"), [(0, "0000"), (35, "000z"), (36, "0010"), (36**4 - 1, "zzzz")])
def test_base_36_counts_on_with_letters(number: int, text: str) -> None:
    assert base36(number, 4) == text
