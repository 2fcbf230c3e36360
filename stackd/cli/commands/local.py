"""Commands of this machine: start and end the daemon, version, shell completion."""

from __future__ import annotations

from pathlib import Path

import click

from stackd import __version__
from stackd.api.locations import default_data_dir, socket_path
from stackd.base.errors import Unavailable
from stackd.base.time import Duration
from stackd.cli.invocation import Invocation, pass_invocation
from stackd.cli.options import DURATION, example, host_option, output_option
from stackd.cli.output import document
from stackd.cli.wording import count

_NO_DAEMON = "api.no_daemon"
_DOWN = "Everything is down."

DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the node keeps its state (default: $STACKD_DATA_DIR, else /var/lib/stackd, or ~/.local/share/stackd).",
)
DOCKER_HOST = click.option(
    "--docker-host",
    default="",
    metavar="URL",
    help="Docker's address (default: that of the last start, else $DOCKER_HOST, else its usual socket).",
)
EXECUTOR = click.option(
    "--executor",
    type=click.Choice(("auto", "docker", "process")),
    default="auto",
    show_default=True,
    help="What runs tasks; auto takes Docker where an engine answers, else processes, and stays with it.",
)
_LOG_LEVEL = click.option(
    "--log-level",
    type=click.Choice(("debug", "info", "warning", "error")),
    default="warning",
    show_default=True,
    help="What the daemon logs to stderr.",
)


