"""Every setting that a task can have, and how its effect is seen on each executor: the table behind docs/stack-file.md.

Pure data. `tests/integration/keys` deploys the fragments, all of one `group` in one task, and looks at what the table says;
`tests/unit/agent/test_key_table.py` sees to it that no field of the records is missing, and that the page says the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stackd.base.ids import BlobDigest
from stackd.base.time import SECOND, Duration
from stackd.spec.stack import (
    CredentialSpec,
    Device,
    FileRef,
    GenericResource,
    Healthcheck,
    LogDriver,
    Mount,
    MountType,
    NetworkAttachment,
    NetworkSpec,
    Pool,
    Port,
    Resources,
    Ulimit,
)


def _items(path: str) -> str:
    """A path without which items it leads through."""
    return re.sub(r"\.(=[^.]*|\d+)(?=\.)", "[]", path)


@dataclass(frozen=True)
class Probe:
    """A command run inside the task, and what its output is."""

    command: str
    output: str
    said: str


@dataclass(frozen=True)
class Inspect:
    """What `docker inspect` shows of the container at a path, dots between its parts; `general` is the part of the path that
    isn't this example's own."""

    path: str
    value: Any
    general: str = ""

    @property
    def said(self) -> str:
        return f"`{self.general or _items(self.path)}`"


@dataclass(frozen=True)
class Network:
    """What `docker network inspect` shows of the task's network `shop_front`."""

    path: str
    value: Any
    general: str = ""

    @property
    def said(self) -> str:
        return f"the bridge's `{self.general or _items(self.path)}`"


@dataclass(frozen=True)
class Planned:
    """What the task's monitor is told in this field of its plan."""

    name: str
    value: Any
    said: str


@dataclass(frozen=True)
class Limit:
    """A file of the task's control group, by its name in version 1 and in version 2, and what it holds."""

    file: str
    file_v2: str
    value: str
    value_v2: str

    @property
    def said(self) -> str:
        return f"control group, `{self.file_v2}`"


@dataclass(frozen=True)
class Refused:
    """The task is rejected with this code."""

    code: str
    why: str

    @property
    def said(self) -> str:
        return f"refused: {self.why} (`{self.code}`)"


@dataclass(frozen=True)
class Since:
    """Another effect depending on the version of the engine's API."""

    api: tuple[int, int]
    then: Inspect
    before: Refused

    @property
    def said(self) -> str:
        return f"{self.then.said}; {self.before.said} before API {self.api[0]}.{self.api[1]}"


@dataclass(frozen=True)
class Note:
    """No effect that an executor brings about: who does, or why there is none."""

    said: str


Effect = Probe | Inspect | Network | Planned | Limit | Refused | Since | Note


@dataclass(frozen=True)
class Key:
    """One setting: the field of a record that holds it, how a stack file says it, and a value that shows its effect.
    Fragments of one group are deployed together; each refused one is deployed alone."""

    field: str
    written: str
    docker: Effect
    process: Effect
    container: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    group: str = "all"

    def effect(self, executor: str) -> Effect:
        return self.docker if executor == "docker" else self.process


def both(effect: Effect) -> dict[str, Effect]:
    return {"docker": effect, "process": effect}


ENGINE = both(Note("the cluster's affair, whatever runs the task"))
BIT = "b=$(grep CapBnd /proc/self/status | cut -f2); echo $((0x$b >> {bit} & 1))"
TEMPLATED = b'{{.Service.Name}} {{env "COLOUR"}} {{secret "key"}}'
NO_IMAGES = "there are no images"
WINDOWS = "only on Windows"

CONTENTS: Mapping[str, bytes] = {"d-motd": b"hello\n", "d-key": b"hunter2\n", "d-templated": TEMPLATED}
"""Contents of the configs and secrets, by digest."""


def keys(host: Path, architecture: str = "amd64") -> tuple[Key, ...]:
    """The table. `host` is a directory with a file `given`, on a mount that is shared."""
    return (
        *_program(),
        *_identity(),
        *_rights(architecture),
        *_mounts(host),
        *_files(),
        *_names(),
        *_task(),
        *_networks(),
    )


