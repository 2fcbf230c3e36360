"""From the text of a stack file to what it means: the one entry to this package, and the only door to the YAML library.

    text -> events -> tree -> interpolated tree -> document (what is written) -> StackSpec (what is meant)

A stack of several files is put together from their documents (`assemble.py`).

Everything that is wrong is gathered on the way and raised at once as SpecErrors; only text that is no YAML ends it early.
Nothing here touches a disk: side files come through the `Files` that the caller hands in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from stackd.base.errors import Position, Problem, StackdError
from stackd.spec.assemble import assemble
from stackd.spec.document import StackDocument
from stackd.spec.dotenv import with_variable_files
from stackd.spec.nodes import Node, SourceText
from stackd.spec.problems import Problems
from stackd.spec.profiles import with_profiles
from stackd.spec.resolve.stack import resolve
from stackd.spec.sourcemap import SourceMap
from stackd.spec.stack import StackSpec
from stackd.spec.surroundings import FileText, Surroundings
from stackd.spec.tree import Event, Kind, build

MAX_BYTES = 2 * 1024 * 1024
"""A larger file is refused before it is parsed: nobody writes it by hand, and a watcher would parse it at every save."""

MAX_PURE_CHARACTERS = 128 * 1024
"""The parser in Python takes about a second for this much; a larger file has to put the quotes."""

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What YAML 1.2 (section 5.1) forbids in a file."""


@dataclass(frozen=True, slots=True)
class LoadedDocument:
    """What stack files say, whether or not it can be done. `around` has all variables; `problems` what was found so far."""

    document: StackDocument
    around: Surroundings
    sources: SourceMap
    problems: Problems
    side_files: frozenset[str]


@dataclass(frozen=True, slots=True)
class LoadedStack:
    """A stack that is right. `side_files` are all paths that were looked for, as seen from its file, for a watcher to
    know."""

    spec: StackSpec
    sources: SourceMap
    warnings: tuple[Problem, ...]
    file: str
    side_files: tuple[str, ...]


def load_stack(text: bytes, around: Surroundings, overrides: Sequence[FileText] = ()) -> LoadedStack:
    """What the stack file `text` means, with the files `overrides` put on top of it in their order; raises SpecErrors with
    everything that is wrong."""
    loaded = load_document(text, around, overrides)
    resolved = resolve(loaded.document, loaded.around, loaded.sources, loaded.problems)
    loaded.problems.raise_errors(with_warnings=True)
    side_files = tuple(sorted(loaded.side_files | resolved.side_files))
    return LoadedStack(resolved.spec, loaded.sources, loaded.problems.warnings(), around.file, side_files)


def load_document(text: bytes, around: Surroundings, overrides: Sequence[FileText] = ()) -> LoadedDocument:
    """What stack files say, in their long form; raises SpecErrors only where a text is no YAML. The arguments are those of
    `load_stack`."""
    problems = Problems()
    environment, looked_for = with_variable_files(around, problems)
    around = replace(around, environment=environment, variable_files=())
    assembled = assemble((FileText(text, around.file), *overrides), parse, around, problems)
    active = {*around.profiles, *filter(None, environment.get("COMPOSE_PROFILES", "").split(","))}
    document = with_profiles(assembled.document, active)
    return LoadedDocument(document, around, assembled.sources, problems, looked_for | assembled.side_files)


def parse(text: bytes, file: str, problems: Problems) -> Node:
    """The tree of the file; raises SpecErrors, with what was gathered before, where the text is no YAML."""
    try:
        source = SourceText(file, _decoded(text, file))
        _check_characters(source)
        try:
            return build(_events(source, pure=False), source, problems)
        except _ColonInFlowError:
            source = SourceText(file, source.text, yaml_1_2=True)
            return build(_events(source, pure=True), source, problems)
    except StackdError as error:
        problems.caught(error, Position(file))
        problems.raise_errors()
        raise


def _decoded(text: bytes, file: str) -> str:
    if len(text) > MAX_BYTES:
        message = f"the file has {len(text)} bytes; the limit is {MAX_BYTES}"
        raise StackdError("spec.limit.size", message, position=Position(file), hint="split it into several stacks")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        source = SourceText(file, text.decode("utf-8-sig", "replace"))
        place = _place(source, len(exc.object[: exc.start].decode()))
        raise StackdError("spec.yaml.encoding", "the file is not UTF-8", position=place, hint="save it as UTF-8") from exc


def _check_characters(source: SourceText) -> None:
    found = _UNPRINTABLE.search(source.text)
    if found is not None:
        message = f"the character U+{ord(found[0]):04X} can't stand in a stack file"
        hint = 'in double quotes it can be written as an escape, like "\\x1b"'
        raise StackdError("spec.yaml.character", message, position=_place(source, found.start()), hint=hint)


def _place(source: SourceText, index: int) -> Position:
    """Where the character at `index` stands."""
    before = (source.text[:index] + "|").splitlines()
    return source.position(len(before) - 1, len(before[-1]) - 1)


class _ColonInFlowError(Exception):
    """The C parser met a text such as `http://host` without quotes inside of brackets."""


