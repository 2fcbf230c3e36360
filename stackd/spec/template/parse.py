"""A template's form: nodes, and the parser that builds them (Go's text/template/parse, without `define` and `block`).

A parsed template names only functions that exist and closes every block, so what can still go wrong when it is filled in
depends on values alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from stackd.spec.template.functions import FUNCTIONS
from stackd.spec.template.lex import Action, TemplateError, Text, Token, pieces

DEPTH_MAX = 50
"""Blocks and parentheses inside one another: far more than anyone writes, and no recursion ends the program."""

Literal = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Constant:
    value: Literal


@dataclass(frozen=True, slots=True)
class Reference:
    """The dot (`variable` "") or a variable (`$` is the whole context), and fields of it."""

    variable: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    function: str


@dataclass(frozen=True, slots=True)
class Group:
    """A pipeline in parentheses, and fields of its value."""

    pipeline: Pipeline
    fields: tuple[str, ...]


Operand = Constant | Reference | Call | Group


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands, each getting the value of the one before as its last argument. `variables` are what it declares or (with
    `assigns`) sets."""

    text: str
    commands: tuple[tuple[Operand, ...], ...]
    variables: tuple[str, ...] = ()
    assigns: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """The value of a pipeline."""

    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Block:
    """`kind` is if, with or range."""

    kind: str
    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


Node = Text | Output | Block


@dataclass(frozen=True, slots=True)
class Template:
    """A template that can be filled in."""

    nodes: tuple[Node, ...]


def parse(text: str, functions: Collection[str] = FUNCTIONS.keys()) -> Template:
    """Read a template that may call `functions`; raises TemplateError."""
    return Template(_Parser(pieces(text), functions).whole())


class _Parser:
    """One pass over the pieces of a template."""

    def __init__(self, found: Iterator[Text | Action], functions: Collection[str]) -> None:
        self._pieces = found
        self._functions = functions
        self._depth = 0

    def whole(self) -> tuple[Node, ...]:
        nodes, ending = self._nodes(())
        if ending is not None:
            raise TemplateError(f"unexpected {{{{{ending.text}}}}}")
        return nodes

    def _nodes(self, known: tuple[str, ...]) -> tuple[tuple[Node, ...], Action | None]:
        """Nodes up to `end` or `else`, which is returned too; None at the end of the template."""
        nodes: list[Node] = []
        for piece in self._pieces:
            if isinstance(piece, Text):
                nodes.append(piece)
                continue
            if not piece.tokens:
                raise TemplateError("missing value for command")
            match piece.tokens[0].text:
                case "end" | "else":
                    return tuple(nodes), piece
                case "if" | "with" | "range":
                    nodes.append(self._block(piece, piece.tokens, known))
                case "define" | "template" | "block" | "break" | "continue" as word:
                    raise TemplateError(f"{{{{{word}}}}} isn't supported here")
                case _:
                    pipeline = _Words(piece, piece.tokens, self._functions, known).pipeline()
                    known = (*known, *pipeline.variables)
                    nodes.append(Output(pipeline))
        return tuple(nodes), None

    def _block(self, action: Action, tokens: tuple[Token, ...], known: tuple[str, ...]) -> Block:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise TemplateError("blocks are nested too deep")
        kind = tokens[0].text
        pipeline = _Words(action, tokens[1:], self._functions, known).pipeline(pair=kind == "range")
        known = (*known, *pipeline.variables)
        body, ending = self._nodes(known)
        otherwise: tuple[Node, ...] = ()
        if ending is not None and ending.tokens[0].text == "else":
            rest = ending.tokens[1:]
            if rest and rest[0].text in ("if", "with") and rest[0].text == kind:
                otherwise, ending = (self._block(ending, rest, known),), _ENDED
            elif rest:
                raise TemplateError(f"unexpected {rest[0].text} in {{{{{ending.text}}}}}")
            else:
                otherwise, ending = self._nodes(known)
        if ending is None or ending.text != "end":
            raise TemplateError(f"{{{{{action.text}}}}} has no {{{{end}}}}")
        self._depth -= 1
        return Block(kind, pipeline, body, otherwise)


_ENDED = Action("end", ())
"""Stands for the `end` that `else if` has used up."""


