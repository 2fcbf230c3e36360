"""The short forms of the language, each from text to value: durations, sizes, CPU shares, commands, images, signals.

A parser knows nothing of files: it raises StackdError with a sentence about the text, and whoever calls it adds the place.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TypeVar

from stackd.base.errors import StackdError
from stackd.base.time import HOUR, MILLISECOND, MINUTE, SECOND, Duration
from stackd.spec.nodes import shortened
from stackd.spec.stack import Device, RestartCondition, RestartPolicy

T = TypeVar("T")

_LONGEST = 40
"""Characters of a number with its unit; the largest 64-bit value needs half of it."""

_LARGEST = 2**63 - 1

_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"\+?(?:0|(?:{_DURATION_PART.pattern})+)")

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)i?b?", re.IGNORECASE)
_SIZE_POWERS = " kmgtp"

_CPUS = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+|[0-9]+/0*[1-9][0-9]*")

_SIGNALS = (
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP"
    " TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ"
)
SIGNALS = frozenset(_SIGNALS.split())
"""Linux' signals without their prefix; real-time ones are written RTMIN+n or RTMAX-n."""

_REALTIME = re.compile(r"RTMIN(\+([0-9]|1[0-5]))?|RTMAX(-([0-9]|1[0-4]))?")
_LARGEST_SIGNAL = 64

# The reference grammar of container images: an optional registry, a path of lower-case names, a tag, a digest.
_DOMAIN_PART = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_IMAGE_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*(?::[0-9]+)?/)?{_IMAGE_NAME}(?:/{_IMAGE_NAME})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"
)
_IMAGE_LENGTH = 512
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")

_CAPABILITIES = (
    "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER"
    " FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE"
    " NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE"
    " SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM"
)
CAPABILITIES = frozenset(_CAPABILITIES.split())
"""Linux' capabilities without their prefix (capabilities(7))."""

_ULIMITS = "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"
ULIMITS = frozenset(_ULIMITS.split())
"""The resource limits that have a name in Docker (getrlimit(2))."""

_DEVICE_PERMISSIONS = re.compile(r"[rwm]{1,3}")

_TMPFS_DEFAULTS = frozenset({"rw", "noexec", "nosuid", "nodev"})
"""Options that a folder in memory has anyway."""


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """A folder in memory; 0 is the kernel's default."""

    path: str
    size_bytes: int
    mode: int


_STACK_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SERVICE_NAME = re.compile(r"[a-zA-Z0-9]+(?:[-_]+[a-zA-Z0-9]+)*")
_OBJECT_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")
_KEY = re.compile(r"[a-zA-Z0-9._-]+")
_HOSTNAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]*[a-zA-Z0-9])?")
MAX_NAME = 63
"""A name is used as a DNS label, which is no longer (RFC 1035 section 2.3.4)."""

MAX_OBJECT_NAME = 128
"""Volumes are folders on the node; with the stack's name before it a name still is a file name."""


def understood(parse: Callable[[str], T], text: str, default: T) -> T:
    """What `parse` makes of `text`, or `default` where that is empty or makes no sense, which was reported before."""
    try:
        return parse(text) if text else default
    except StackdError:
        return default


def duration(text: str) -> Duration:
    """Nanoseconds of a text such as `1m30s` or `1.5h`: Go's grammar, as the official client has it, without negative ones."""
    if len(text) > _LONGEST or not _DURATION.fullmatch(text):
        raise StackdError("spec.duration.bad", f'"{shortened(text)}" is not a duration', hint=_duration_hint(text))
    parts = _DURATION_PART.findall(text)
    total = sum(_exact(number, _UNITS[unit]) for number, unit in parts)
    if total > _LARGEST:
        raise StackdError("spec.duration.bad", f'"{text}" is more than 292 years')
    return Duration(total)


def _exact(number: str, unit: int) -> int:
    """`number` times `unit`, without its fraction. Most numbers are whole, and quick."""
    return int(number) * unit if number.isdecimal() else int(Fraction(Decimal(number)) * unit)


def _duration_hint(text: str) -> str:
    if text.startswith("-"):
        return "a duration can't be negative"
    if re.fullmatch(r"[0-9]{1,12}", text):
        return f'add a unit: "{text}s"'
    return "write numbers with units, such as 30s, 1m30s or 500ms"


def byte_size(text: str) -> int:
    """Bytes of a text such as `64M` or `1.5g`; units are powers of 1024."""
    found = _SIZE.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise StackdError(
            "spec.size.bad", f'"{shortened(text)}" is not a size', hint="write a number with k, m, g or t, such as 64M"
        )
    number, unit = found.groups()
    size = _exact(number, 1024 ** _SIZE_POWERS.index(unit.lower() or " "))
    if size > _LARGEST:
        raise StackdError("spec.size.bad", f'"{text}" is more than any machine has')
    return size


