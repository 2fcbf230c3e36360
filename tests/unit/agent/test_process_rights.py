"""From the words of a stack file to what the kernel is told of a process task."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
from stackd.agent.executor.process.names import Member, Neighbours, host_resolver, own_hosts, resolver
from stackd.agent.executor.process.plan import RightsPlan
from stackd.agent.executor.process.rights import CAPABILITIES, DEFAULT_CAPABILITIES, rights_of, sysctls_of
from stackd.base.errors import TaskFault
from stackd.base.ids import TaskId
from stackd.spec.stack import ContainerSpec, Ulimit


def rights(**container: Any) -> RightsPlan:
    return rights_of(ContainerSpec(image="x", **container))


def names(**container: Any) -> set[str]:
    bits = rights(**container).capabilities
    return {name for number, name in enumerate(CAPABILITIES) if bits >> number & 1}


def test_root_keeps_dockers_capabilities_but_for_making_devices() -> None:
    assert names() == set(DEFAULT_CAPABILITIES)
    assert rights().capabilities == 0xA00425FB


def test_capabilities_are_added_and_dropped_as_docker_does() -> None:
    assert names(cap_add=("cap_net_admin",)) == {*DEFAULT_CAPABILITIES, "NET_ADMIN"}
    assert names(cap_drop=("CAP_CHOWN",)) == set(DEFAULT_CAPABILITIES) - {"CHOWN"}
    assert names(cap_drop=("ALL",), cap_add=("CAP_KILL",)) == {"KILL"}
    assert names(cap_add=("ALL",), cap_drop=("CAP_BPF",)) == set(CAPABILITIES) - {"BPF"}
    assert names(cap_add=("CAP_CHOWN",), cap_drop=("CAP_CHOWN",)) == set(DEFAULT_CAPABILITIES)
    assert names(privileged=True, cap_drop=("ALL",)) == set(CAPABILITIES)


def test_new_privileges_are_off_unless_the_task_is_privileged_or_says_so() -> None:
    assert rights().no_new_privileges
    assert rights(security_options=("no-new-privileges:true", "seccomp=unconfined")).no_new_privileges
    assert not rights(security_options=("no-new-privileges=false",)).no_new_privileges
    assert not rights(privileged=True).no_new_privileges
    assert rights(privileged=True, security_options=("no-new-privileges",)).no_new_privileges


@pytest.mark.parametrize(
    ("container", "code"),
    [
        ({"cap_add": ("CAP_FLY",)}, "agent.process.capability"),
        ({"security_options": ("apparmor=strict",)}, "agent.process.unsupported"),
        ({"ulimits": (Ulimit(name="dreams", soft=1, hard=1),)}, "agent.process.ulimit"),
    ],
)
def test_a_word_that_the_kernel_does_not_know_is_refused(container: dict[str, Any], code: str) -> None:
    with pytest.raises(TaskFault) as fault:
        rights(**container)
    assert fault.value.code == code


def test_ulimits_are_named_as_docker_names_them() -> None:
    limits = tuple(Ulimit(name=name, soft=1, hard=-1) for name in ("nofile", "core", "memlock", "locks", "rtprio"))
    assert [number for number, _, _ in rights(ulimits=limits).limits] == [7, 4, 8, 10, 14]


def test_only_settings_that_a_namespace_has_for_itself_are_set() -> None:
    own = (("net.core.somaxconn", "1"), ("kernel.shmmax", "2"), ("fs.mqueue.msg_max", "3"))
    files = sysctls_of(own, host_network=False)
    assert [path for path, _ in files] == [f"/proc/sys/{name.replace('.', '/')}" for name, _ in own]
    for name, host_network in (("vm.swappiness", False), ("kernel.hostname", False), ("net.core.somaxconn", True)):
        with pytest.raises(TaskFault) as fault:
            sysctls_of(((name, "1"),), host_network=host_network)
        assert fault.value.code == "agent.process.sysctl"


def test_a_setting_never_leads_out_of_the_kernels_directory() -> None:
    for name in ("net./../../../etc/passwd", "net..x"):
        with pytest.raises(TaskFault):
            sysctls_of(((name, "1"),), host_network=False)


def test_what_a_spec_says_of_resolvers_replaces_what_the_host_says() -> None:
    host = "domain lan\nsearch lan\nnameserver 1.1.1.1\noptions rotate\n"
    assert resolver((), (), (), host).splitlines() == host.splitlines()
    own = resolver(("10.0.0.1",), ("a", "b"), ("ndots:2",), host)
    assert own.splitlines() == ["nameserver 10.0.0.1", "search a b", "options ndots:2"]
    assert resolver(("10.0.0.1",), (), (), host).splitlines() == [
        "nameserver 10.0.0.1",
        "domain lan",
        "search lan",
        "options rotate",
    ]


def test_a_resolver_on_the_hosts_loopback_is_of_use_in_the_hosts_network_only(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.53\n")
    (tmp_path / "behind").write_text("nameserver 9.9.9.9\n")
    told = {
        reachable: host_resolver(reachable=reachable, path=tmp_path / "resolv.conf", behind=tmp_path / "behind")
        for reachable in (True, False)
    }
    assert told == {True: "nameserver 127.0.0.53\n", False: "nameserver 9.9.9.9\n"}


def test_a_hosts_file_begins_with_the_task_itself() -> None:
    text = own_hosts("box", "10.0.0.2", ("10.1.1.1 db",))
    assert text.splitlines()[2:] == ["10.0.0.2\tbox", "10.1.1.1\tdb"]


def test_a_shrinking_hosts_file_keeps_nothing_of_the_longer_one(tmp_path: Path) -> None:
    neighbours = Neighbours()
    for number in (1, 2):
        member = Member(f"10.0.0.{number}", {"front": (f"name-{number}",)}, tmp_path / str(number), "own\n")
        neighbours.enter(TaskId(str(number)), member)
        neighbours.announce(TaskId(str(number)))
    assert (tmp_path / "1").read_text() == "own\n10.0.0.1\tname-1\n10.0.0.2\tname-2\n"
    neighbours.leave(TaskId("2"))
    assert (tmp_path / "1").read_text() == "own\n10.0.0.1\tname-1\n"
    neighbours.withdraw(TaskId("2"))


@pytest.mark.needs("root")
def test_a_hosts_file_that_found_no_room_is_written_when_the_change_is_repeated(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        neighbours = Neighbours()
        long = tuple(f"name-{number}" for number in range(1000))
        neighbours.enter(TaskId("1"), Member("10.0.0.1", {"front": ("one",)}, disk / "1", "own\n"))
        neighbours.enter(TaskId("2"), Member("10.0.0.2", {"front": long}, tmp_path / "2", "own\n"))
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                neighbours.announce(TaskId("2"))
        ballast.unlink()
        neighbours.announce(TaskId("2"))
        assert (disk / "1").read_text() == f"own\n10.0.0.2\t{' '.join(long)}\n"
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
