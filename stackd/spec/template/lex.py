"""Cuts a template into plain text and the tokens of its actions (Go's text/template/parse/lex.go, without `define`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LEFT, RIGHT = "{{", "}}"
_SPACE = " \t\r\n"


class TemplateError(Exception):
    """The template can't be read, or can't be filled in; the text is a sentence that begins with "template:"."""

    def __init__(self, text: str) -> None:
        super().__init__("template: " + text)


@dataclass(frozen=True, slots=True)
class Text:
    """What stands outside of actions."""

    text: str


@dataclass(frozen=True, slots=True)
class Token:
    """One word of an action. `kind` is a group of `_TOKEN`; `glued` when no space separates it from the one before."""

    kind: str
    text: str
    glued: bool


@dataclass(frozen=True, slots=True)
class Action:
    """What stands between the delimiters, in words; `text` is how it was written."""

    text: str
    tokens: tuple[Token, ...]


_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | (?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
    | (?P<number>[+-]?\d+(?:\.\d+)?\b)
    | (?P<field>\.[A-Za-z_]\w*)
    | (?P<variable>\$\w*)
    | (?P<name>[A-Za-z_]\w*)
    | (?P<dot>\.)
    | (?P<declare>:=|=)
    | (?P<pipe>\|)
    | (?P<comma>,)
    | (?P<open>\()
    | (?P<close>\))
    """,
    re.VERBOSE,
)


def pieces(template: str) -> Iterator[Text | Action]:
    """The template's pieces in order; comments are left out, and the spaces that `{{-` and `-}}` take away."""
    position, trim = 0, False
    while True:
        start = template.find(LEFT, position)
        text = template[position:] if start < 0 else template[position:start]
        if trim:
            text = text.lstrip(_SPACE)
        if start < 0:
            if text:
                yield Text(text)
            return
        inner, position = _inside(template, start + len(LEFT))
        if _trims_before(inner):
            text, inner = text.rstrip(_SPACE), inner[1:]
        trim = inner.endswith("-") and inner[-2:-1] in tuple(_SPACE)
        if trim:
            inner = inner[:-1]
        if text:
            yield Text(text)
        if not _is_comment(inner):
            yield Action(inner.strip(_SPACE), tuple(_tokens(inner)))


def _inside(template: str, start: int) -> tuple[str, int]:
    """The inside of the action that begins at `start`, and where the text goes on. Quotes and comments may hold braces."""
    comment = re.compile(r"(?:-[ \t\r\n])?[ \t\r\n]*/\*").match(template, start)
    position = start
    if comment:
        position = template.find("*/", comment.end())
        if position < 0:
            raise TemplateError("unclosed comment")
    while not template.startswith(RIGHT, position):
        if position >= len(template):
            raise TemplateError("unclosed action")
        quoted = _TOKEN.match(template, position) if template[position] in '"`' else None
        position = quoted.end() if quoted else position + 1
    return template[start:position], position + len(RIGHT)


def _trims_before(inner: str) -> bool:
    return inner.startswith("-") and inner[1:2] in tuple(_SPACE)


def _is_comment(inner: str) -> bool:
    return inner.strip(_SPACE).startswith("/*")


def _tokens(inner: str) -> Iterator[Token]:
    position, glued = 0, False
    while position < len(inner):
        found = _TOKEN.match(inner, position)
        if found is None or found.lastgroup is None:
            raise TemplateError(f"unexpected {inner[position]!r} in {{{{{inner}}}}}")
        if found.lastgroup == "space":
            glued = False
        else:
            yield Token(found.lastgroup, found[0], glued)
            glued = True
        position = found.end()