def nano_cpus(text: str) -> int:
    """Billionths of a core of a text such as `0.5` or `1/2`; a finer fraction is refused, not rounded."""
    if len(text) > _LONGEST or not _CPUS.fullmatch(text):
        raise StackdError("spec.cpus.bad", f'"{shortened(text)}" is not a number of CPUs', hint="write it as 0.5 or 2")
    value = Fraction(f"0{text}" if text.startswith(".") else text) * 10**9
    if value.denominator != 1 or value > _LARGEST:
        raise StackdError(
            "spec.cpus.bad", f'"{text}" CPUs can\'t be given exactly', hint="nine digits after the point are possible"
        )
    return int(value)


def command(text: str) -> tuple[str, ...]:
    """The words of a command line, split as the official client does (it uses google/shlex).

    Python's own shlex differs: it takes `#` inside of a word as a comment, and keeps backslashes inside of quotes.
    """
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    characters = iter(text)
    for character in characters:
        if quote:
            if character == quote:
                quote = ""
            elif character == "\\" and quote == '"':
                _append(word, _escaped(characters, text))
            else:
                _append(word, character)
        elif character in " \t\r\n":
            if word is not None:
                words.append("".join(word))
            word = None
        elif character == "#" and word is None:
            for skipped in characters:
                if skipped == "\n":
                    break
        else:
            word = [] if word is None else word
            if character in "\"'":
                quote = character
            else:
                word.append(_escaped(characters, text) if character == "\\" else character)
    if quote:
        hint = f"add the closing {quote}, or write the command as a list"
        raise StackdError("spec.command.bad", f'a quote is not closed in "{shortened(text)}"', hint=hint)
    return (*words, "".join(word)) if word is not None else tuple(words)


def _append(word: list[str] | None, character: str) -> None:
    assert word is not None  # a quote always opens within a word
    word.append(character)


def _escaped(characters: Iterator[str], text: str) -> str:
    character = next(characters, None)
    if character is None:
        raise StackdError("spec.command.bad", f'"{shortened(text)}" ends with a backslash', hint="double it if it is meant")
    return character


def image(text: str) -> str:
    """`text` if it can name an image."""
    if len(text) <= _IMAGE_LENGTH and _IMAGE.fullmatch(text):
        return text
    hint = "a reference looks like registry.example.com/team/app:1.4"
    if len(text) <= _IMAGE_LENGTH and _IMAGE.fullmatch(text.lower()):
        hint = f"names are in lower case: {text.lower()}"
    raise StackdError("spec.image.bad", f'"{shortened(text)}" is not an image reference', hint=hint)


def image_with_tag(text: str) -> str:
    """The image reference with the tag that it means where it has neither tag nor digest, and without the registry that
    everybody means: as Docker shows it. Raises as `image` does."""
    image(text)
    name = text.removeprefix("index.").removeprefix("docker.io/").removeprefix("library/")
    is_complete = "@" in name or ":" in name.rpartition("/")[2] or _IMAGE_ID.fullmatch(name)
    return name if is_complete else f"{name}:latest"


def signal(text: str) -> str:
    """`text` if it names a signal of Linux, with or without SIG, or is the number of one."""
    name = text.upper().removeprefix("SIG")
    if (
        name in SIGNALS
        or _REALTIME.fullmatch(name)
        or (name.isdecimal() and len(name) < 3 and 1 <= int(name) <= _LARGEST_SIGNAL)
    ):
        return text
    close = difflib.get_close_matches(name[:20], sorted(SIGNALS), n=1)
    raise StackdError(
        "spec.signal.bad", f'there is no signal "{shortened(text)}"', hint=f"did you mean SIG{close[0]}?" if close else None
    )


def restart(text: str) -> RestartPolicy | None:
    """The restart policy that a service's short `restart` key means to the official client; None leaves the default."""
    condition, _, attempts = text.partition(":")
    if condition == "on-failure" and (not attempts or re.fullmatch(r"[0-9]{1,9}", attempts)):
        return RestartPolicy(condition=RestartCondition.ON_FAILURE, max_attempts=int(attempts or 0))
    if condition in ("always", "unless-stopped") and re.fullmatch(r"[0-9]{0,9}", attempts):
        return RestartPolicy(condition=RestartCondition.ANY)
    if text in ("no", ""):
        return None
    hint = "it is no, always, unless-stopped, on-failure or on-failure:3"
    raise StackdError("spec.restart.bad", f'"{shortened(text)}" is not a restart policy', hint=hint)


def stack_name(text: str) -> str:
    """`text` if a stack can be called so."""
    if _STACK_NAME.fullmatch(text) and len(text) <= MAX_NAME:
        return text
    raise StackdError(
        "spec.name.bad",
        f'"{shortened(text)}" can\'t name a stack',
        hint=f"use lower-case letters, digits, - and _, beginning with a letter or digit, at most {MAX_NAME} characters",
    )


