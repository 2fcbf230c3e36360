"""What may be handed to git as a remote, a ref or a folder. Pure checks, made before any process is started.

A URL decides which program git runs, so only forms whose meaning is known pass: https and ssh, and repositories on this
host. No plain http or git (whoever sits between would decide what runs here), except to this host itself; no `ext::` or
other remote helpers; nothing that could be read as an option.
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from stackd.base.errors import StackdError
from stackd.spec.files import path_inside

_SCP = re.compile(r"(?:[A-Za-z0-9._-]+@)?(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):(?!:)(?P<path>.+)")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_FORMS = "https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH, or the path of a repository on this host"
_BAD_IN_REF = re.compile(r"\.\.|@\{|[\x00-\x20\x7f~^:?*\[\\]|//|\.lock(?:/|$)")


@dataclass(frozen=True, slots=True)
class Remote:
    """A checked remote. `protocol` is git's word for how it is reached."""

    url: str
    protocol: str

    @property
    def name(self) -> str:
        """What the repository is called."""
        return re.split(r"[/:]", self.url.rstrip("/"))[-1].removesuffix(".git")

    def local_directories(self) -> tuple[str, ...]:
        """The repository's folders if it lies on this host: its owner may be another user, who was named on purpose."""
        if self.protocol != "file":
            return ()
        path = self.url.removeprefix("file://").rstrip("/")
        return path, posixpath.join(path, ".git")


def checked_remote(url: str, *, allow_local: bool) -> Remote:
    """`url` as a Remote; raises StackdError `source.url.bad`. `allow_local` admits paths and file:// URLs, which only a
    person on this host may name."""
    if not url or url.startswith("-") or not url.isprintable() or url != url.strip():
        raise _bad(url, "it is no URL")
    if re.match(r"[A-Za-z0-9+.-]+::", url):
        raise _bad(url, "remote helpers run programs and are not supported")
    if "://" in url:
        return _from_url(url, allow_local)
    scp = _SCP.fullmatch(url)
    if scp and "/" not in url[: url.index(":")]:
        return Remote(url, "ssh") if not scp["host"].startswith("-") else _refuse(url)
    if not allow_local:
        raise _bad(url, "a path on this host can't be a source here")
    return Remote(os.path.abspath(url), "file")


def _from_url(url: str, allow_local: bool) -> Remote:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as exc:
        raise _bad(url, str(exc)) from exc
    if parts.password is not None:
        # Before anything quotes it: the URL is shown in the status and in the list of processes.
        raise StackdError(
            "source.url.secret",
            f"the URL of the source on {host} holds a password",
            hint="leave it out and set GIT_ASKPASS in the daemon's environment to a program that prints it",
        )
    if host.startswith("-"):
        raise _bad(url, "it is no URL")
    match parts.scheme:
        case "https" | "ssh" if host:
            return Remote(url, parts.scheme)
        case "http" | "git" if host in _LOOPBACK:
            return Remote(url, parts.scheme)
        case "http" | "git":
            raise _bad(url, f"{parts.scheme} is neither encrypted nor authenticated")
        case "file" if allow_local and not host:
            return Remote(url, "file")
        case _:
            raise _bad(url, f'"{parts.scheme}" is not a way to reach a source here')


def _refuse(url: str) -> Remote:
    raise _bad(url, "it is no URL")


def checked_ref(ref: str) -> str:
    """`ref` if it may name a branch, a tag or a commit ("" is the remote's own choice); raises StackdError
    `source.ref.bad` (the rules of git-check-ref-format)."""
    if ref.startswith(("-", "/", ".")) or ref.endswith(("/", ".")) or _BAD_IN_REF.search(ref):
        raise StackdError("source.ref.bad", f'"{ref}" can\'t be a branch, a tag or a commit')
    return ref


def checked_path(path: str) -> str:
    """`path` as the folder of a repository to read, "" for all of it; raises StackdError `source.path.bad`."""
    try:
        normal = path_inside(path or ".")
    except StackdError as exc:
        raise StackdError("source.path.bad", f'"{path}" lies outside of the repository') from exc
    return "" if normal == "." else normal


def _bad(url: str, reason: str) -> StackdError:
    return StackdError("source.url.bad", f'"{url}" can\'t be a source: {reason}', hint=f"write {_FORMS}")
