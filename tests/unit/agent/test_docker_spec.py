"""What the engine is asked for, and how its answers are read."""

from __future__ import annotations

from typing import Any

import pytest
from stackd.agent.executor.docker.body import FileMount, create_body
from stackd.agent.executor.docker.spec import (
    container_of,
    description_of,
    event_of,
    exit_of,
    instant_of,
)
from stackd.base.time import SECOND, Duration, Instant
from stackd.spec.stack import Healthcheck, Mount, MountType, Port, Resources

from docker_builders import IMAGE, a_context, with_id

LABELS = {
    "com.docker.stack.namespace": "shop",
    "stackd.task": "t1",
    "stackd.data": "data1",
    "stackd.stack": "shop",
    "stackd.service": "shop_web",
    "stackd.slot": "3",
    "stackd.node": "n" * 25,
    "stackd.revision": "r1",
}


def body_of(**settings: Any) -> dict[str, Any]:
    return create_body(with_id(a_context(**settings), "t1"), "data1", ())


def test_a_plain_task_leaves_everything_else_to_the_image_and_the_engine() -> None:
    assert body_of(command=None) == {
        "Image": IMAGE,
        "Env": [],
        "Labels": LABELS,
        "StopTimeout": 10,
        "ExposedPorts": {},
        "HostConfig": {"NetworkMode": "bridge", "RestartPolicy": {"Name": "no"}, "Mounts": [], "PortBindings": {}},
    }


def test_every_setting_of_a_task_reaches_the_engine() -> None:
    context = a_context(
        ("serve", "--all"),
        entrypoint=("/entry",),
        env=("A=1", "B=2"),
        working_dir="/srv",
        user="1000:1000",
        hostname="web",
        labels=(("team", "shop"),),
        healthcheck=Healthcheck(test=("CMD-SHELL", "probe"), interval_ns=Duration(SECOND), retries=2),
        stop_signal="SIGINT",
        stop_grace_ns=Duration(1_500_000_000),
        mounts=(
            Mount(type=MountType.BIND, source="/host", target="/a", read_only=True),
            Mount(type=MountType.VOLUME, source="shop_data", target="/b", no_copy=True, labels=(("keep", "yes"),)),
            Mount(type=MountType.VOLUME, source="nfs", target="/c", driver_options=(("type", "nfs"),)),
            Mount(type=MountType.TMPFS, target="/d", size_bytes=1024),
            Mount(type=MountType.TMPFS, target="/e"),
        ),
        task={
            "limits": Resources(nano_cpus=500_000_000, memory_bytes=64 << 20, pids=50),
            "reservations": Resources(nano_cpus=100, memory_bytes=32 << 20),
            "ports": (
                Port(target=80, published=8080),
                Port(target=80, published=8081, host_ip="127.0.0.1"),
                Port(target=53, protocol="udp"),
            ),
        },
    )
    assert create_body(with_id(context, "t1"), "data1", [FileMount("/run/x", "/run/secrets/key")]) == {
        "Image": IMAGE,
        "Entrypoint": ["/entry"],
        "Cmd": ["serve", "--all"],
        "Env": ["A=1", "B=2"],
        "WorkingDir": "/srv",
        "User": "1000:1000",
        "Hostname": "web",
        "Labels": {"team": "shop", **LABELS},
        "Healthcheck": {"Test": ["CMD-SHELL", "probe"], "Interval": SECOND, "Timeout": 0, "StartPeriod": 0, "Retries": 2},
        "StopSignal": "SIGINT",
        "StopTimeout": 2,
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "HostConfig": {
            "NetworkMode": "bridge",
            "RestartPolicy": {"Name": "no"},
            "Mounts": [
                {"Type": "bind", "Source": "/host", "Target": "/a", "ReadOnly": True},
                {
                    "Type": "volume",
                    "Source": "shop_data",
                    "Target": "/b",
                    "ReadOnly": False,
                    "VolumeOptions": {"NoCopy": True, "Labels": {"keep": "yes"}},
                },
                {
                    "Type": "volume",
                    "Source": "nfs",
                    "Target": "/c",
                    "ReadOnly": False,
                    "VolumeOptions": {
                        "NoCopy": False,
                        "Labels": {},
                        "DriverConfig": {"Name": "local", "Options": {"type": "nfs"}},
                    },
                },
                {"Type": "tmpfs", "Target": "/d", "ReadOnly": False, "TmpfsOptions": {"SizeBytes": 1024}},
                {"Type": "tmpfs", "Target": "/e", "ReadOnly": False},
                {"Type": "bind", "Source": "/run/x", "Target": "/run/secrets/key", "ReadOnly": True},
            ],
            "PortBindings": {
                "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8081"}],
                "53/udp": [{"HostIp": "0.0.0.0", "HostPort": ""}],
            },
            "NanoCpus": 500_000_000,
            "Memory": 64 << 20,
            "PidsLimit": 50,
            "MemoryReservation": 32 << 20,
        },
    }


