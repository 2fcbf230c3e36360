"""The short forms of the language, each from text to value: durations, sizes, CPU shares, commands, images, signals.

A parser knows nothing of files: it raises StackdError with a sentence about the text, and whoever calls it adds the place.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

from stackd.base.errors import StackdError
from stackd.base.time import HOUR, MILLISECOND, MINUTE, SECOND, Duration
from stackd.spec.nodes import shortened
from stackd.spec.stack import RestartCondition, RestartPolicy

_LONGEST = 40
"""Characters of a number with its unit; the largest 64-bit value needs half of it."""

_LARGEST = 2**63 - 1

_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"\+?(?:0|(?:{_DURATION_PART.pattern})+)")

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)i?b?", re.IGNORECASE)
_SIZE_POWERS = " kmgtp"

_CPUS = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")

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

_STACK_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SERVICE_NAME = re.compile(r"[a-zA-Z0-9]+(?:[-_]+[a-zA-Z0-9]+)*")
_OBJECT_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")
_HOSTNAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?")
MAX_NAME = 63
"""A name is used as a DNS label, which is no longer (RFC 1035 section 2.3.4)."""

MAX_OBJECT_NAME = 128
"""Volumes are folders on the node; with the stack's name before it a name still is a file name."""


def duration(text: str) -> Duration:
    """Nanoseconds of a text such as `1m30s` or `1.5h`: Go's grammar, as the official client has it, without negative ones."""
    if len(text) > _LONGEST or not _DURATION.fullmatch(text):
        raise StackdError("spec.duration.bad", f'"{shortened(text)}" is not a duration', hint=_duration_hint(text))
    parts = _DURATION_PART.findall(text)
    total = int(sum(Fraction(Decimal(number)) * _UNITS[unit] for number, unit in parts))
    if total > _LARGEST:
        raise StackdError("spec.duration.bad", f'"{text}" is more than 292 years')
    return Duration(total)


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
    size = int(Fraction(Decimal(number)) * 1024 ** _SIZE_POWERS.index(unit.lower() or " "))
    if size > _LARGEST:
        raise StackdError("spec.size.bad", f'"{text}" is more than any machine has')
    return size


def nano_cpus(text: str) -> int:
    """Billionths of a core of a text such as `0.5`; a finer fraction is refused, not rounded."""
    if len(text) > _LONGEST or not _CPUS.fullmatch(text):
        raise StackdError("spec.cpus.bad", f'"{shortened(text)}" is not a number of CPUs', hint="write it as 0.5 or 2")
    value = Fraction(Decimal(text)) * 10**9
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
    if text in ("always", "unless-stopped"):
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


def object_name(text: str) -> str:
    """`text` if a volume, config or secret can be called so."""
    if _OBJECT_NAME.fullmatch(text) and len(text) <= MAX_OBJECT_NAME:
        return text
    hint = f"use letters, digits, - _ and ., beginning with a letter or digit, at most {MAX_OBJECT_NAME} characters"
    raise StackdError("spec.name.bad", f'"{shortened(text)}" is not a name', hint=hint)


def hostname(text: str) -> str:
    """`text` if a task's host can be called so."""
    if "{{" in text:
        hint = "write a fixed name, or leave the key out"
        raise StackdError("spec.template.unsupported", "templates are not supported yet", hint=hint)
    if _HOSTNAME.fullmatch(text) and len(text) <= MAX_NAME:
        return text
    hint = f"use letters, digits, - and ., at most {MAX_NAME} characters"
    raise StackdError("spec.hostname.bad", f'"{shortened(text)}" is not a host name', hint=hint)


def absolute_path(text: str) -> str:
    """`text` if it is a full path inside of a task."""
    if text.startswith("/") and "\0" not in text:
        return text
    raise StackdError("spec.path.relative", f'"{shortened(text)}" is not an absolute path', hint="it begins with /")
