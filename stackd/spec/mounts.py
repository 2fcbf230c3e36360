"""Volumes in their short form: `data:/var/lib/data:ro`, `./html:/usr/share/nginx/html`, `/var/cache`.

The source stays as it is written; `resolve.py` makes a path or a volume of it.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from stackd.base.errors import StackdError
from stackd.spec.nodes import shortened
from stackd.spec.shorthand import object_name
from stackd.spec.stack import Mount, MountType

_FORM = "the form is SOURCE:TARGET[:ro], such as data:/var/lib/data or ./html:/srv/html:ro"
_WINDOWS = re.compile(r"[A-Za-z]:\\.*")

# Options that change nothing on the systems that stackd runs on; whoever wrote them is told.
_WITHOUT_EFFECT = frozenset({"z", "Z", "cached", "delegated", "consistent"})
_PROPAGATION = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})


@dataclass(frozen=True, slots=True)
class ShortMount:
    """The mount, and those of its options that have no effect."""

    mount: Mount
    without_effect: tuple[str, ...] = ()


def short_mount(text: str) -> ShortMount:
    """The mount that `text` means; raises StackdError `spec.mount.*`."""
    if _WINDOWS.fullmatch(text):
        raise _bad(text, "is a path of Windows", "tasks run on Linux; write the path as it is there")
    parts = text.split(":")
    if len(parts) == 1:
        return ShortMount(Mount(type=MountType.VOLUME, target=mount_target(text)))
    source, target, options = parts[0], parts[1], ":".join(parts[2:])
    if not source or len(parts) > 3:
        raise _bad(text, "is not a volume", _FORM)
    kind = source_type(source)
    chosen = [option for option in options.split(",") if option]
    _check_options(text, chosen)
    mount = Mount(
        type=kind,
        source=source,
        target=mount_target(target),
        read_only="ro" in chosen,
        no_copy="nocopy" in chosen,
    )
    return ShortMount(mount, tuple(option for option in chosen if option in _WITHOUT_EFFECT))


def source_type(source: str) -> MountType:
    """A source that looks like a path is one; everything else names a volume."""
    if source.startswith((".", "/", "~")):
        return MountType.BIND
    object_name(source)
    return MountType.VOLUME


def mount_target(text: str) -> str:
    """The normalised place of a mount inside of a task."""
    if not text.startswith("/") or "\0" in text:
        raise _bad(text, "is not an absolute path inside of the task", "a target begins with /")
    normal = "/" + posixpath.normpath(text).lstrip("/")
    if normal == "/":
        raise _bad(text, "would cover everything inside of the task", "mount into a folder")
    return normal


def _check_options(text: str, chosen: list[str]) -> None:
    for option in chosen:
        if option in _PROPAGATION:
            raise StackdError("spec.value.unsupported", f'the volume option "{option}" is not supported yet', hint="remove it")
        if option not in _WITHOUT_EFFECT | {"ro", "rw", "nocopy"}:
            raise _bad(text, f'has an unknown option "{shortened(option)}"', "the options are ro, rw and nocopy")
    if {"ro", "rw"} <= set(chosen):
        raise _bad(text, "is both ro and rw", "keep one of them")


def _bad(text: str, reason: str, hint: str) -> StackdError:
    return StackdError("spec.mount.bad", f'"{shortened(text)}" {reason}', hint=hint)
