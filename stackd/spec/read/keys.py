"""The words of the stack-file language: what is read at each place, and what the wider Compose language has there too.

A key of the wider language that isn't read yet is refused by name, with what to write instead where there is something.
The JSON schema lists the same known keys; a test compares the two.
"""

from __future__ import annotations

from stackd.spec.read.value import Keys


def _keys(known: str, later: str = "", **hints: str) -> Keys:
    return Keys(frozenset(known.split()), {**dict.fromkeys(later.split(), ""), **hints})


STACK = _keys(
    "version name services networks volumes configs secrets",
    "include models",
)

SERVICE = _keys(
    "image command entrypoint environment env_file ports volumes configs secrets labels healthcheck stop_signal"
    " stop_grace_period working_dir user hostname networks restart deploy",
    "annotations attach blkio_config cap_add cap_drop cgroup cgroup_parent cgroupns_mode cpu_count cpu_percent cpu_period"
    " cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpuset credential_spec develop device_cgroup_rules devices dns"
    " dns_opt dns_search domainname extends external_links extra_hosts gpus group_add init ipc isolation label_file logging"
    " mac_address mem_swappiness memswap_limit models network_mode oom_kill_disable oom_score_adj pid platform post_start"
    " pre_stop privileged profiles provider pull_policy read_only runtime security_opt shm_size stdin_open storage_opt"
    " sysctls tty ulimits use_api_socket userns_mode uts volume_driver volumes_from",
    build="stackd runs images and builds none: remove the key",
    container_name="remove it: tasks are named after their service and slot",
    cpus="write it as deploy.resources.limits.cpus",
    depends_on="remove it: services start together, and a program that fails is restarted until what it needs is there",
    expose="remove it: a port inside of the stack needs no declaration",
    links="remove it",
    mem_limit="write it as deploy.resources.limits.memory",
    mem_reservation="write it as deploy.resources.reservations.memory",
    pids_limit="write it as deploy.resources.limits.pids",
    scale="write it as deploy.replicas",
    tmpfs="write it under volumes with type: tmpfs",
)

HEALTHCHECK = _keys("test interval timeout start_period retries disable", "start_interval")

PORT = _keys("target published protocol mode host_ip", "app_protocol name")

FILE_REFERENCE = _keys("source target uid gid mode")

DEPLOY = _keys(
    "mode replicas update_config rollback_config restart_policy resources placement labels",
    "endpoint_mode",
)

UPDATE = _keys("parallelism delay failure_action monitor max_failure_ratio order")

RESTART_POLICY = _keys("condition delay max_attempts window")

RESOURCES = _keys("limits reservations")

LIMITS = _keys("cpus memory pids", "devices generic_resources")

RESERVATIONS = _keys("cpus memory", "devices generic_resources pids")

PLACEMENT = _keys("constraints", "preferences max_replicas_per_node")

MOUNT = _keys("type source target read_only consistency bind volume tmpfs", "cluster image")

MOUNT_BIND = _keys("", "create_host_path propagation recursive selinux")

MOUNT_VOLUME = _keys("nocopy", "labels subpath")

MOUNT_TMPFS = _keys("size", "mode")

VOLUME = _keys("name external driver driver_opts labels")

VOLUME_EXTERNAL = _keys("name")

FILE_OBJECT = _keys(
    "file",
    "content driver driver_opts environment labels name template_driver",
    external="give its content with file:, so that it is versioned with the stack",
)

SERVICE_NETWORK = _keys(
    "",
    "aliases driver_opts gw_priority interface_name ipv4_address ipv6_address link_local_ips mac_address priority",
)

NETWORK = _keys(
    "",
    "attachable driver driver_opts enable_ipv4 enable_ipv6 external internal ipam labels name",
)