def _program() -> tuple[Key, ...]:
    timing = Note("when the monitor checks; counted as Docker does")
    check = Healthcheck(
        test=("CMD-SHELL", "echo yes > /dev/shm/checked"),
        interval_ns=Duration(SECOND // 10),
        timeout_ns=Duration(2 * SECOND),
        retries=3,
        start_period_ns=Duration(SECOND),
    )
    checked = Probe("until test -s /dev/shm/checked; do sleep 0.05; done; cat /dev/shm/checked", "yes", "checked in the task")
    eager = Healthcheck(test=("CMD", "true"), start_interval_ns=Duration(SECOND // 5))
    return (
        Key(
            "ContainerSpec.image",
            "image",
            Inspect("Config.Image", "busybox:1"),
            Note("names a registered file tree, else it is the host's own"),
        ),
        Key(
            "ContainerSpec.entrypoint",
            "entrypoint",
            Inspect("Config.Entrypoint", ["/bin/sh", "-c"]),
            Planned("argv.0", "/bin/sh", "first words of what runs"),
        ),
        Key("ContainerSpec.command", "command", **both(Probe("echo $0", "word-of-the-command", "what runs"))),
        Key(
            "ContainerSpec.env",
            "environment",
            **both(Probe("echo $COLOUR", "red", "environment")),
            container={"env": ("COLOUR=red",)},
        ),
        Key(
            "ContainerSpec.working_dir",
            "working_dir",
            **both(Probe("pwd", "/srv/place", "current directory, made if missing")),
            container={"working_dir": "/srv/place"},
        ),
        Key(
            "ContainerSpec.stop_signal",
            "stop_signal",
            Inspect("Config.StopSignal", "SIGUSR1"),
            Planned("stop_signal", 10, "the signal sent first"),
            container={"stop_signal": "SIGUSR1"},
        ),
        Key(
            "ContainerSpec.stop_grace_ns",
            "stop_grace_period",
            Inspect("Config.StopTimeout", 7),
            Planned("stop_grace_seconds", 7.0, "time until SIGKILL"),
            container={"stop_grace_ns": Duration(7 * SECOND)},
        ),
        Key("ContainerSpec.healthcheck", "healthcheck", **both(checked), container={"healthcheck": check}, group="health"),
        Key("Healthcheck.test", "healthcheck.test", **both(checked), container={"healthcheck": check}, group="health"),
        Key(
            "Healthcheck.interval_ns",
            "healthcheck.interval",
            Inspect("Config.Healthcheck.Interval", SECOND // 10),
            timing,
            group="health",
        ),
        Key(
            "Healthcheck.timeout_ns",
            "healthcheck.timeout",
            Inspect("Config.Healthcheck.Timeout", 2 * SECOND),
            timing,
            group="health",
        ),
        Key("Healthcheck.retries", "healthcheck.retries", Inspect("Config.Healthcheck.Retries", 3), timing, group="health"),
        Key(
            "Healthcheck.start_period_ns",
            "healthcheck.start_period",
            Inspect("Config.Healthcheck.StartPeriod", SECOND),
            timing,
            group="health",
        ),
        Key(
            "Healthcheck.start_interval_ns",
            "healthcheck.start_interval",
            Since(
                (1, 44),
                Inspect("Config.Healthcheck.StartInterval", SECOND // 5),
                Refused("agent.docker.unsupported", "the API lacks it"),
            ),
            timing,
            container={"healthcheck": eager},
            group="eager",
        ),
        Key(
            "ContainerSpec.tty",
            "tty",
            **both(Probe("test -t 0 && test -t 1 && echo terminal", "terminal", "a terminal of its own")),
            container={"tty": True},
            group="terminal",
        ),
        Key(
            "ContainerSpec.stdin_open",
            "stdin_open",
            **both(
                Probe("sh -c 'timeout 0.2 cat' 2>/dev/null && echo ended || echo open", "open", "an input that doesn't end")
            ),
            container={"stdin_open": True},
            group="input",
        ),
        Key(
            "ContainerSpec.init",
            "init",
            Inspect("HostConfig.Init", False),
            Refused("agent.process.unsupported", "`false`; there always is one"),
            container={"init": False},
        ),
    )


def _identity() -> tuple[Key, ...]:
    return (
        Key(
            "ContainerSpec.user",
            "user",
            **both(Probe("id -u", "1234", "user and group, by name or number")),
            container={"user": "1234:77"},
            group="user",
        ),
        Key(
            "ContainerSpec.groups",
            "group_add",
            **both(Probe("id -G", "77 4321", "further groups")),
            container={"groups": ("4321",)},
            group="user",
        ),
        Key("ContainerSpec.hostname", "hostname", **both(Probe("hostname", "box", "host name")), container={"hostname": "box"}),
        Key(
            "ContainerSpec.labels",
            "labels",
            Inspect("Config.Labels.team", "shop", "Config.Labels"),
            Note("kept in the task's record"),
            container={"labels": (("team", "shop"),)},
        ),
    )


def _rights(architecture: str) -> tuple[Key, ...]:
    device = Device(source="/dev/null", target="/dev/mine")
    writable = Probe(
        "test -w /proc/sys/kernel/hostname && echo open", "open", "all capabilities, the host's devices, the kernel's files"
    )
    return (
        Key(
            "ContainerSpec.read_only",
            "read_only",
            **both(Probe("touch /new /tmp/new 2>/dev/null || echo refused", "refused", "nothing but volumes can be written")),
            container={"read_only": True},
            group="read-only",
        ),
        Key(
            "ContainerSpec.cap_add",
            "cap_add",
            **both(Probe(BIT.format(bit=12), "1", "capabilities")),
            container={"cap_add": ("CAP_NET_ADMIN",)},
        ),
        Key(
            "ContainerSpec.cap_drop",
            "cap_drop",
            **both(Probe(BIT.format(bit=13), "0", "capabilities")),
            container={"cap_drop": ("CAP_NET_RAW",)},
        ),
        Key(
            "ContainerSpec.privileged",
            "privileged",
            Inspect("HostConfig.Privileged", True),
            writable,
            container={"privileged": True},
            group="privileged",
        ),
        Key(
            "ContainerSpec.devices",
            "devices",
            **both(Probe("test -c /dev/mine && echo device", "device", "device files")),
            container={"devices": (device,)},
        ),
        Key(
            "Device.source",
            "devices",
            **both(Probe("cat /dev/mine", "", "device files")),
            container={"devices": (device,)},
        ),
        Key(
            "Device.target",
            "devices",
            **both(Probe("ls /dev/mine", "/dev/mine", "device files")),
            container={"devices": (device,)},
        ),
        Key(
            "Device.permissions",
            "devices (permissions)",
            Inspect("HostConfig.Devices.0.CgroupPermissions", "r"),
            Refused("agent.process.unsupported", "other than `rwm`"),
            container={"devices": (Device(source="/dev/zero", target="/dev/other", permissions="r"),)},
            group="device",
        ),
        Key(
            "ContainerSpec.sysctls",
            "sysctls",
            **both(Probe("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "99", "the kernel's settings of its namespaces")),
            container={"sysctls": (("net.ipv4.ip_unprivileged_port_start", "99"),)},
        ),
        Key(
            "ContainerSpec.ulimits",
            "ulimits",
            **both(Probe("ulimit -n", "123", "resource limits")),
            container={"ulimits": (Ulimit(name="nofile", soft=123, hard=456),)},
        ),
        Key("Ulimit.name", "ulimits", **both(Probe("ulimit -n", "123", "resource limits"))),
        Key("Ulimit.soft", "ulimits", **both(Probe("ulimit -S -n", "123", "resource limits"))),
        Key("Ulimit.hard", "ulimits", **both(Probe("ulimit -H -n", "456", "resource limits"))),
        Key(
            "ContainerSpec.shm_size_bytes",
            "shm_size",
            **both(Probe("grep -o ' /dev/shm .*size=[0-9]*k' /proc/mounts | grep -o '[0-9]*k'", "32768k", "size of /dev/shm")),
            container={"shm_size_bytes": 32 << 20},
        ),
        Key(
            "ContainerSpec.oom_score_adj",
            "oom_score_adj",
            **both(Probe("cat /proc/self/oom_score_adj", "77", "the kernel's preference")),
            container={"oom_score_adj": 77},
        ),
        Key(
            "ContainerSpec.security_options",
            "security_opt",
            Inspect("HostConfig.SecurityOpt", ["no-new-privileges:true"]),
            Probe(
                "grep NoNewPrivs /proc/self/status | cut -f2",
                "1",
                "no-new-privileges; that nothing else confines is true already; others are refused",
            ),
            container={"security_options": ("no-new-privileges:true",)},
        ),
        Key(
            "ContainerSpec.runtime",
            "runtime",
            Inspect("HostConfig.Runtime", "runc"),
            Refused("agent.process.unsupported", "there are no runtimes"),
            container={"runtime": "runc"},
            group="runtime",
        ),
        Key(
            "ContainerSpec.platform",
            "platform",
            Inspect("Platform", "linux"),
            Note("has to be the node's, else refused"),
            container={"platform": f"linux/{architecture}"},
        ),
        Key(
            "ContainerSpec.pull_policy",
            "pull_policy",
            Refused("agent.docker.image", "when the image is missing and may `never` be pulled"),
            Note("`missing` and `never` are true; others are refused"),
            container={"image": "absent:1", "pull_policy": "never"},
            group="pull",
        ),
        Key(
            "ContainerSpec.isolation",
            "isolation",
            Refused("agent.docker.create", WINDOWS),
            Refused("agent.process.unsupported", WINDOWS),
            container={"isolation": "hyperv"},
            group="isolation",
        ),
        Key(
            "ContainerSpec.credentials",
            "credential_spec",
            Refused("agent.docker.unsupported", WINDOWS),
            Refused("agent.process.unsupported", WINDOWS),
            container={"credentials": CredentialSpec(file="c.json")},
            group="credentials",
        ),
        *(
            Key(
                f"CredentialSpec.{name}",
                f"credential_spec.{name}",
                Refused("agent.docker.unsupported", WINDOWS),
                Refused("agent.process.unsupported", WINDOWS),
                container={"credentials": CredentialSpec(**{name: "c"})},
                group=name,
            )
            for name in ("file", "registry", "config")
        ),
    )


def _mounts(host: Path) -> tuple[Key, ...]:
    bind = Mount(type=MountType.BIND, source=str(host), target="/m/bind")
    fixed = Mount(type=MountType.BIND, source=str(host), target="/m/fixed", read_only=True)
    named = Mount(type=MountType.VOLUME, source="shop_keys", target="/m/volume", labels=(("a", "b"),))
    plain = Mount(type=MountType.VOLUME, source="shop_plain", target="/m/plain", no_copy=True)
    memory = Mount(type=MountType.TMPFS, target="/m/memory", size_bytes=1 << 20, tmpfs_mode=0o750)
    slave = Mount(type=MountType.BIND, source=str(host), target="/m/slave", propagation="rslave")
    cached = Mount(type=MountType.BIND, source=str(host), target="/m/cached", consistency="cached")
    made = Mount(type=MountType.BIND, source=str(host / "made"), target="/m/made", create_host_path=True)
    driven = Mount(
        type=MountType.VOLUME,
        source="shop_driven",
        target="/m/driven",
        driver="local",
        driver_options=(("type", "tmpfs"), ("device", "tmpfs")),
    )
    inner = Mount(type=MountType.VOLUME, source="shop_plain", target="/m/inner", subpath="inside")
    image = Mount(type=MountType.IMAGE, source="busybox:1", target="/m/image")
    given = Probe("cat /m/bind/given", "given", "mounted")
    unsupported = Refused("agent.process.unsupported", "binds, local volumes and tmpfs only")
    driver = Refused("agent.process.volume_driver", "plain local volumes only")
    return (
        Key("ContainerSpec.mounts", "volumes", **both(given), container={"mounts": (bind,)}),
        Key("Mount.type", "volumes: bind", **both(given)),
        Key(
            "Mount.type",
            "volumes: volume",
            **both(Probe("touch /m/volume/x && echo written", "written", "a volume of the node")),
        ),
        Key("Mount.type", "volumes: tmpfs", **both(Probe("grep -c ' /m/memory tmpfs' /proc/mounts", "1", "in memory"))),
        Key(
            "Mount.type",
            "volumes: npipe",
            Refused("agent.docker.create", WINDOWS),
            unsupported,
            container={"mounts": (Mount(type=MountType.NPIPE, source="x", target="/m/x"),)},
            group="npipe",
        ),
        Key(
            "Mount.type",
            "volumes: cluster",
            Refused("agent.docker.unsupported", "Docker has them in swarm mode only"),
            unsupported,
            container={"mounts": (Mount(type=MountType.CLUSTER, source="x", target="/m/x"),)},
            group="cluster",
        ),
        Key(
            "Mount.type",
            "volumes: image",
            Since(
                (1, 48), Inspect("HostConfig.Mounts.0.Type", "image"), Refused("agent.docker.unsupported", "the API lacks it")
            ),
            unsupported,
            container={"mounts": (image,)},
            group="image",
        ),
        Key("Mount.source", "volumes.source", **both(given)),
        Key("Mount.target", "volumes.target", **both(Probe("ls -d /m/bind", "/m/bind", "where it is mounted"))),
        Key(
            "Mount.read_only",
            "volumes.read_only",
            **both(Probe("touch /m/fixed/x 2>/dev/null || echo refused", "refused", "can't be written")),
            container={"mounts": (fixed,)},
        ),
        Key(
            "Mount.labels",
            "volumes: volume labels",
            Inspect("HostConfig.Mounts.=/m/volume.VolumeOptions.Labels", {"a": "b"}),
            Note("beside the volume's data"),
            container={"mounts": (named,)},
        ),
        Key(
            "Mount.no_copy",
            "volumes.volume.nocopy",
            Inspect("HostConfig.Mounts.=/m/plain.VolumeOptions.NoCopy", True),
            Note("only volumes over a registered tree are filled from it"),
            container={"mounts": (plain,)},
        ),
        Key(
            "Mount.size_bytes",
            "volumes.tmpfs.size",
            **both(Probe("grep ' /m/memory ' /proc/mounts | grep -o 'size=[0-9]*k'", "size=1024k", "size of the tmpfs")),
            container={"mounts": (memory,)},
        ),
        Key("Mount.tmpfs_mode", "volumes.tmpfs.mode", **both(Probe("stat -c %a /m/memory", "750", "mode of its root"))),
        Key(
            "Mount.propagation",
            "volumes.bind.propagation",
            **both(Probe("grep -c ' /m/slave .* master:' /proc/self/mountinfo", "1", "propagation of mounts")),
            container={"mounts": (slave,)},
        ),
        Key(
            "Mount.consistency",
            "volumes.consistency",
            Inspect("HostConfig.Mounts.=/m/cached.Consistency", "cached"),
            Note("means nothing on Linux"),
            container={"mounts": (cached,)},
        ),
        Key(
            "Mount.create_host_path",
            "volumes.bind.create_host_path",
            **both(Probe("test -d /m/made && echo made", "made", "made if missing")),
            container={"mounts": (made,)},
        ),
        Key(
            "Mount.driver",
            "volume driver",
            Inspect("HostConfig.Mounts.0.VolumeOptions.DriverConfig.Name", "local"),
            driver,
            container={"mounts": (driven,)},
            group="driver",
        ),
        Key(
            "Mount.driver_options",
            "volume driver_opts",
            Inspect("HostConfig.Mounts.0.VolumeOptions.DriverConfig.Options.type", "tmpfs"),
            driver,
            container={"mounts": (driven,)},
            group="driver",
        ),
        Key(
            "Mount.subpath",
            "volumes.volume.subpath",
            Since(
                (1, 45),
                Inspect("HostConfig.Mounts.=/m/inner.VolumeOptions.Subpath", "inside"),
                Refused("agent.docker.unsupported", "the API lacks it"),
            ),
            Probe("ls -d /m/inner && ls /m/inner", "/m/inner\nmark", "a folder of the volume"),
            container={"mounts": (inner,)},
            group="subpath",
        ),
    )


def _files() -> tuple[Key, ...]:
    motd = FileRef(source="motd", target="/etc/motd", digest=BlobDigest("d-motd"), uid="12", gid="34", mode=0o440)
    filled = FileRef(source="filled", target="/etc/filled", digest=BlobDigest("d-templated"), template="golang")
    key = FileRef(source="key", target="key", digest=BlobDigest("d-key"), mode=0o400)
    return (
        Key(
            "ContainerSpec.configs",
            "configs",
            **both(Probe("cat /etc/motd", "hello", "a read-only file")),
            container={"configs": (motd, filled)},
        ),
        Key(
            "ContainerSpec.secrets",
            "secrets",
            **both(Probe("cat /run/secrets/key", "hunter2", "a read-only file in memory")),
            container={"secrets": (key,)},
        ),
        Key("FileRef.source", "configs.source", **both(Probe("cat /etc/motd", "hello", "which one"))),
        Key("FileRef.target", "configs.target", **both(Probe("ls /etc/motd", "/etc/motd", "where the file is"))),
        Key("FileRef.uid", "configs.uid", **both(Probe("stat -c %u /etc/motd", "12", "owner"))),
        Key("FileRef.gid", "configs.gid", **both(Probe("stat -c %g /etc/motd", "34", "group"))),
        Key("FileRef.mode", "configs.mode", **both(Probe("stat -c %a /etc/motd", "440", "mode"))),
        Key("FileRef.digest", "configs.file", **both(Probe("cat /etc/motd", "hello", "content"))),
        Key(
            "FileRef.template",
            "template_driver",
            **both(Probe("cat /etc/filled", "shop_web red hunter2", "filled in on the node")),
        ),
    )


def _names() -> tuple[Key, ...]:
    return (
        Key(
            "ContainerSpec.hosts",
            "extra_hosts",
            **both(Probe("grep elsewhere /etc/hosts | tr -s ' \\t' ' '", "10.1.2.3 elsewhere", "lines of /etc/hosts")),
            container={"hosts": ("10.1.2.3 elsewhere",)},
        ),
        Key(
            "ContainerSpec.dns_servers",
            "dns",
            **both(Probe("grep nameserver /etc/resolv.conf", "nameserver 10.9.8.7", "/etc/resolv.conf")),
            container={"dns_servers": ("10.9.8.7",)},
        ),
        Key(
            "ContainerSpec.dns_search",
            "dns_search",
            **both(Probe("grep search /etc/resolv.conf", "search example.org", "/etc/resolv.conf")),
            container={"dns_search": ("example.org",)},
        ),
        Key(
            "ContainerSpec.dns_options",
            "dns_opt",
            **both(Probe("grep options /etc/resolv.conf", "options ndots:3", "/etc/resolv.conf")),
            container={"dns_options": ("ndots:3",)},
        ),
    )


def _task() -> tuple[Key, ...]:
    limits = Resources(nano_cpus=500_000_000, memory_bytes=64 << 20, pids=50)
    reserved = Resources(nano_cpus=100, memory_bytes=32 << 20, generic=(GenericResource(kind="gpu", amount=1),))
    given = Probe("echo $DOCKER_RESOURCE_GPU", "gpu-7", "the resources given, in the environment")
    scheduler = Note("the scheduler's affair")
    logged = LogDriver(name="json-file", options=(("max-file", "2"), ("max-size", "5m")))
    port = Port(target=80, published=18_080, protocol="tcp", host_ip="127.87.65.43")
    binding = {"HostIp": "127.87.65.43", "HostPort": "18080"}
    forwarded = Planned("ports.0.number", 18_080, "forwarded from the node")
    return (
        Key("TaskSpec.container", "services", **both(Note("the rest of this table"))),
        Key(
            "TaskSpec.limits",
            "deploy.resources.limits",
            Inspect("HostConfig.Memory", 64 << 20),
            Limit("memory.limit_in_bytes", "memory.max", str(64 << 20), str(64 << 20)),
            task={"limits": limits},
        ),
        Key(
            "Resources.nano_cpus",
            "deploy.resources.limits.cpus",
            Inspect("HostConfig.NanoCpus", 500_000_000),
            Limit("cpu.cfs_quota_us", "cpu.max", "50000", "50000 100000"),
        ),
        Key(
            "Resources.memory_bytes",
            "deploy.resources.limits.memory",
            Inspect("HostConfig.Memory", 64 << 20),
            Limit("memory.limit_in_bytes", "memory.max", str(64 << 20), str(64 << 20)),
        ),
        Key(
            "Resources.pids",
            "deploy.resources.limits.pids",
            Inspect("HostConfig.PidsLimit", 50),
            Limit("pids.max", "pids.max", "50", "50"),
        ),
        Key(
            "TaskSpec.reservations",
            "deploy.resources.reservations",
            Inspect("HostConfig.MemoryReservation", 32 << 20),
            scheduler,
            task={"reservations": reserved},
        ),
        Key("Resources.generic", "deploy.resources.reservations.generic_resources", **both(given)),
        *(Key(f"GenericResource.{name}", "generic_resources", **both(given)) for name in ("kind", "amount", "names")),
        Key("TaskSpec.restart", "deploy.restart_policy", **ENGINE),
        Key("TaskSpec.placement", "deploy.placement", **ENGINE),
        Key("TaskSpec.force", "(forced updates)", **ENGINE),
        Key("TaskSpec.fence", "x-stackd.fence", **both(Note("ended when the node is cut off for longer than its lease"))),
        Key(
            "TaskSpec.executor",
            "x-stackd.executor",
            **both(Refused("agent.executor.other", "where another one is asked for")),
            task={"executor": "other"},
            group="executor",
        ),
        Key(
            "TaskSpec.ports",
            "ports",
            Inspect("HostConfig.PortBindings.80/tcp", [binding], "HostConfig.PortBindings"),
            forwarded,
            task={"ports": (port,)},
        ),
        Key(
            "Port.target",
            "ports.target",
            Inspect("HostConfig.PortBindings.80/tcp", [binding], "HostConfig.PortBindings"),
            forwarded,
        ),
        Key(
            "Port.published",
            "ports.published",
            Inspect("HostConfig.PortBindings.80/tcp", [binding], "HostConfig.PortBindings"),
            forwarded,
        ),
        Key(
            "Port.protocol",
            "ports.protocol",
            Inspect("HostConfig.PortBindings.80/tcp", [binding], "HostConfig.PortBindings"),
            Planned("ports.0.protocol", "tcp", "which of both"),
        ),
        Key(
            "Port.host_ip",
            "ports.host_ip",
            Inspect("HostConfig.PortBindings.80/tcp", [binding], "HostConfig.PortBindings"),
            Planned("ports.0.host_ip", "127.87.65.43", "on this address only"),
        ),
        Key("Port.mode", "ports.mode", **both(Note("one listener on the node in both modes, for now"))),
        Key(
            "TaskSpec.log",
            "logging",
            Inspect("HostConfig.LogConfig.Type", "json-file"),
            Planned("log_files", 2, "json-file, local and none"),
            task={"log": logged},
        ),
        Key(
            "LogDriver.name",
            "logging.driver",
            Inspect("HostConfig.LogConfig.Type", "syslog"),
            Refused("agent.process.log_driver", "json-file, local and none only"),
            task={"log": LogDriver(name="syslog", options=(("syslog-address", "udp://127.0.0.1:9"),))},
            group="log",
        ),
        Key(
            "LogDriver.options",
            "logging.options",
            Inspect("HostConfig.LogConfig.Config", {"max-file": "2", "max-size": "5m"}),
            Planned("log_bytes", 5 << 20, "max-size and max-file; others are refused"),
        ),
    )


def _networks() -> tuple[Key, ...]:
    front = NetworkAttachment(network="shop_front", aliases=("web",), driver_options=())
    task = {"networks": (front,)}
    fixed = NetworkAttachment(network="shop_front", addresses=("10.117.3.9",))
    options = NetworkAttachment(network="shop_front", driver_options=(("a", "b"),))
    none = "the process executor has one bridge for all"
    refused = Refused("agent.process.network", none)
    here = {"task": task, "group": "network"}
    alone = NetworkSpec(
        name="shop_front", pools=(Pool(subnet="10.117.3.0/24", gateway="10.117.3.1", ip_range="10.117.3.0/28"),)
    )
    pool = {"subnet": "10.117.3.0/24", "gateway": "10.117.3.1", "ip_range": "10.117.3.0/28"}
    return (
        Key(
            "TaskSpec.networks",
            "networks",
            Inspect("NetworkSettings.Networks.=stackd-*-shop_front.NetworkID", ...),
            Note("one bridge for all of them; names in /etc/hosts"),
            **here,
        ),
        Key(
            "NetworkAttachment.network",
            "networks",
            Inspect("NetworkSettings.Networks.=stackd-*-shop_front.NetworkID", ...),
            Note("who is found by name"),
            **here,
        ),
        Key(
            "NetworkAttachment.aliases",
            "networks.aliases",
            **both(Note("names of the service; process: in /etc/hosts")),
            **here,
        ),
        Key(
            "NetworkAttachment.addresses",
            "networks.ipv4_address",
            Inspect("NetworkSettings.Networks.=stackd-*-shop_front.IPAddress", "10.117.3.9"),
            refused,
            task={"networks": (fixed,)},
            network={"pools": alone.pools},
            group="address",
        ),
        Key(
            "NetworkAttachment.driver_options",
            "networks.driver_opts",
            Inspect("NetworkSettings.Networks.=stackd-*-shop_front.DriverOpts", {"a": "b"}),
            refused,
            task={"networks": (options,)},
            group="driver-options",
        ),
        Key(
            "NetworkSpec.name",
            "networks.name",
            Network("Labels.stackd.network", "shop_front", "Name"),
            Note("who is found by name"),
            **here,
        ),
        Key(
            "NetworkSpec.driver",
            "networks.driver",
            Network("Driver", "bridge"),
            Note("overlay and bridge; others are refused"),
            **here,
        ),
        Key(
            "NetworkSpec.driver_options",
            "networks.driver_opts",
            Network("Options", {"com.docker.network.driver.mtu": "1400"}),
            Note("nothing that concerns one node's bridge"),
            network={"driver_options": (("com.docker.network.driver.mtu", "1400"), ("encrypted", "true"))},
            **here,
        ),
        Key(
            "NetworkSpec.internal",
            "networks.internal",
            Network("Internal", True),
            Note("no route out"),
            network={"internal": True},
            task=task,
            group="internal",
        ),
        Key("NetworkSpec.attachable", "networks.attachable", **ENGINE),
        Key(
            "NetworkSpec.ipv6",
            "networks.enable_ipv6",
            Network("EnableIPv6", True),
            refused,
            network={"ipv6": True},
            task=task,
            group="ipv6",
        ),
        Key(
            "NetworkSpec.ipam_driver", "networks.ipam.driver", Network("IPAM.Driver", "default"), Note("`default` only"), **here
        ),
        Key(
            "NetworkSpec.pools",
            "networks.ipam.config",
            Network("IPAM.Config.0.Subnet", "10.117.3.0/24"),
            refused,
            network={"pools": alone.pools},
            task=task,
            group="pools",
        ),
        *(
            Key(
                f"Pool.{name}",
                f"networks.ipam.config.{name}",
                Network(f"IPAM.Config.0.{told}", pool[name]),
                refused,
                network={"pools": alone.pools},
                task=task,
                group="pools",
            )
            for name, told in (("subnet", "Subnet"), ("gateway", "Gateway"), ("ip_range", "IPRange"))
        ),
        Key(
            "NetworkSpec.labels",
            "networks.labels",
            Network("Labels.team", "shop", "Labels"),
            Note("not kept on the node"),
            network={"labels": (("team", "shop"),)},
            **here,
        ),
    )


def page(table: tuple[Key, ...]) -> str:
    """The table as docs/stack-file.md has it: a line for each way of writing."""
    lines = ["| key | Docker | process |", "|---|---|---|"]
    for written in dict.fromkeys(key.written for key in table):
        rows = [key for key in table if key.written == written]
        told = ("; ".join(dict.fromkeys(key.effect(name).said for key in rows)) for name in ("docker", "process"))
        lines.append(f"| {_code(written)} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def _code(written: str) -> str:
    return written if written.startswith("(") else f"`{written}`"
