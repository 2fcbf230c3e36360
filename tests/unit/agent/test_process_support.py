"""What the process executor refuses, and with which words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from stackd.agent.executor.base import TaskContext, check_executor
from stackd.agent.executor.process.spec import Place, make_plan
from stackd.agent.executor.process.support import check_supported
from stackd.base.errors import TaskFault
from stackd.engine.parts import NodeDescription
from stackd.spec.stack import (
    CredentialSpec,
    Device,
    LogDriver,
    Mount,
    MountType,
    NetworkAttachment,
    NetworkSpec,
    Pool,
    Port,
)

from process_host import a_task

NODE = NodeDescription(hostname="host-1", os="linux", arch="aarch64")
PLACE = Place(Path("/t"), "/", Path("/v"), Path("/h"), isolated=True, address="10.213.0.2", gateway="10.213.0.1")


def on(network: NetworkSpec | str, *, ports: tuple[Port, ...] = (), **attachment: Any) -> TaskContext:
    context = a_task("x", ports=ports)
    spec = network if isinstance(network, NetworkSpec) else NetworkSpec(name=network)
    joined = NetworkAttachment(network=spec.name, **attachment)
    return replace(context, spec=msgspec.structs.replace(context.spec, networks=(joined,)), networks={spec.name: spec})


def with_log(name: str, **options: str) -> TaskContext:
    context = a_task("x")
    log = LogDriver(name=name, options=tuple((key.replace("_", "-"), value) for key, value in sorted(options.items())))
    return replace(context, spec=msgspec.structs.replace(context.spec, log=log))


def fault_of(context: TaskContext, *, isolated: bool = True) -> TaskFault:
    with pytest.raises(TaskFault) as fault:
        check_supported(context, NODE, isolated=isolated)
    return fault.value


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"runtime": "runsc"}, "runtime runsc"),
        ({"isolation": "hyperv"}, "for Windows"),
        ({"credentials": CredentialSpec(file="c")}, "for Windows"),
        ({"init": False}, "every process task has an init"),
        ({"pull_policy": "always"}, "no images to pull"),
        ({"platform": "linux/amd64"}, "this node is linux/arm64"),
        ({"platform": "windows"}, "this node is linux/arm64"),
        ({"devices": (Device(source="/dev/null", target="/dev/x", permissions="r"),)}, "permissions have to be rwm"),
        ({"mounts": (Mount(type=MountType.IMAGE, source="i", target="/i"),)}, "binds, local volumes and tmpfs"),
        ({"mounts": (Mount(type=MountType.TMPFS, target="/i", subpath="a"),)}, "can't have a subpath"),
    ],
)
def test_what_means_nothing_without_an_engine_is_refused(container: dict[str, Any], words: str) -> None:
    fault = fault_of(a_task("x", **container))
    assert fault.code == "agent.process.unsupported"
    assert words in fault.message


def test_what_is_true_already_is_accepted() -> None:
    for container in ({"init": True}, {"pull_policy": "never"}, {"platform": "linux/arm64/v8"}, {"isolation": "default"}):
        check_supported(a_task("x", **container), NODE, isolated=True)


@pytest.mark.parametrize(
    "context",
    [
        on(NetworkSpec(name="lan", driver="macvlan")),
        on(NetworkSpec(name="six", ipv6=True)),
        on(NetworkSpec(name="own", pools=(Pool(subnet="10.0.0.0/24"),))),
        on(NetworkSpec(name="own", ipam_driver="other")),
        on("front", addresses=("10.0.0.9",)),
        on("front", driver_options=(("a", "b"),)),
    ],
)
def test_a_network_that_is_more_than_a_bridge_is_refused(context: TaskContext) -> None:
    assert fault_of(context).code == "agent.process.network"


def test_other_log_drivers_and_options_are_refused() -> None:
    assert fault_of(with_log("syslog")).code == "agent.process.log_driver"
    assert fault_of(with_log("json-file", tag="x")).code == "agent.process.log_driver"


def test_the_log_is_as_large_as_the_spec_says() -> None:
    def size(context: TaskContext) -> tuple[int, int]:
        plan = make_plan(context, NODE, PLACE)
        return plan.log_bytes, plan.log_files

    assert size(a_task("x")) == (10_000_000, 3)
    assert size(with_log("json-file", max_size="5m", max_file="2")) == (5 << 20, 2)
    assert size(with_log("local", max_size="100kb")) == (100 << 10, 3)
    assert size(with_log("none"))[1] == 0
    for wrong in ({"max_size": "large"}, {"max_file": "0"}):
        with pytest.raises(TaskFault, match="max-size has to be like 10m"):
            size(with_log("json-file", **wrong))


def test_a_mount_is_only_shared_where_the_host_shares_it(tmp_path: Path) -> None:
    mount = Mount(type=MountType.BIND, source=str(tmp_path), target="/m", propagation="rshared")
    if not any("shared:" in line.partition(" - ")[0] for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        assert fault_of(a_task("x", mounts=(mount,))).code == "agent.process.propagation"
    check_supported(a_task("x", mounts=(msgspec.structs.replace(mount, propagation="rprivate"),)), NODE, isolated=True)


def test_a_source_that_is_to_be_made_need_not_be_there() -> None:
    mount = Mount(type=MountType.BIND, source="/no/such/place", target="/m", create_host_path=True)
    check_supported(a_task("x", mounts=(mount,)), NODE, isolated=True)


def test_a_folder_of_a_volume_never_leads_out_of_it() -> None:
    mount = Mount(type=MountType.VOLUME, source="v", target="/m", subpath="a/../../b")
    with pytest.raises(TaskFault, match="invalid subpath"):
        make_plan(a_task("x", mounts=(mount,)), NODE, PLACE)


@pytest.mark.parametrize(
    "container", [{"read_only": True}, {"cap_add": ("CHOWN",)}, {"dns_servers": ("1.1.1.1",)}, {"oom_score_adj": -1}]
)
def test_without_root_what_takes_a_world_of_its_own_is_refused(container: dict[str, Any]) -> None:
    assert fault_of(a_task("x", **container), isolated=False).code == "agent.process.needs_root"


def test_without_root_a_task_shares_the_hosts_network_whatever_network_it_names() -> None:
    check_supported(on("front"), NODE, isolated=False)
    assert fault_of(on("none"), isolated=False).code == "agent.process.needs_root"


def test_in_the_hosts_network_a_port_is_published_by_listening_on_it() -> None:
    check_supported(on("host", ports=(Port(target=80, published=80),)), NODE, isolated=True)
    assert fault_of(on("host", ports=(Port(target=80, published=81),))).code == "agent.process.port_map"


def test_another_executors_task_is_refused() -> None:
    context = a_task("x")
    other = replace(context, spec=msgspec.structs.replace(context.spec, executor="docker"))
    with pytest.raises(TaskFault) as fault:
        check_executor(other, "process")
    assert fault.value.code == "agent.executor.other"
    check_executor(context, "process")