def service_name(text: str) -> str:
    """`text` if a service can be called so: swarm's rule, which makes each name a DNS name."""
    if _SERVICE_NAME.fullmatch(text):
        return text
    hint = "use letters, digits, - and _, beginning and ending with a letter or digit"
    raise StackdError("spec.name.bad", f'"{shortened(text)}" can\'t name a service', hint=hint)


def is_key(text: str) -> bool:
    """Whether `text` may be the key of a service or object at all, in the language as it is written."""
    return _KEY.fullmatch(text) is not None


def object_name(text: str) -> str:
    """`text` if a volume, config or secret can be called so."""
    if _OBJECT_NAME.fullmatch(text) and len(text) <= MAX_OBJECT_NAME:
        return text
    hint = f"use letters, digits, - _ and ., beginning with a letter or digit, at most {MAX_OBJECT_NAME} characters"
    raise StackdError("spec.name.bad", f'"{shortened(text)}" is not a name', hint=hint)


def hostname(text: str) -> str:
    """`text` if a task's host can be called so. A template is checked when its values are known."""
    if "{{" in text or (_HOSTNAME.fullmatch(text) and len(text) <= MAX_NAME):
        return text
    hint = f"use letters, digits, - _ and ., at most {MAX_NAME} characters"
    raise StackdError("spec.hostname.bad", f'"{shortened(text)}" is not a host name', hint=hint)


def absolute_path(text: str) -> str:
    """`text` if it is a full path inside of a task."""
    if text.startswith("/") and "\0" not in text:
        return text
    raise StackdError("spec.path.relative", f'"{shortened(text)}" is not an absolute path', hint="it begins with /")


def inner_path(text: str) -> str:
    """`text` if it is a path that stays inside of the folder it starts from."""
    normal = posixpath.normpath(text)
    if text.startswith("/") or normal == ".." or normal.startswith("../") or "\0" in text:
        raise StackdError(
            "spec.path.outside", f'"{shortened(text)}" leads out of the volume', hint="it is a folder inside of it"
        )
    return text


def tmpfs(text: str) -> Tmpfs:
    """A folder in memory from a text such as `/run:size=64m,mode=1770`. Other options of the kernel aren't supported."""
    path, _, options = text.partition(":")
    absolute_path(path)
    size, mode = 0, 0
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name == "size" and value:
            size = byte_size(value)
        elif name == "mode" and re.fullmatch(r"[0-7]{3,4}", value):
            mode = int(value, 8)
        elif option not in _TMPFS_DEFAULTS:
            hint = "the options are size and mode, as in /run:size=64m,mode=1770"
            raise StackdError("spec.tmpfs.bad", f'"{shortened(text)}" has an unknown option', hint=hint)
    return Tmpfs(path, size, mode)


def device(text: str) -> Device:
    """A device from a text such as `/dev/ttyUSB0:/dev/modem:rw`."""
    parts = text.split(":")
    source, target = parts[0], parts[1] if len(parts) > 1 else parts[0]
    permissions = parts[2] if len(parts) > 2 else "rwm"
    if len(parts) == 2 and _DEVICE_PERMISSIONS.fullmatch(parts[1]):
        target, permissions = source, parts[1]
    paths = source.startswith("/") and target.startswith("/")
    if len(parts) > 3 or not paths or not _DEVICE_PERMISSIONS.fullmatch(permissions):
        hint = "the form is SOURCE[:TARGET[:rwm]], such as /dev/ttyUSB0:/dev/modem:rw"
        raise StackdError("spec.device.bad", f'"{shortened(text)}" is not a device', hint=hint)
    return Device(source=source, target=target, permissions=permissions)


def capability_name(text: str) -> str:
    """The name of a capability as the kernel has it: `net_admin` is CAP_NET_ADMIN; ALL is all of them."""
    name = text.upper()
    return name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"


def capability(text: str) -> str:
    """`text` if there is such a capability, in any spelling."""
    name = capability_name(text).removeprefix("CAP_")
    if text.upper() == "ALL" or name in CAPABILITIES:
        return text
    close = difflib.get_close_matches(name[:40], sorted(CAPABILITIES), n=1)
    hint = f"did you mean {close[0]}?" if close else None
    raise StackdError("spec.capability.bad", f'there is no capability "{shortened(text)}"', hint=hint)


def platform(text: str) -> str:
    """`text` if it is `OS/ARCHITECTURE[/VARIANT]`, or one of the two."""
    if re.fullmatch(r"[a-z0-9]+(?:/[a-z0-9_]+){0,2}", text) and len(text) <= _LONGEST:
        return text
    raise StackdError("spec.platform.bad", f'"{shortened(text)}" is not a platform', hint="write it as linux/amd64")


def resource_kind(text: str) -> str:
    """`text` if a generic resource can be called so (semantics 27)."""
    if re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]{2,}", text) and text not in ("container", "attachment"):
        return text
    hint = "use at least three letters, digits, - _ or ., such as gpu"
    raise StackdError("spec.resources.generic", f'"{shortened(text)}" can\'t be a generic resource', hint=hint)
