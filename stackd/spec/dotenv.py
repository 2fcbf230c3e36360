"""The file `.env` and its like: variables for the expressions in a stack file, as Compose reads them.

    NAME=value  # a comment        a value ends before a blank with a #
    NAME="a ${OTHER}\\n"            double quotes know \\n \\r \\t \\\\ \\" \\$, and may hold several lines
    NAME='as it is'                single quotes know nothing but \\'
    export NAME: value             the same as the first

Expressions are replaced, except in single quotes. What is set outside wins, then what stands further up. These aren't the
files that `env_file` names, whose values are taken literally (`environment.py`).
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping

from stackd.base.errors import Position, StackdError
from stackd.spec.interpolate import Interpolation
from stackd.spec.nodes import Scalar, SourceText, shortened
from stackd.spec.problems import Problems
from stackd.spec.surroundings import FileText, Surroundings

VARIABLES_FILE = ".env"

_NOTHING = re.compile(r"[ \t]*(?:#.*)?")
_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)[ \t]*")
_COMMENT = re.compile(r"[ \t]#.*")
_QUOTED = {
    '"': re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL),
    "'": re.compile(r"'([^'\\]*(?:\\.[^'\\]*)*)'", re.DOTALL),
}
_ESCAPE = re.compile(r'\\([nrt\\"$])')
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "$": "$$"}
"""`$$` because expressions are replaced afterwards."""


def with_variable_files(around: Surroundings, problems: Problems) -> tuple[Mapping[str, str], frozenset[str]]:
    """The environment of `around` with what its variable files add, and the paths that were looked for in the project's
    folder. What is wrong with a file goes to `problems`."""
    found: dict[str, str] = {}
    texts, looked_for = _texts(around, problems)
    for text in texts:
        found |= parse(text, ChainMap(dict(around.environment), found), problems)
    return {**found, **around.environment}, looked_for


def parse(text: FileText, environment: Mapping[str, str], problems: Problems) -> dict[str, str]:
    """The variables that the file sets, those in `environment` included."""
    try:
        source = SourceText(text.file, "\n".join(text.text.decode("utf-8-sig").splitlines()))
    except UnicodeDecodeError:
        problems.error("spec.env_file.bad", "the file is not UTF-8", Position(text.file), "save it as UTF-8")
        return {}
    if "\0" in source.text:
        problems.error("spec.env_file.bad", "the file has a zero byte", Position(text.file), "no program could be given it")
        return {}
    return _Reader(source, environment, problems).read()


def _texts(around: Surroundings, problems: Problems) -> tuple[list[FileText], frozenset[str]]:
    if around.variable_files is not None:
        return list(around.variable_files), frozenset()
    shown = around.shown(VARIABLES_FILE)
    try:
        found = [FileText(around.files.read(VARIABLES_FILE), shown)]
    except StackdError as error:
        found = []
        if error.code != "spec.file.missing":
            problems.error(error.code, error.message, Position(shown), error.hint)
    return found, frozenset({VARIABLES_FILE})


class _Reader:
    """Reads one file from its beginning to its end."""

    def __init__(self, source: SourceText, environment: Mapping[str, str], problems: Problems) -> None:
        self._source = source
        self._text = source.text
        self._problems = problems
        self._line = 0
        self._line_start = 0
        self._found: dict[str, str] = {}
        self._interpolation = Interpolation(ChainMap(dict(environment), self._found), problems)

    def read(self) -> dict[str, str]:
        while self._line_start <= len(self._text):
            end = self._line_end(self._line_start)
            if not _NOTHING.fullmatch(self._text, self._line_start, end):
                end = self._assignment(end)
            self._line += 1 + self._text.count("\n", self._line_start, end)
            self._line_start = end + 1
        return self._found

    def _assignment(self, end: int) -> int:
        """Takes what the line says; the end of its last line. A name alone sets nothing: it is what it is outside."""
        named = _NAME.match(self._text, self._line_start, end)
        if named is None:
            return self._complain("is no NAME=VALUE", "a comment begins with #", end)
        at = named.end()
        if at == end or self._text[at] == "#":
            return end
        if self._text[at] not in "=:":
            return self._complain(f'has no = after the name "{shortened(named["name"])}"', "write NAME=VALUE", end)
        raw = self._text[at + 1 : end]
        at = end - len(raw.lstrip())
        if raw.lstrip()[:1] in ("'", '"'):
            return self._quoted(named["name"], at, end)
        self._set(named["name"], _COMMENT.sub("", raw).strip(), at, end)
        return end

    def _quoted(self, name: str, at: int, end: int) -> int:
        quote = self._text[at]
        found = _QUOTED[quote].match(self._text, at)
        if found is None:
            return self._complain(
                f'opens a quote for "{shortened(name)}" that is never closed', f"add the missing {quote}", end
            )
        end = self._line_end(found.end())
        if not _NOTHING.fullmatch(self._text, found.end(), end):
            hint = "put all of the value in quotes; a # begins a comment"
            return self._complain(f'goes on after the quoted value of "{shortened(name)}"', hint, end)
        if quote == "'":
            self._found[name] = found[1].replace("\\'", "'")
        else:
            self._set(name, _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), found[1]), at, found.end())
        return end

    def _set(self, name: str, value: str, start: int, end: int) -> None:
        """Sets the variable to `value` with its expressions replaced, which stands from `start` to `end`."""
        column = start - self._line_start
        last = self._line + self._text.count("\n", start, end)
        scalar = Scalar(self._source, self._line, column, max(len(value), 1), value, value, plain=True, end_line=last)
        self._interpolation.visit(scalar)
        self._found[name] = str(scalar.value)

    def _complain(self, what: str, hint: str, end: int) -> int:
        line = self._text[self._line_start : end]
        column = len(line) - len(line.lstrip())
        place = self._source.position(self._line, column, len(line.strip()))
        self._problems.error("spec.env_file.bad", f"the line {what}", place, hint)
        return end

    def _line_end(self, start: int) -> int:
        end = self._text.find("\n", start)
        return len(self._text) if end < 0 else end
