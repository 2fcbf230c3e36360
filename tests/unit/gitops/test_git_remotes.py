from __future__ import annotations

import pytest
from stackd.base.errors import StackdError
from stackd.gitops.remote import checked_path, checked_ref, checked_remote


@pytest.mark.parametrize(
    ("url", "protocol", "name"),
    [
        ("https://git.example/team/infra.git", "https", "infra"),
        ("ssh://git@git.example:2222/team/infra", "ssh", "infra"),
        ("git@git.example:team/infra.git", "ssh", "infra"),
        ("git.example:infra", "ssh", "infra"),
        ("http://127.0.0.1:8080/infra.git", "http", "infra"),
        ("git://localhost/infra.git/", "git", "infra"),
        ("file:///srv/git/infra.git", "file", "infra"),
        ("/srv/git/infra", "file", "infra"),
    ],
)
def test_usual_remotes_are_understood(url: str, protocol: str, name: str) -> None:
    remote = checked_remote(url, allow_local=True)
    assert (remote.protocol, remote.name) == (protocol, name)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "--upload-pack=touch /tmp/x",
        "-oProxyCommand=x:y",
        "ext::sh -c id",
        "fd::17",
        "ssh://-oProxyCommand=id/x",
        "http://git.example/infra.git",
        "git://git.example/infra.git",
        "ftp://git.example/infra.git",
        "https:///infra.git",
        "https://git.example/a\nb",
        " https://git.example/a",
        "https://[::1/infra.git",
        "file://elsewhere/infra",
    ],
)
def test_a_remote_that_could_run_or_reach_something_else_is_refused(url: str) -> None:
    with pytest.raises(StackdError) as caught:
        checked_remote(url, allow_local=True)
    assert caught.value.code == "source.url.bad"


@pytest.mark.parametrize("url", ["/srv/git/infra", "infra", "file:///srv/git/infra"])
def test_a_repository_on_this_host_needs_leave(url: str) -> None:
    with pytest.raises(StackdError) as caught:
        checked_remote(url, allow_local=False)
    assert caught.value.code == "source.url.bad"


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(StackdError) as caught:
        checked_remote("https://bot:hunter2@git.example/infra.git", allow_local=True)
    assert caught.value.code == "source.url.secret"
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("ref", ["", "main", "release/1.2", "v1.0", "refs/heads/main", "a" * 40])
def test_usual_refs_are_taken(ref: str) -> None:
    assert checked_ref(ref) == ref


@pytest.mark.parametrize("ref", ["-f", "a..b", "a b", "a:b", "main^", "x.lock", "a\n", "/a", "a/", "*", "@{u}"])
def test_a_ref_that_git_could_misread_is_refused(ref: str) -> None:
    with pytest.raises(StackdError) as caught:
        checked_ref(ref)
    assert caught.value.code == "source.ref.bad"


@pytest.mark.parametrize(("path", "normal"), [("", ""), (".", ""), ("deploy/", "deploy"), ("a/../b", "b"), ("./a/b", "a/b")])
def test_a_folder_is_normalised(path: str, normal: str) -> None:
    assert checked_path(path) == normal


@pytest.mark.parametrize("path", ["..", "/etc", "a/../../b"])
def test_a_folder_outside_of_the_repository_is_refused(path: str) -> None:
    with pytest.raises(StackdError) as caught:
        checked_path(path)
    assert caught.value.code == "source.path.bad"