class _Words:
    """The words of one action on their way to a pipeline."""

    def __init__(self, action: Action, tokens: tuple[Token, ...], functions: Collection[str], known: tuple[str, ...]) -> None:
        self._text = action.text
        self._tokens = tokens
        self._functions = functions
        self._known = {"$", *known}
        self._position = 0
        self._depth = 0

    def pipeline(self, *, pair: bool = False) -> Pipeline:
        """All words; `pair` allows `$key, $value :=`."""
        variables, assigns = self._declared(pair=pair)
        if assigns:
            self._check_known(variables)
        commands = self._commands()
        if self._position < len(self._tokens):
            raise self._unexpected()
        return Pipeline(self._text, commands, variables, assigns)

    def _declared(self, *, pair: bool) -> tuple[tuple[str, ...], bool]:
        kinds = [token.kind for token in self._tokens]
        if kinds[:2] == ["variable", "declare"]:
            count = 2
        elif pair and kinds[:4] == ["variable", "comma", "variable", "declare"]:
            count = 4
        else:
            return (), False
        self._position = count
        names = tuple(token.text for token in self._tokens[:count] if token.kind == "variable")
        return names, self._tokens[count - 1].text == "="

    def _commands(self) -> tuple[tuple[Operand, ...], ...]:
        commands = [self._command()]
        while self._next_is("pipe"):
            self._position += 1
            commands.append(self._command())
            if not isinstance(commands[-1][0], Call):
                raise TemplateError(f"only a function can follow | in {{{{{self._text}}}}}")
        return tuple(commands)

    def _command(self) -> tuple[Operand, ...]:
        operands: list[Operand] = []
        while self._position < len(self._tokens) and not (self._next_is("pipe") or self._next_is("close")):
            if operands and self._tokens[self._position].glued and self._tokens[self._position].kind != "open":
                raise self._unexpected()
            operands.append(self._operand())
        if not operands:
            raise TemplateError(f"missing value for command in {{{{{self._text}}}}}")
        if len(operands) > 1 and not isinstance(operands[0], Call):
            raise TemplateError(f"can't give arguments to what is no function in {{{{{self._text}}}}}")
        return tuple(operands)

    def _operand(self) -> Operand:
        token = self._tokens[self._position]
        self._position += 1
        match token.kind:
            case "string":
                return Constant(_unquoted(token.text))
            case "number":
                return Constant(float(token.text) if "." in token.text else int(token.text))
            case "dot":
                return Reference("", ())
            case "field":
                return Reference("", (token.text[1:], *self._fields()))
            case "variable":
                self._check_known((token.text,))
                return Reference(token.text, self._fields())
            case "open":
                return self._group()
            case "name":
                return self._named(token.text)
        self._position -= 1
        raise self._unexpected()

    def _group(self) -> Group:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise TemplateError("parentheses are nested too deep")
        commands = self._commands()
        if not self._next_is("close"):
            raise TemplateError(f"unclosed ( in {{{{{self._text}}}}}")
        self._position += 1
        self._depth -= 1
        return Group(Pipeline(self._text, commands), self._fields())

    def _named(self, name: str) -> Operand:
        if name in ("true", "false", "nil"):
            return Constant({"true": True, "false": False, "nil": None}[name])
        if name not in self._functions:
            raise TemplateError(f'function "{name}" not defined')
        return Call(name)

    def _fields(self) -> tuple[str, ...]:
        """The fields that follow without a space."""
        fields: list[str] = []
        while self._next_is("field") and self._tokens[self._position].glued:
            fields.append(self._tokens[self._position].text[1:])
            self._position += 1
        return tuple(fields)

    def _check_known(self, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in self._known:
                raise TemplateError(f"undefined variable {name}")

    def _next_is(self, kind: str) -> bool:
        return self._position < len(self._tokens) and self._tokens[self._position].kind == kind

    def _unexpected(self) -> TemplateError:
        return TemplateError(f"unexpected {self._tokens[self._position].text} in {{{{{self._text}}}}}")


def _unquoted(text: str) -> str:
    """The string that a literal means; the escapes that Go and JSON share, and `\\'`, are known."""
    if text.startswith("`"):
        return text[1:-1]
    try:
        value: str = json.loads(text)
    except ValueError as error:
        raise TemplateError(f"invalid string {text}") from error
    return value
