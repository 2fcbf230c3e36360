"""The grammar of placement constraints: `node.labels.disk == ssd`. Text to value, nothing else.

Whether a node satisfies a constraint is the scheduler's question (`engine/schedule/constraints.py`). A text that parses
here can be satisfied by some node: what SwarmKit accepts but can never match (an unknown key, a malformed address, a
role that doesn't exist) is an error, because whoever wrote it meant something else.
"""

from __future__ import annotations

import difflib
import enum
import ipaddress
import re
from dataclasses import dataclass

from stackd.base.errors import StackdError


class Attribute(enum.StrEnum):
    """What of a node a constraint looks at; the two kinds of label take the label's name after the dot."""

    NODE_ID = "node.id"
    HOSTNAME = "node.hostname"
    IP = "node.ip"
    ROLE = "node.role"
    PLATFORM_OS = "node.platform.os"
    PLATFORM_ARCH = "node.platform.arch"
    NODE_LABEL = "node.labels"
    ENGINE_LABEL = "engine.labels"


_LABELS = (Attribute.NODE_LABEL, Attribute.ENGINE_LABEL)
_ROLES = ("manager", "worker")

# SwarmKit's own expressions (semantics 12.4).
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9\-_.]+")
_VALUE = re.compile(r"[A-Za-z0-9:\-_\s.*()?+\[\]\\^$|/]+")


@dataclass(frozen=True, slots=True)
class Constraint:
    """One parsed constraint. `label` is the label's name for the two kinds of label, else "". `equal` is False for `!=`."""

    attribute: Attribute
    value: str
    equal: bool = True
    label: str = ""


def parse(text: str) -> Constraint:
    """The constraint that `text` spells; raises StackdError `spec.constraint.bad` (semantics 12.4)."""
    for operator in ("==", "!="):
        key, found, value = text.partition(operator)
        if found:
            return _build(text, key.strip(), operator == "==", value.strip())
    raise _bad(text, "it has no operator", "write it as KEY == VALUE or KEY != VALUE, as in node.labels.disk == ssd")


def canonical(text: str) -> str:
    """The constraint in one spelling, so that blanks don't replace tasks; "" if it is none."""
    try:
        parsed = parse(text)
    except StackdError:
        return ""
    key = f"{parsed.attribute}.{parsed.label}" if parsed.label else str(parsed.attribute)
    return f"{key} {'==' if parsed.equal else '!='} {parsed.value}"


def parse_spread(text: str) -> str:
    """The label to spread over that `text` names, as written; raises StackdError `spec.placement.bad`. SwarmKit ignores
    anything but labels without a word (semantics 12.5)."""
    if any(text.lower().startswith(f"{label}.") and len(text) > len(label) + 1 for label in _LABELS):
        return text
    hint = "write node.labels.NAME or engine.labels.NAME"
    raise StackdError("spec.placement.bad", f'"{text[:60]}" is not a label of nodes', hint=hint)


def _build(text: str, key: str, equal: bool, value: str) -> Constraint:
    if not _KEY.fullmatch(key):
        raise _bad(text, f'"{key}" is not a key', "a key is made of letters, digits and - _ . and begins with a letter or _")
    if not _VALUE.fullmatch(value):
        reason = f'"{value}" is not a value' if value else "it has no value"
        raise _bad(
            text, reason, "a value is compared as a whole, without quotes or commas; several constraints are several list items"
        )
    attribute, label = _attribute(text, key)
    _check_value(text, attribute, value)
    return Constraint(attribute=attribute, value=value, equal=equal, label=label)


def _attribute(text: str, key: str) -> tuple[Attribute, str]:
    """Keywords are case-insensitive, the name of a label is not."""
    lowered = key.lower()
    for attribute in _LABELS:
        prefix = f"{attribute}."
        if lowered.startswith(prefix) and len(key) > len(prefix):
            return attribute, key[len(prefix) :]
    for attribute in Attribute:
        if lowered == attribute and attribute not in _LABELS:
            return attribute, ""
    raise _bad(text, f'"{key}" is not something a node has', _did_you_mean(lowered))


def _did_you_mean(key: str) -> str:
    spellings = [f"{attribute}.NAME" if attribute in _LABELS else str(attribute) for attribute in Attribute]
    close = difflib.get_close_matches(key, spellings, n=1)
    return f"did you mean {close[0]}?" if close else f"the keys are {', '.join(spellings)}"


def _check_value(text: str, attribute: Attribute, value: str) -> None:
    if attribute is Attribute.ROLE and value.lower() not in _ROLES:
        raise _bad(text, f'there is no role "{value}"', "a role is manager or worker")
    if attribute is Attribute.IP:
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError as exc:
            raise _bad(text, f'"{value}" is neither an address nor a network', "write 10.0.0.7 or 10.0.0.0/24") from exc


def _bad(text: str, reason: str, hint: str) -> StackdError:
    return StackdError("spec.constraint.bad", f'constraint "{text}" makes no sense: {reason}', hint=hint)
