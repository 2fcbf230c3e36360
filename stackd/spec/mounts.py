"""Volumes in their short form: `data:/var/lib/data:ro`, `./html:/usr/share/nginx/html`, `/var/cache`.

The source stays as it is written; `resolve` makes a path or a volume of it.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from stackd.base.errors import StackdError
from stackd.spec.document import BindDocument, MountDocument, VolumeOptionsDocument
from stackd.spec.nodes import shortened
from stackd.spec.stack import MountType

_FORM = "the form is SOURCE:TARGET[:ro], such as data:/var/lib/data or ./html:/srv/html:ro"

PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")

# Options that change nothing on the systems that stackd runs on; whoever wrote them is told.
_WITHOUT_EFFECT = frozenset({"z", "Z", "cached", "delegated", "consistent"})
_OPTIONS = frozenset({"ro", "rw", "nocopy", *PROPAGATION}) | _WITHOUT_EFFECT


@dataclass(frozen=True, slots=True)
class ShortMount:
    """The mount, those of its options that have no effect, and those that don't exist."""

    mount: MountDocument
    without_effect: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def short_mount(text: str) -> ShortMount:
    """The mount that `text` means, as the official client reads it; raises StackdError `spec.mount.bad`."""
    parts = _parts(text)
    if not text or not all(parts) or len(parts) > 3:
        raise _bad(text, "is not a volume", _FORM)
    if len(parts) == 1:
        return ShortMount(MountDocument(type=MountType.VOLUME, target=text))
    chosen = parts[2].split(",") if len(parts) == 3 else []
    propagation = next((option for option in reversed(chosen) if option in PROPAGATION), "")
    access = next((option for option in reversed(chosen) if option in ("ro", "rw")), "rw")
    mount = MountDocument(
        type=source_type(parts[0]),
        source=parts[0],
        target=parts[1],
        read_only=access == "ro",
        bind=BindDocument(propagation=propagation) if propagation else None,
        volume=VolumeOptionsDocument(nocopy=True) if "nocopy" in chosen else None,
    )
    without_effect = tuple(option for option in chosen if option in _WITHOUT_EFFECT)
    return ShortMount(mount, without_effect, tuple(option for option in chosen if option not in _OPTIONS))


def _parts(text: str) -> list[str]:
    """The parts between colons. The colon after the letter of a Windows drive ends none."""
    parts: list[str] = []
    pieces = text.split(":") if len(text) > 2 else [text]
    for piece in pieces:
        if parts and len(parts[-1]) == 1 and parts[-1].isalpha():
            parts[-1] += f":{piece}"
        else:
            parts.append(piece)
    return parts


def source_type(source: str) -> MountType:
    """A source that looks like a path is one; everything else names a volume."""
    is_path = source.startswith((".", "/", "~", "\\\\")) or is_windows_path(source)
    return MountType.BIND if is_path else MountType.VOLUME


def is_windows_path(text: str) -> bool:
    return len(text) > 1 and text[0].isalpha() and text[1] == ":"


def mount_target(text: str) -> str:
    """The normalised place of a mount inside of a task; raises StackdError `spec.mount.bad`."""
    if is_windows_path(text) or text.startswith("\\"):
        raise _bad(text, "is a path of Windows", "tasks run on Linux; write the path as it is there")
    if not text.startswith("/") or "\0" in text:
        raise _bad(text, "is not an absolute path inside of the task", "a target begins with /")
    normal = "/" + posixpath.normpath(text).lstrip("/")
    if normal == "/":
        raise _bad(text, "would cover everything inside of the task", "mount into a folder")
    return normal


def _bad(text: str, reason: str, hint: str) -> StackdError:
    return StackdError("spec.mount.bad", f'"{shortened(text)}" {reason}', hint=hint)
