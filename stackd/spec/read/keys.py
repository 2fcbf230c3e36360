"""The words of the stack-file language: what is read at each place, and what the wider Compose language has there too.

A key of the wider language that isn't read is refused by name, with what to write instead where there is something; one
that changes nothing in a stack is taken with a warning that says what happens. The JSON schema lists the same keys; a
test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stackd.spec.read.value import EXTENSION, Keys


def _keys(
    known: str,
    later: str = "",
    *,
    ignored: Mapping[str, str] | None = None,
    elsewhere: Mapping[str, str] | None = None,
    **hints: str,
) -> Keys:
    return Keys(frozenset(known.split()), {**dict.fromkeys(later.split(), ""), **hints}, ignored or {}, elsewhere or {})


def _within(path: str, keys: Keys) -> dict[str, str]:
    """The keys of the mapping at `path`, which are often written one level too high."""
    return {name: f"write it as {path}.{name}" for name in keys.known}


INCLUDE = _keys("path project_directory env_file")

EXTENDS = _keys("service file")

ENV_FILE = _keys("path required format")

BUILD = frozenset(["context", "dockerfile", "args", "labels", "cache_from", "extra_hosts", "network", "target"])
"""What is shown of `build`. It is another program's section, so every key is taken there."""

DEPENDENCY = _keys("condition required", ignored={"restart": "a service is not restarted with one that it waits for"})

HEALTHCHECK = _keys("test interval timeout start_period start_interval retries disable")

LOGGING = _keys("driver options")

CREDENTIALS = _keys("config file registry")

ULIMIT = _keys("soft hard")

DEVICE = _keys("source target permissions")

PORT = _keys(
    "target published protocol mode host_ip",
    ignored={
        "app_protocol": "it is a note for people",
        "name": "it is a note for people",
    },
)

FILE_REFERENCE = _keys("source target uid gid mode")

SERVICE_NETWORK = _keys(
    "aliases driver_opts ipv4_address ipv6_address",
    "gw_priority interface_name link_local_ips",
    ignored={
        "ipv4_address": "addresses are chosen by the cluster; use the name",
        "ipv6_address": "addresses are chosen by the cluster; use the name",
        "mac_address": "addresses are chosen by the cluster",
        "priority": "networks are joined in the order of their names",
    },
)

UPDATE = _keys("parallelism delay failure_action monitor max_failure_ratio order")

RESTART_POLICY = _keys("condition delay max_attempts window")

LIMITS = _keys("cpus memory pids", "devices generic_resources")

RESERVATIONS = _keys(
    "cpus memory generic_resources",
    "pids",
    devices="name what the node offers: generic_resources: [{discrete_resource_spec: {kind: gpu, value: 1}}]",
)

GENERIC_RESOURCE = _keys("discrete_resource_spec")

DISCRETE_RESOURCE = _keys("kind value")

RESOURCES = _keys("limits reservations", elsewhere=_within("deploy.resources.limits", LIMITS))

PLACEMENT = _keys("constraints preferences max_replicas_per_node")

PREFERENCE = _keys("spread")

_WITHIN_DEPLOY = (
    _within("deploy.restart_policy", RESTART_POLICY)
    | _within("deploy.update_config", UPDATE)
    | _within("deploy.resources.limits", LIMITS)
    | _within("deploy.resources", RESOURCES)
    | _within("deploy.placement", PLACEMENT)
)

MOUNT = _keys("type source target read_only consistency bind volume tmpfs", "cluster image")

MOUNT_BIND = _keys("propagation create_host_path", "recursive", ignored={"selinux": "label the folder on the nodes"})

MOUNT_VOLUME = _keys("nocopy subpath", "labels")

MOUNT_TMPFS = _keys("size mode")

NETWORK = _keys(
    f"name driver driver_opts ipam external internal attachable enable_ipv6 labels {EXTENSION}",
    "enable_ipv4",
)

