"""From a task's spec to a monitor's plan."""

from __future__ import annotations

import marshal
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from stackd.agent.executor.base import TaskContext
from stackd.agent.executor.process.plan import Plan, encode_plan
from stackd.agent.executor.process.spec import DEFAULT_PATH, Place, hosts_of, make_plan, stop_signal
from stackd.agent.executor.process.support import check_supported
from stackd.base.errors import TaskFault
from stackd.base.ids import BlobDigest
from stackd.engine.parts import NodeDescription
from stackd.spec.stack import FileRef, Healthcheck, Mount, MountType, Port

from process_host import a_task

PLACE = Place(
    directory=Path("/state/tasks/t"),
    lower="/",
    volumes=Path("/state/volumes"),
    hidden=Path("/state"),
    isolated=True,
    address="10.213.0.2",
)
NODE = NodeDescription(hostname="host-1", os="linux", arch="x86_64")
PLAIN = replace(PLACE, isolated=False, address="")


def plan(context: TaskContext, place: Place = PLACE) -> Plan:
    check_supported(context, NODE, isolated=place.isolated)
    return make_plan(context, NODE, place)


def test_entrypoint_and_command_make_the_argument_vector() -> None:
    assert plan(a_task("b", "c", entrypoint=("a",))).argv == ("a", "b", "c")


def test_the_host_as_image_also_offers_the_daemons_own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/opt/python/bin:/usr/bin")
    assert f"PATH={DEFAULT_PATH}:/opt/python/bin" in plan(a_task("a")).env
    assert f"PATH={DEFAULT_PATH}" in plan(a_task("a"), replace(PLACE, lower="/state/roots/x")).env
    assert "PATH=/mine" in plan(a_task("a", env=("PATH=/mine",))).env


def test_a_task_on_the_hosts_root_starts_in_an_empty_place() -> None:
    """A server that serves its working directory must not serve the host."""
    assert plan(a_task("a")).working_dir == "/tmp"
    assert plan(a_task("a"), replace(PLACE, lower="/state/roots/x")).working_dir == "/"
    assert plan(a_task("a"), PLAIN).working_dir == "/state/tasks/t/home"
    assert plan(a_task("a", working_dir="/srv")).working_dir == "/srv"


def test_the_hostname_is_the_specs_or_the_beginning_of_the_tasks_id() -> None:
    context = a_task("a")
    assert plan(context).hostname == context.id[:12]
    named = plan(a_task("a", hostname="box"))
    assert named.hostname == "box"
    assert "HOSTNAME=box" in named.env
    assert "10.213.0.2\tbox\n" in hosts_of(a_task("a", hostname="box"), NODE, PLACE)


def test_relative_targets_lie_where_docker_puts_them() -> None:
    config = FileRef(source="c", target="motd", digest=BlobDigest("c"))
    secret = FileRef(source="s", target="key", uid="7", gid="8", mode=0o400, digest=BlobDigest("s"))
    files = plan(a_task("a", configs=(config,), secrets=(secret,), files={"c": b"1", "s": b"2"})).files
    assert [(file.target, file.data, file.uid, file.gid, file.mode) for file in files] == [
        ("/motd", b"1", "0", "0", 0o444),
        ("/run/secrets/key", b"2", "7", "8", 0o400),
    ]


def test_volumes_become_sources_on_the_host(tmp_path: Path) -> None:
    mounts = (
        Mount(type=MountType.BIND, source=str(tmp_path), target="/a", read_only=True),
        Mount(type=MountType.VOLUME, source="shop_db", target="/b"),
        Mount(type=MountType.VOLUME, target="/c"),
        Mount(type=MountType.TMPFS, target="/d", size_bytes=5),
    )
    made = plan(a_task("a", mounts=mounts)).mounts[1:]
    assert [mount.source for mount in made] == [
        os.path.realpath(tmp_path),
        "/state/volumes/shop_db/_data",
        "/state/tasks/t/volumes/2",
        "",
    ]
    assert (made[0].read_only, made[3].size_bytes) == (True, 5)


def test_only_volumes_of_an_image_are_filled_from_it() -> None:
    """The host's own files under a target are no image's content."""
    named = Mount(type=MountType.VOLUME, source="v", target="/etc")
    (_, mount) = plan(a_task("a", mounts=(named,))).mounts
    assert mount.fill is False
    (_, mount) = plan(a_task("a", mounts=(named,)), replace(PLACE, lower="/state/roots/x")).mounts
    assert mount.fill is True


@pytest.mark.parametrize("name", ["../etc", ".hidden", "a/b"])
def test_a_volume_name_never_leads_out_of_the_volumes(name: str) -> None:
    with pytest.raises(TaskFault, match="invalid volume name"):
        plan(a_task("a", mounts=(Mount(type=MountType.VOLUME, source=name, target="/v"),)))


def test_a_volume_of_a_foreign_driver_is_refused() -> None:
    mount = Mount(type=MountType.VOLUME, source="v", target="/v", driver="nfs")
    with pytest.raises(TaskFault) as fault:
        plan(a_task("a", mounts=(mount,)))
    assert fault.value.code == "agent.process.volume_driver"


def test_a_port_without_a_published_number_is_refused() -> None:
    with pytest.raises(TaskFault) as fault:
        plan(a_task("a", ports=(Port(target=80),)))
    assert fault.value.code == "agent.process.port_unset"


def test_health_checks_become_a_command() -> None:
    assert plan(a_task("a", healthcheck=Healthcheck(test=("CMD", "x", "y")))).probe == ("x", "y")
    assert plan(a_task("a", healthcheck=Healthcheck(test=("CMD-SHELL", "x | y")))).probe == ("/bin/sh", "-c", "x | y")
    assert plan(a_task("a", healthcheck=Healthcheck(test=("NONE",)))).probe == ()


@pytest.mark.parametrize(("name", "number"), [("", 15), ("SIGUSR1", 10), ("usr1", 10), ("9", 9), ("INT", signal.SIGINT)])
def test_stop_signals_by_name_and_number(name: str, number: int) -> None:
    assert stop_signal(name) == number
    assert type(stop_signal(name)) is int  # a plan carries plain values only


@pytest.mark.parametrize("name", ["SIGFOO", "0", "99", "TERM "])
def test_an_unknown_stop_signal_is_a_fault(name: str) -> None:
    with pytest.raises(TaskFault, match="invalid signal"):
        stop_signal(name)


def test_an_encoded_plan_holds_nothing_but_plain_values() -> None:
    context = a_task("a", secrets=(FileRef(source="s", target="k", digest=BlobDigest("s")),), files={"s": b"\0\xff"})
    size, _, body = encode_plan(plan(context)).partition(b"\n")
    assert int(size) == len(body)
    fields = marshal.loads(body)
    assert fields["files"][0]["data"] == b"\0\xff"
    assert "\\xff" not in repr(plan(context))