def _events(source: SourceText, *, pure: bool) -> Iterator[Event]:
    """The scanner's events in our own form; raises StackdError where the text is no YAML.

    The C parser knows YAML 1.1, where a plain text inside of brackets can't hold a colon. In 1.2 it can, and stack files
    use it (`test: [CMD, curl, http://localhost]`), so such a file is read by the parser in Python, which is slower.
    """
    try:
        for event in YAML(typ="safe", pure=pure).parse(source.text):
            translated = _translated(event)
            if translated is not None:
                yield translated
    except MarkedYAMLError as exc:
        if not pure and exc.problem == "found unexpected ':'" and len(source.text) <= MAX_PURE_CHARACTERS:
            raise _ColonInFlowError from exc
        raise _syntax_error(exc, source) from exc
    except YAMLError as exc:
        raise StackdError("spec.yaml.syntax", f"this is no YAML: {exc}", position=source.position(0, 0)) from exc


def _translated(event: object) -> Event | None:
    """Our form of one event, None for those that mean nothing to us. The most frequent kinds are asked first."""
    match event:
        case ScalarEvent():
            return Event(Kind.SCALAR, *_span(event), event.anchor or "", _tag(event), event.value, not event.style)
        case MappingStartEvent():
            return Event(Kind.MAPPING, *_span(event), event.anchor or "", _tag(event))
        case MappingEndEvent() | SequenceEndEvent():
            return Event(Kind.END, *_span(event))
        case SequenceStartEvent():
            return Event(Kind.SEQUENCE, *_span(event), event.anchor or "", _tag(event))
        case AliasEvent():
            return Event(Kind.ALIAS, *_span(event), event.anchor)
        case DocumentStartEvent():
            return Event(Kind.DOCUMENT, *_span(event))
        case _:
            return None


def _span(event: Any) -> tuple[int, int, int, int]:
    start, end = event.start_mark, event.end_mark
    return start.line, start.column, end.line, end.column


def _tag(event: Any) -> str:
    """The tag as written, with YAML's own handle expanded; "" where there is none."""
    return str(event.tag) if event.tag else ""


_COMPARE = "compare the indentation with the lines above"
_SYNTAX = (
    ("mapping values are not allowed", 'no ": " can stand here', f"a value that holds one needs quotes; else {_COMPARE}"),
    ("cannot start any token", "no value begins so", "a value that begins with one of @ ` % needs quotes"),
    ("found unexpected ':'", "no colon can stand here", "a text that holds one needs quotes inside of brackets"),
    ("did not find expected key", "this line doesn't go on with what is above", _COMPARE),
    (
        "did not find expected '-' indicator",
        "this is no item of the list above",
        f"each item begins with a dash; else {_COMPARE}",
    ),
    ("could not find expected ':'", "a key has no colon", 'a key is followed by ": " and its value'),
    ("did not find expected ',' or", "a bracket isn't closed, or a comma is missing", None),
    ("unknown escape character", "there is no such escape", "write two backslashes, or use single quotes"),
)
"""What the scanner says, in words for whoever wrote the file, and what to do about it."""

_NO_BLANK = re.compile(r"( *(?:- )?)([A-Za-z_][\w.-]*:)\S[^#]*")
"""A line that looks like a key with its value, but for the blank between them."""


def _syntax_error(error: MarkedYAMLError, source: SourceText) -> StackdError:
    """What the scanner says, at the place where a person would look for it."""
    problem = error.problem or "this is no YAML"
    mark, context = error.problem_mark, error.context_mark
    tab = _tab_position(source, mark.line if mark else 0)
    if tab is not None and ("tab character" in problem or "cannot start any token" in problem):
        return StackdError("spec.yaml.tab", "a tab can't indent YAML", position=tab, hint="indent with spaces")
    if context is not None and "unexpected end of stream" in problem:
        return StackdError("spec.yaml.syntax", "the quote that opens here is never closed", position=_marked(source, context))
    if "mapping values are not allowed" in problem and (blank := _missing_blank(source, mark.line)) is not None:
        return blank
    said = next(((sentence, hint) for part, sentence, hint in _SYNTAX if part in problem), None)
    sentence, hint = said or (f"{error.context}: {problem}" if error.context else problem, None)
    return StackdError("spec.yaml.syntax", f"this is no YAML: {sentence}", position=_marked(source, mark), hint=hint)


def _missing_blank(source: SourceText, line: int) -> StackdError | None:
    """The fault of a line such as `image:nginx`, which the scanner finds only in the line after it."""
    found = _NO_BLANK.fullmatch(source.lines[line - 1]) if 0 < line < len(source.lines) else None
    if found is None:
        return None
    place = source.position(line - 1, len(found[1]), len(found[2]))
    return StackdError("spec.yaml.syntax", f'no blank follows "{found[2]}"', position=place, hint="put one before the value")


def _tab_position(source: SourceText, line: int) -> Position | None:
    """The first tab in the indentation of `line`."""
    text = source.lines[line] if line < len(source.lines) else ""
    column = text.find("\t", 0, len(text) - len(text.lstrip()))
    return source.position(line, column) if column >= 0 else None


def _marked(source: SourceText, mark: Any) -> Position:
    """The place of a scanner's mark; the end of the text is shown at its last line."""
    if mark is None or not source.lines:
        return source.position(0, 0)
    last = len(source.lines) - 1
    return source.position(mark.line, mark.column) if mark.line <= last else source.position(last, len(source.lines[last]))