@click.command(epilog=example("stackd up ./stacks", "stackd up --git https://git.example.org/ops.git --ref main --path stacks"))
@click.argument("directory", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--git", metavar="URL", help="Follow a git repository instead of a directory.")
@click.option("--ref", default="", metavar="REF", help="Branch, tag or commit of the repository (default: its HEAD).")
@click.option("--path", default="", metavar="PATH", help="Directory inside the repository.")
@click.option("--interval", type=DURATION, default="30s", show_default=True, help="Time between looks at the repository.")
@DATA_DIR
@EXECUTOR
@DOCKER_HOST
@_LOG_LEVEL
@pass_invocation
@click.pass_context
def up(
    ctx: click.Context,
    invocation: Invocation,
    directory: Path | None,
    git: str | None,
    ref: str,
    path: str,
    interval: Duration,
    data_dir: Path | None,
    executor: str,
    docker_host: str,
    log_level: str,
) -> None:
    """Run a node, and keep it what a directory or repository says.

    It stays in the foreground. Ctrl-C ends the daemon and leaves tasks running; `stackd down` removes them. Without
    DIRECTORY and --git the node goes on with the source it had last.
    """
    if directory and git:
        raise click.UsageError("give either a directory or --git, not both", ctx)
    if (ref or path) and not git:
        raise click.UsageError("--ref and --path belong to --git", ctx)
    from stackd.cli.announcer import Announcer
    from stackd.daemon import UpOptions, run_up

    options = UpOptions(
        data_dir=data_dir or default_data_dir(),
        source_dir=directory,
        git=git,
        ref=ref,
        path=path,
        interval_ns=interval,
        executor=executor,
        docker_host=docker_host,
        log_level=log_level,
    )
    announcer = Announcer(invocation.connect)
    try:
        ctx.exit(run_up(options, announcer))
    finally:
        announcer.close()


@click.command(
    epilog=example(
        "stackd daemon",
        "stackd daemon --data-dir /srv/stackd --metrics-addr 127.0.0.1:9323",
        "stackd daemon --advertise-addr 10.1.0.1 --manager-addr 10.1.0.2 --manager-addr 10.1.0.3",
    )
)
@DATA_DIR
@EXECUTOR
@DOCKER_HOST
@click.option(
    "--metrics-addr",
    "metrics_address",
    default="",
    metavar="HOST:PORT",
    help="Where to answer Prometheus (default: nowhere).",
)
@click.option(
    "--listen-addr",
    "listen",
    default="",
    metavar="HOST[:PORT]",
    help="Where it listens as a manager (default: what `cluster init` or `join` said, or the last start).",
)
@click.option(
    "--advertise-addr",
    "advertise",
    default="",
    metavar="HOST[:PORT]",
    help="Where others reach it as a manager, if that has changed (default: as before).",
)
@click.option(
    "--manager-addr",
    "managers",
    multiple=True,
    metavar="HOST[:PORT]",
    help="Where another manager is, if it isn't any more where this node remembers it (repeatable).",
)
@_LOG_LEVEL
@pass_invocation
@click.pass_context
def daemon(
    ctx: click.Context,
    invocation: Invocation,
    data_dir: Path | None,
    executor: str,
    docker_host: str,
    metrics_address: str,
    listen: str,
    advertise: str,
    managers: tuple[str, ...],
    log_level: str,
) -> None:
    """Run a node of a cluster.

    With an empty data directory it waits for `stackd cluster init` or `stackd cluster join`; afterwards it goes on with what it
    was. It stays in the foreground, as a service manager wants it. A signal ends the daemon and leaves tasks running.
    """
    from stackd.cli.announcer import Announcer
    from stackd.daemon import UpOptions, run_up

    options = UpOptions(
        data_dir=data_dir or default_data_dir(),
        executor=executor,
        docker_host=docker_host,
        metrics_address=metrics_address,
        listen=listen,
        advertise=advertise,
        managers=managers,
        log_level=log_level,
        waits=True,
    )
    ctx.exit(run_up(options, Announcer(invocation.connect, watches=False)))


@click.command(epilog=example("stackd down", "stackd down --keep-tasks"))
@DATA_DIR
@DOCKER_HOST
@click.option("--keep-tasks", is_flag=True, help="Only end the daemon; tasks and state stay.")
@pass_invocation
@click.pass_context
def down(ctx: click.Context, invocation: Invocation, data_dir: Path | None, docker_host: str, keep_tasks: bool) -> None:
    """Remove all stacks and tasks, and end the daemon.

    Also works with no daemon running. Volumes stay.
    """
    where = data_dir or default_data_dir(invocation.environment)
    invocation.host = f"unix://{socket_path(where)}"
    try:
        _end_daemon(invocation, remove=not keep_tasks)
    except Unavailable as error:
        if error.code != _NO_DAEMON or keep_tasks:
            raise
        from stackd.cli.announcer import Announcer
        from stackd.daemon import UpOptions, run_down

        options = UpOptions(data_dir=where, docker_host=docker_host)
        code = run_down(options, Announcer(invocation.connect))
        if code == 0:
            click.echo(_DOWN)
        ctx.exit(code)


def _end_daemon(invocation: Invocation, *, remove: bool) -> None:
    from stackd.api.control import DownRequest  # the records of the API cost `stackd version` a fifth of its time

    with invocation.daemon() as daemon:
        for progress in daemon.down(DownRequest(remove=remove)):
            if progress.done:
                click.echo(_DOWN if remove else "The daemon has ended.")
            else:
                why = f": {progress.message}" if progress.message else ""
                click.echo(f"{count(progress.remaining, 'task')} left{why}", err=True)


@click.command(epilog=example("stackd version", "stackd version --daemon -o json"))
@click.option("--daemon", "ask_daemon", is_flag=True, help="Also ask the daemon for its version.")
@output_option("table", "json")
@host_option
@pass_invocation
def version(invocation: Invocation, ask_daemon: bool) -> None:
    """Show the version of this command, and of the daemon."""
    facts: dict[str, object] = {"version": __version__}
    if ask_daemon:
        with invocation.daemon() as daemon:
            answer = daemon.version()
        facts["daemon"] = {"version": answer.version, "data_dir": answer.data_dir, "pid": answer.pid}
    if invocation.as_json:
        click.echo(document("Version", facts))
        return
    click.echo(f"stackd {__version__}")
    if ask_daemon:
        click.echo(f"daemon {answer.version} (pid {answer.pid}, data in {answer.data_dir})")


@click.command(
    epilog=example('eval "$(stackd completion bash)"', "stackd completion fish > ~/.config/fish/completions/stackd.fish")
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    from stackd.cli.main import COMPLETE_VARIABLE

    kind = get_completion_class(shell)
    assert kind is not None  # the choice above names only shells that click knows
    click.echo(kind(ctx.find_root().command, {}, "stackd", COMPLETE_VARIABLE).source())
