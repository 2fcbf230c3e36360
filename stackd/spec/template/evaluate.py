"""Fills in a parsed template. A field or key that isn't there is an error, as in Swarm (semantics 25)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import assert_never

from stackd.spec.template.functions import FUNCTIONS, Function, Value, is_true, kind_of, shown
from stackd.spec.template.lex import TemplateError, Text
from stackd.spec.template.parse import Block, Call, Constant, Group, Node, Operand, Output, Pipeline, Reference, Template

OUTPUT_MAX = 4 * 1024 * 1024
"""The most characters a template may produce: several times what a config may hold."""


def render(template: Template, context: Mapping[str, Value], functions: Mapping[str, Function] = FUNCTIONS) -> str:
    """The template's text for `context`; `functions` are those it was parsed with. Raises TemplateError."""
    run = _Run(context, functions)
    run.write(template.nodes, context)
    return "".join(run.output)


class _Run:
    """One evaluation. Variables are a stack: a block forgets what it declared."""

    def __init__(self, context: Mapping[str, Value], functions: Mapping[str, Function]) -> None:
        self.output: list[str] = []
        self._functions = functions
        self._variables: list[tuple[str, Value]] = [("$", context)]
        self._size = 0

    def write(self, nodes: Iterable[Node], dot: Value) -> None:
        for node in nodes:
            match node:
                case Text(text=text):
                    self._put(text)
                case Output(pipeline=pipeline):
                    value = self._pipeline(pipeline, dot)
                    if not pipeline.variables:
                        self._put(shown(value))
                case Block():
                    self._block(node, dot)
                case unknown:
                    assert_never(unknown)

    def _put(self, text: str) -> None:
        self._size += len(text)
        if self._size > OUTPUT_MAX:
            raise TemplateError(f"more than {OUTPUT_MAX} characters of output")
        self.output.append(text)

    def _block(self, block: Block, dot: Value) -> None:
        outside = len(self._variables)
        if block.kind == "range":
            self._range(block, self._value(block.pipeline, dot), dot)
        else:
            value = self._pipeline(block.pipeline, dot)
            inner = value if block.kind == "with" and is_true(value) else dot
            self.write(block.body if is_true(value) else block.otherwise, inner)
        del self._variables[outside:]

    def _range(self, block: Block, value: Value, dot: Value) -> None:
        items: list[tuple[Value, Value]]
        match value:
            case Mapping():
                items = [(key, value[key]) for key in sorted(value)]
            case list() | tuple():
                items = list(enumerate(value))
            case None:
                items = []
            case _:
                raise TemplateError(f"range can't iterate over {kind_of(value)}")
        if not items:
            self.write(block.otherwise, dot)
        names = block.pipeline.variables
        for item in items:
            outside = len(self._variables)
            self._variables += zip(names, item if len(names) == 2 else item[1:], strict=True) if names else ()
            self.write(block.body, item[1])
            del self._variables[outside:]

    def _pipeline(self, pipeline: Pipeline, dot: Value) -> Value:
        """The value of a pipeline; what it declares is known from now on."""
        value = self._value(pipeline, dot)
        for name in pipeline.variables:
            if pipeline.assigns:
                place = max(at for at, (known, _) in enumerate(self._variables) if known == name)
                self._variables[place] = (name, value)
            else:
                self._variables.append((name, value))
        return value

    def _value(self, pipeline: Pipeline, dot: Value) -> Value:
        first, *others = pipeline.commands
        value = self._command(first, dot, ())
        for command in others:
            value = self._command(command, dot, (value,))
        return value

    def _command(self, command: tuple[Operand, ...], dot: Value, piped: tuple[Value, ...]) -> Value:
        head, *arguments = command
        if not isinstance(head, Call):
            return self._operand(head, dot)
        if head.function in ("and", "or"):
            return self._shortcut(head.function, arguments, dot, piped)
        return self._call(head.function, [*(self._operand(argument, dot) for argument in arguments), *piped])

    def _shortcut(self, name: str, arguments: list[Operand], dot: Value, piped: tuple[Value, ...]) -> Value:
        """The first argument that decides, else the last one; what comes after it isn't evaluated."""
        value: Value = None
        for argument in arguments:
            value = self._operand(argument, dot)
            if is_true(value) == (name == "or"):
                return value
        if not arguments and not piped:
            raise TemplateError(f"wrong number of arguments for {name}")
        return piped[0] if piped else value

    def _call(self, name: str, arguments: list[Value]) -> Value:
        try:
            return self._functions[name](*arguments)
        except TypeError as error:  # of the call itself: functions check what they are given
            raise TemplateError(f"wrong number of arguments for {name}") from error

    def _operand(self, operand: Operand, dot: Value) -> Value:
        match operand:
            case Constant():
                return operand.value
            case Reference(variable="", fields=fields):
                return _field_of(dot, fields)
            case Reference(variable=variable, fields=fields):
                known = next(known for name, known in reversed(self._variables) if name == variable)
                return _field_of(known, fields)
            case Group(pipeline=pipeline, fields=fields):
                return _field_of(self._value(pipeline, dot), fields)
            case Call(function=name):
                return self._call(name, [])
            case unknown:
                assert_never(unknown)


def _field_of(value: Value, fields: tuple[str, ...]) -> Value:
    for field in fields:
        if not isinstance(value, Mapping):
            raise TemplateError(f"can't evaluate field {field} of {kind_of(value)}")
        if field not in value:
            raise TemplateError(f"there is no {field} here: " + (", ".join(sorted(value)) or "it is empty"))
        value = value[field]
    return value