def test_a_container_label_cannot_pretend_to_be_another_task() -> None:
    assert body_of(labels=(("stackd.task", "other"),))["Labels"]["stackd.task"] == "t1"


def test_an_empty_entrypoint_removes_the_one_of_the_image() -> None:
    assert body_of(entrypoint=())["Entrypoint"] == [""]


@pytest.mark.parametrize(
    ("code", "oom", "cause", "sentence"),
    [
        (0, False, "", ""),
        (137, False, "", "task: non-zero exit (137)"),
        (127, False, "no such file", "task: non-zero exit (127): no such file"),
        (137, True, "", "task: non-zero exit (137): killed by the kernel: out of memory"),
        (0, False, "unhealthy container", "unhealthy container"),
    ],
)
def test_an_exit_says_what_happened(code: int, oom: bool, cause: str, sentence: str) -> None:
    ended = exit_of(code, at=Instant(1), oom=oom, cause=cause)
    assert (ended.code, ended.error) == (code, sentence)


def test_an_inspected_container_is_read_with_its_last_probe() -> None:
    container = container_of(
        {
            "Id": "c1",
            "State": {
                "Status": "running",
                "Pid": 7,
                "ExitCode": 0,
                "OOMKilled": False,
                "Error": "",
                "FinishedAt": "0001-01-01T00:00:00Z",
                "Health": {"Status": "unhealthy", "Log": [{"Output": "first"}, {"Output": "refused\n"}]},
            },
            "Config": {"Labels": {"stackd.task": "t1", "stackd.data": "data1"}, "StopSignal": "SIGQUIT"},
        },
    )
    assert (container.task_id, container.data_id, container.stop_signal) == ("t1", "data1", "SIGQUIT")
    assert (container.health, container.last_probe) == ("unhealthy", "refused")
    assert (container.started, container.ended, container.finished_at) == (True, False, 0)


def test_health_events_and_exits_are_read_alike_from_old_and_new_engines() -> None:
    died = event_of({"Action": "die", "Actor": {"ID": "c1", "Attributes": {"exitCode": "3"}}, "timeNano": 5})
    health = event_of({"Action": "health_status: healthy", "Actor": {"ID": "c1"}, "timeNano": 6})
    assert (died.action, died.exit_code, died.at) == ("die", 3, 5)
    assert (health.action, health.health) == ("health", "healthy")


def test_an_engine_describes_its_host() -> None:
    description = description_of(
        {
            "Name": "host1",
            "OSType": "linux",
            "Architecture": "x86_64",
            "NCPU": 2,
            "MemTotal": 1000,
            "ServerVersion": "20.10.24",
            "Labels": ["zone=b", "disk=ssd"],
            "Plugins": {"Volume": ["local"], "Network": ["bridge"], "Log": ["syslog"], "Authorization": None},
        },
    )
    assert description.features == ("ports-map", "log:syslog", "network:bridge", "network:overlay", "volume:local")
    assert description.resources == Resources(nano_cpus=2 * SECOND, memory_bytes=1000)
    assert description.engine_labels == (("disk", "ssd"), ("zone", "b"))


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:01Z", SECOND),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T01:00:00.000000001+01:00", 1),
        ("2026-11-22T18:21:16.851806522Z", 1795371676851806522),
        ("0001-01-01T00:00:00Z", 0),
    ],
)
def test_times_keep_their_nanoseconds(text: str, instant: int) -> None:
    assert instant_of(text) == instant