IPAM = _keys("driver config", "options")

POOL = _keys("subnet gateway ip_range", "aux_addresses")

VOLUME = _keys(f"name external driver driver_opts labels {EXTENSION}")

EXTERNAL = _keys("name")

CONFIG = _keys(f"name file content environment external labels template_driver {EXTENSION}")

SECRET = _keys(f"name file content environment external labels driver driver_opts template_driver {EXTENSION}")

STACK_EXTENSION = _keys("executor fence drain", "approval health_gate hooks prune wave")

SERVICE_EXTENSION = _keys("executor fence drain update", "approval health_gate hooks moved_from prune wave")

UPDATE_EXTENSION = _keys("progress_deadline")

OBJECT_EXTENSION = _keys("", "moved_from prune")

_DEPLOY = _keys("mode replicas endpoint_mode update_config rollback_config restart_policy resources placement labels")

_SERVICE_WITHOUT_EFFECT = {
    "attach": "the output of all tasks is in `stackd service logs`",
    "build": "the image is run as it is in the registry: build and push it before",
    "cgroup_parent": "tasks are grouped by the engine",
    "cgroupns_mode": "the engine's default holds",
    "container_name": "tasks are named after their service and slot",
    "develop": "it is for `docker compose watch`",
    "domainname": "write the whole name as hostname",
    "expose": "a port inside of a network needs no declaration",
    "external_links": "services in one network find each other by name",
    "ipc": "each task has its own",
    "links": "services in one network find each other by name",
    "mac_address": "addresses are chosen by the cluster",
    "network_mode": "write the networks under networks",
    "pid": "each task has its own",
    "userns_mode": "the engine's default holds",
}

SERVICE = _keys(
    "build cap_add cap_drop cgroup_parent cgroupns_mode command configs container_name credential_spec depends_on deploy"
    " devices dns dns_opt dns_search domainname entrypoint env_file environment expose extends external_links extra_hosts"
    " group_add healthcheck hostname image init ipc isolation labels links logging mac_address network_mode networks"
    " oom_score_adj pid pids_limit platform ports privileged profiles pull_policy read_only restart runtime secrets"
    " security_opt shm_size stdin_open stop_grace_period stop_signal sysctls tmpfs tty ulimits user userns_mode volumes"
    f" working_dir {EXTENSION}",
    "annotations blkio_config cgroup cpu_count cpu_percent cpu_period cpu_rt_period cpu_rt_runtime device_cgroup_rules"
    " label_file mem_swappiness models oom_kill_disable provider storage_opt use_api_socket uts",
    ignored=_SERVICE_WITHOUT_EFFECT,
    elsewhere=_WITHIN_DEPLOY | _within("deploy", _DEPLOY) | _within(EXTENSION, SERVICE_EXTENSION),
    cpu_quota="write it as deploy.resources.limits.cpus",
    cpu_shares="write it as deploy.resources.reservations.cpus",
    cpus="write it as deploy.resources.limits.cpus",
    cpuset="write it as deploy.resources.limits.cpus",
    gpus="write it as deploy.resources.reservations.generic_resources",
    mem_limit="write it as deploy.resources.limits.memory",
    mem_reservation="write it as deploy.resources.reservations.memory",
    memswap_limit="write it as deploy.resources.limits.memory",
    post_start="let the entrypoint do it",
    pre_stop="let the program do it when it gets its stop_signal",
    scale="write it as deploy.replicas",
    volume_driver="define the volume at the top level, with its driver",
    volumes_from="define the volume at the top level, and name it in each service",
)

DEPLOY = replace(_DEPLOY, elsewhere=dict.fromkeys(SERVICE.known, "it stands in the service, beside deploy") | _WITHIN_DEPLOY)

STACK = _keys(
    f"version name include services networks volumes configs secrets {EXTENSION}",
    "models",
    elsewhere=dict.fromkeys(SERVICE.known, "it stands in a service, under services"),
)
