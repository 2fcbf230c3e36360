"""`stackd validate`: are the files right? Needs no daemon."""

from __future__ import annotations

import click

from stackd.base.errors import Position, Problem
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import StackSelection, example, file_options, output_option
from stackd.cli.output import document
from stackd.cli.sarif import sarif
from stackd.cli.stackfiles import Findings, check_stacks
from stackd.cli.wording import count
from stackd.spec.report import format_problems, problem_record


@click.command(epilog=example("stackd validate -f stacks/", "stackd validate -f web.yaml -o github"))
@file_options
@output_option("table", "json", "github", "sarif")
@pass_invocation
@click.pass_context
def validate(ctx: click.Context, invocation: Invocation, selection: StackSelection) -> None:
    """Check stack files and show every problem.

    Needs no daemon. Exit code 1 if there is an error.
    """
    findings = check_stacks(selection, invocation.environment)
    match invocation.output:
        case "json":
            click.echo(document("ValidationReport", _report(findings)))
        case "github":
            for problem in findings.problems:
                click.echo(_github_line(problem))
            click.echo(_summary(findings), err=True)
        case "sarif":
            click.echo(sarif(findings.problems))
            click.echo(_summary(findings), err=True)
        case _:
            _print_text(findings)
    if findings.errors:
        ctx.exit(1)


def _print_text(findings: Findings) -> None:
    if findings.problems:
        click.echo(format_problems(findings.problems))
    click.echo(_summary(findings))


def _summary(findings: Findings) -> str:
    """ "2 files, 3 errors", with warnings where there are some."""
    parts = [count(findings.files, "file"), count(len(findings.errors), "error")]
    if findings.warnings:
        parts.append(count(len(findings.warnings), "warning"))
    return ", ".join(parts)


def _report(findings: Findings) -> dict[str, object]:
    return {
        "files": findings.files,
        "errors": len(findings.errors),
        "warnings": len(findings.warnings),
        "items": [problem_record(problem) for problem in findings.problems],
    }


def _github_line(problem: Problem) -> str:
    """A workflow command that marks the line in a merge request; its values are escaped as that format wants."""
    position = problem.position or Position(file="")
    places = {"file": position.file, "line": position.line, "col": position.column, "title": problem.code}
    properties = ",".join(f"{key}={_escaped(str(value), property=True)}" for key, value in places.items() if value)
    text = f"{problem.message} ({problem.hint})" if problem.hint else problem.message
    return f"::{problem.severity} {properties}::{_escaped(text)}"


def _escaped(text: str, *, property: bool = False) -> str:
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return escaped.replace(":", "%3A").replace(",", "%2C") if property else escaped
