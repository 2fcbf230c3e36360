"""Contexts: how a person reaches a cluster from elsewhere. A context is one file: where the managers are, and a certificate
with its key.

`stackd cluster ca user` makes it; `--context NAME` finds it in `$XDG_CONFIG_HOME/stackd/contexts/NAME.json`, and
`--context PATH` where it lies. Whoever has the file is that person for the cluster, so its owner alone may read it.

A *user token* is the same in one line, for where there are variables and no files: `STACKD_CONTEXT=STKU-1-...` in a CI job.
It is no other way in: it lives as long as its certificate, and counts until the user is removed.
"""

from __future__ import annotations

import base64
import os
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from stackd.api.secure import TlsMaterial
from stackd.api.views import API_VERSION
from stackd.base.errors import NotFound, StackdError
from stackd.base.time import Duration, Instant
from stackd.security.authority import BACKDATED_NS
from stackd.security.identity import read_certificate

KIND = "Context"

TOKEN_PREFIX = "STKU-1-"
TOKEN_MAX_BYTES = 64 * 1024
"""Of the context in a token: certificates and keys are a few KiB."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """`managers` are `HOST:PORT`; certificate, key and roots are PEM texts."""

    api_version: str = msgspec.field(name="apiVersion", default=API_VERSION)
    kind: str = KIND
    name: str
    role: str
    managers: tuple[str, ...]
    certificate: str
    key: str
    roots: str

    def __repr__(self) -> str:
        return f"Context(name={self.name!r}, role={self.role!r}, managers={self.managers!r})"

    def material(self, now: Instant) -> TlsMaterial:
        """What is shown and trusted. Raises StackdError("cli.context.expired") or ("security.certificate.bad")."""
        certificate = self.certificate.encode()
        if read_certificate(certificate).expired(now):
            hint = "ask an admin of the cluster for a new one: `stackd cluster ca user`"
            raise StackdError("cli.context.expired", f"the certificate of {self.name} has expired", hint=hint)
        return TlsMaterial(certificate, self.key.encode(), self.roots.encode())


def encode_context(context: Context) -> str:
    """The context as its file holds it."""
    return msgspec.json.format(msgspec.json.encode(context)).decode() + "\n"


def encode_token(context: Context) -> str:
    """The context as a user token."""
    return TOKEN_PREFIX + base64.urlsafe_b64encode(zlib.compress(msgspec.json.encode(context), 9)).decode().rstrip("=")


def is_token(name: str) -> bool:
    """Whether what was given as a context's name is a user token."""
    return name.startswith(TOKEN_PREFIX)


def load_context(name: str, environment: Mapping[str, str]) -> Context:
    """The context of that name, at that path, or in that token. Raises NotFound("cli.context.unknown"); StackdError with
    cli.context.open or cli.context.damaged."""
    return _of_token(name) if is_token(name) else read_context(context_path(name, environment))


def _of_token(token: str) -> Context:
    body = token.strip().removeprefix(TOKEN_PREFIX)
    unpack = zlib.decompressobj()
    try:
        content = unpack.decompress(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), TOKEN_MAX_BYTES)
        return _whole(msgspec.json.decode(content, type=Context), "the user token")
    except (ValueError, zlib.error, msgspec.DecodeError) as error:
        hint = "it is one long line, as `stackd cluster ca user NAME --role ROLE --token` prints it"
        raise StackdError("cli.context.damaged", "this is not a whole user token", hint=hint) from error


def read_context(path: Path) -> Context:
    """The context in that file. Raises as `load_context`."""
    try:
        with path.open("rb") as file:
            _check_mode(path, os.fstat(file.fileno()).st_mode)
            context = msgspec.json.decode(file.read(), type=Context)
    except OSError as error:
        hint = "`stackd cluster ca user NAME --role ROLE --out FILE` makes one"
        raise NotFound("cli.context.unknown", f"can't read the context {path}: {error.strerror}", hint=hint) from error
    except msgspec.DecodeError as error:
        raise StackdError("cli.context.damaged", f"{path} is no context: {error}") from error
    return _whole(context, str(path))


def _whole(context: Context, where: str) -> Context:
    if context.kind != KIND or not context.managers:
        raise StackdError("cli.context.damaged", f"{where} is no context: it names no manager")
    return context


def store_context(path: Path, context: Context) -> None:
    """Replace the context in that file, whole or not at all. Raises StackdError("cli.context.not_written")."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(encode_context(context))
        fresh.replace(path)
    except OSError as error:
        why = f"can't write {path}: {error.strerror or error}"
        raise StackdError("cli.context.not_written", why, hint="the context there is the one before") from error


def lifetime(certificate: bytes) -> Duration:
    """For how long a certificate (PEM) was issued. Raises StackdError("security.certificate.bad")."""
    presented = read_certificate(certificate)
    return Duration(presented.not_after - presented.not_before - BACKDATED_NS)


def context_path(name: str, environment: Mapping[str, str]) -> Path:
    """Where the context called `name` lies; a name with a slash is a path already."""
    if "/" in name:
        return Path(name)
    base = environment.get("XDG_CONFIG_HOME") or os.path.join(environment.get("HOME") or os.path.expanduser("~"), ".config")
    return Path(base) / "stackd" / "contexts" / f"{name}.json"


def _check_mode(path: Path, mode: int) -> None:
    if mode & 0o077:
        why = f"{path} holds a key, and others may read it (mode {stat.S_IMODE(mode):04o})"
        raise StackdError("cli.context.open", why, hint=f"chmod 600 {path}")
