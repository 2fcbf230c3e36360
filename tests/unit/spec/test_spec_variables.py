"""Interpolation: every form of an expression, where it is looked for, and what is said when it can't be replaced."""

from __future__ import annotations

import pytest
from stackd.base.errors import SpecErrors

from spec_builders import a_service, load, problem_of, problems_of, service_file

ENVIRONMENT = {"SET": "value", "EMPTY": "", "OTHER": "other", "DOLLAR": "$SET"}


def expanded(expression: str) -> str:
    (variable,) = a_service(f"environment: ['X={expression}']", environment=ENVIRONMENT).task.container.env
    return variable.removeprefix("X=")


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("$SET", "value"), ("${SET}", "value"), ("a${SET}b$SET", "avaluebvalue"), ("$SET.x", "value.x"), ("${EMPTY}", ""),
        ("${SET:-d}", "value"), ("${EMPTY:-d}", "d"), ("${NONE:-d}", "d"), ("${NONE:-}", ""),
        ("${SET-d}", "value"), ("${EMPTY-d}", ""), ("${NONE-d}", "d"),
        ("${SET:?e}", "value"), ("${SET?e}", "value"), ("${EMPTY?e}", ""),
        ("${SET:+x}", "x"), ("${EMPTY:+x}", ""), ("${NONE:+x}", ""), ("${SET+x}", "x"), ("${EMPTY+x}", "x"), ("${NONE+x}", ""),
        ("$$SET", "$SET"), ("$$$$", "$$"), ("$${SET}", "${SET}"), ("$$$SET", "$value"),
        ("${NONE:-${OTHER}}", "other"), ("${NONE:-a${EMPTY:-b${SET}}c}", "abvaluec"), ("${NONE:-$SET}", "value"),
        ("${NONE:-$$}", "$"), ("${SET:+${OTHER}}", "other"), ("${NONE:-http://x:1/?a=b}", "http://x:1/?a=b"),
        ("{}", "{}"), ("}${SET}}", "}value}"), ("${NONE:-{a}", "{a"), ("$DOLLAR", "$SET"), ("${SET:-${NONE:?e}}", "value"),
    ],
)  # fmt: skip
def test_every_form_is_replaced(expression: str, result: str) -> None:
    assert expanded(expression) == result


@pytest.mark.parametrize(
    ("expression", "code", "message"),
    [
        ("$", "spec.variable.syntax", '"$'),
        ("$1", "spec.variable.syntax", '"$1" is no variable'),
        ("cost: 5$ each", "spec.variable.syntax", "is no variable"),
        ("${}", "spec.variable.syntax", "is no variable"),
        ("${A B}", "spec.variable.syntax", '"${A B}" is not an expression'),
        ("${A", "spec.variable.syntax", "is not an expression"),
        ("${A:-b", "spec.variable.syntax", "is not closed"),
        ("${A:=b}", "spec.variable.syntax", "is not an expression"),
        ("${NONE:?}", "spec.variable.required", 'the variable "NONE" must be set'),
        ("${EMPTY:?say ${SET}}", "spec.variable.required", 'the variable "EMPTY" must be set: say value'),
        ("${NONE?why}", "spec.variable.required", 'the variable "NONE" must be set: why'),
        ("${A:-" * 40 + "}" * 40, "spec.variable.syntax", "nested more than 16 levels"),
    ],
)
def test_what_cannot_be_replaced_is_refused(expression: str, code: str, message: str) -> None:
    problem = problem_of(service_file(f"labels: ['X={expression}']"), environment=ENVIRONMENT)
    assert problem.code == code
    assert message in problem.message


def test_deep_nesting_does_not_recurse_without_end() -> None:
    text = service_file(f"user: '{'${A:-' * 100_000}'")
    assert problem_of(text).code == "spec.variable.syntax"


def test_a_fault_is_shown_at_its_expression() -> None:
    problem = problem_of(service_file("command: [run, 'a ${SET} ${NONE:?x}']"), environment=ENVIRONMENT)
    assert problem.position is not None
    assert (problem.position.line, problem.position.column, problem.position.length) == (4, 30, len("${NONE:?x}"))


def test_a_fault_in_a_block_of_text_is_shown_in_its_line() -> None:
    problem = problem_of(service_file("command: |\n  one\n  two ${NONE:?x}\n"), environment=ENVIRONMENT)
    assert problem.position is not None
    assert (problem.position.line, problem.position.column) == (6, 11)


def test_an_unset_variable_is_empty_and_warned_of() -> None:
    loaded = load(service_file("user: 'a${NONE}'"), environment=ENVIRONMENT)
    assert loaded.spec.services[0].task.container.user == "a"
    (warning,) = loaded.warnings
    assert (warning.code, warning.hint) == ("spec.variable.unset", "give it a default: ${NONE:-value}")


def test_an_unset_variable_is_warned_of_once() -> None:
    loaded = load(service_file("command: [" + ", ".join(["'$NONE'"] * 50) + "]"))
    assert [warning.code for warning in loaded.warnings] == ["spec.variable.unset"]


def test_keys_and_extensions_are_left_alone() -> None:
    text = service_file("labels: {$1: a}", "x-notes: costs $5\n")
    assert load(text).spec.services[0].task.container.labels == (("$1", "a"),)


def test_an_extension_is_interpolated_where_an_alias_brings_it_into_a_service() -> None:
    text = "x-a: &a {image: 'nginx:${SET}'}\nservices: {one: *a, two: {<<: *a}}"
    spec = load(text, environment=ENVIRONMENT).spec
    assert {service.task.container.image for service in spec.services} == {"nginx:value"}


def test_numbers_may_come_from_variables() -> None:
    service = a_service("deploy: {replicas: '${N}'}\nports: ['${P:-80}']", environment={"N": "3"})
    assert service.settings.replicas == 3
    assert service.task.ports[0].target == 80


def test_the_name_of_the_stack_may_come_from_a_variable() -> None:
    assert load("name: ${SET}-${OTHER}\n" + service_file(), environment=ENVIRONMENT).spec.name == "value-other"


def test_variables_cannot_blow_the_file_up() -> None:
    with pytest.raises(SpecErrors) as caught:
        load(service_file("command: [" + ", ".join(["'$BIG'"] * 100) + "]"), environment={"BIG": "x" * 100_000})
    assert caught.value.code == "spec.limit.size"


def test_one_fault_does_not_hide_the_next() -> None:
    found = problems_of(service_file("user: $1\nhostname: ${A:?a}\nworking_dir: ${B:?b}"))
    assert [problem.code for problem in found] == ["spec.variable.syntax", "spec.variable.required", "spec.variable.required"]
