"""Go's template language, as far as stack files use it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stackd.spec.template import TemplateError, parse, render

CONTEXT = {"Service": {"Name": "shop_web", "Labels": {"b": "2", "a": "1"}}, "Task": {"Slot": "3"}}


def filled(text: str) -> str:
    return render(parse(text), CONTEXT)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("plain { text }", "plain { text }"),
        ("{{.Service.Name}}-{{.Task.Slot}}", "shop_web-3"),
        ("a {{- `b` -}} c", "abc"),
        ("a{{/* }} no */}}b", "ab"),
        ('{{"}}"}}', "}}"),
        ('{{index .Service.Labels "a"}}', "1"),
        ('{{index .Service.Labels "absent"}}', ""),
        ("{{(index .Service.Labels `a`)}}", "1"),
        ("{{.Service.Labels}}", "map[a:1 b:2]"),
        ('{{if eq .Task.Slot "1" "3"}}yes{{else}}no{{end}}', "yes"),
        ("{{if eq 1 2}}a{{else if eq 1 1}}b{{else}}c{{end}}", "b"),
        ("{{if not .Service.Labels}}none{{end}}", ""),
        ("{{range $key, $value := .Service.Labels}}{{$key}}={{$value}};{{end}}", "a=1;b=2;"),
        ("{{range .Service.Labels}}{{.}}{{else}}none{{end}}", "12"),
        ("{{with .Service}}{{.Name}} {{$.Task.Slot}}{{end}}", "shop_web 3"),
        ("{{$x := `q`}}{{if true}}{{$x = `r`}}{{end}}{{$x}}", "r"),
        ('{{.Service.Name | printf "%s-%s" "x"}}', "x-shop_web"),
        ('{{printf "%03d|%5s|%-3s|%q|%x|%%" 5 "a" "b" "c" 255}}', '005|    a|b  |"c"|ff|%'),
        ('{{join "," "a" "b" "c"}}', "a,b,c"),
        ('{{and 1 0 (len 5)}}{{or 0 "x" (len 5)}}', "0x"),
        ("{{len .Service.Labels}} {{slice .Service.Name 0 4}} {{lt 1 2}} {{html `<a>`}}", "2 shop true &lt;a&gt;"),
        ('{{"tab\\there"}}', "tab\there"),
    ],
)
def test_templates_say_what_go_says(text: str, told: str) -> None:
    assert filled(text) == told


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{.Foo}}", "there is no Foo here: Service, Task"),
        ("{{.Service.Labels.absent}}", "there is no absent here: a, b"),
        ("{{.Task.Slot.x}}", "can't evaluate field x of a text"),
        ("{{.Task.Slot", "unclosed action"),
        ("{{/* comment", "unclosed comment"),
        ("{{}}", "missing value for command"),
        ("{{if .Task}}", "{{if .Task}} has no {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{foo}}", 'function "foo" not defined'),
        ("{{$y}}", "undefined variable $y"),
        ("{{with $y := 1}}{{end}}{{$y}}", "undefined variable $y"),
        ("{{1 2}}", "can't give arguments to what is no function in {{1 2}}"),
        ("{{1 | 2}}", "only a function can follow | in {{1 | 2}}"),
        ('{{define "x"}}{{end}}', "{{define}} isn't supported here"),
        ("{{len}}", "wrong number of arguments for len"),
        ("{{len 5}}", "len: a number has no length"),
        ("{{eq 1 `1`}}", "eq: incompatible types for comparison"),
        ('{{printf "%d" `x`}}', "printf: %d can't show a text"),
        ('{{printf "%9999s" `x`}}', "printf: %9999s is too wide"),
        ("{{range .Task.Slot}}{{end}}", "range can't iterate over a text"),
        ("{{" + "(" * 60 + "1" + ")" * 60 + "}}", "parentheses are nested too deep"),
        ("{{if 1}}" * 60 + "{{end}}" * 60, "blocks are nested too deep"),
    ],
)
def test_a_mistake_is_named(text: str, reason: str) -> None:
    with pytest.raises(TemplateError) as error:
        filled(text)
    assert str(error.value) == f"template: {reason}"


def test_a_value_is_never_quoted_in_a_message() -> None:
    for text in (
        "{{.Secret.x}}",
        "{{len 1 .Secret}}",
        "{{range .Secret}}{{end}}",
        "{{lt .Secret 1}}",
        '{{printf "%d" .Secret}}',
    ):
        with pytest.raises(TemplateError) as error:
            render(parse(text), {"Secret": "hunter2"})
        assert "hunter2" not in str(error.value)


@given(st.text(alphabet='{}().$|:=-/* "`abN1,if end range with else\n', max_size=60))
def test_whatever_is_written_is_filled_in_or_refused(text: str) -> None:
    try:
        result = filled(text)
    except TemplateError:
        return
    assert isinstance(result, str)


@given(st.text())
def test_a_text_without_actions_stays_as_it_is(text: str) -> None:
    if "{{" not in text:
        assert filled(text) == text
