"""What a right file means: every key that is read, and what is taken where one is left out."""

from __future__ import annotations

import pytest
from stackd.base.time import MINUTE, SECOND
from stackd.spec.digest import blob_digest, spec_digest
from stackd.spec.stack import (
    ConfigSpec,
    ContainerSpec,
    CredentialSpec,
    Dependency,
    DependencyCondition,
    Device,
    EndpointMode,
    External,
    ExternalKind,
    FailureAction,
    FileRef,
    GenericResource,
    Healthcheck,
    LogDriver,
    Mount,
    MountType,
    NetworkAttachment,
    NetworkSpec,
    Placement,
    Pool,
    Port,
    PublishMode,
    Resources,
    RestartCondition,
    RestartPolicy,
    SecretSpec,
    ServiceMode,
    ServiceSettings,
    ServiceSpec,
    StackSpec,
    TaskSpec,
    Ulimit,
    UpdateConfig,
    UpdateOrder,
)

from spec_builders import EVERY_KEY, FURTHER_KEYS, a_service, load, service_file

SITE = blob_digest(b"listen 80;\n")


def test_every_supported_key_has_its_meaning() -> None:
    web = ServiceSpec(
        name="web",
        task=TaskSpec(
            container=ContainerSpec(
                image="registry.example.com/shop/web:1.4",
                entrypoint=("/entry",),
                command=("serve", "--name", "the shop"),
                env=("COLOUR=blue", "HOME=/home/ann", "LEVEL=info", "WORKERS=4"),
                working_dir="/srv",
                user="1000:1000",
                hostname="shop",
                labels=(("team", "web"),),
                healthcheck=Healthcheck(
                    test=("CMD", "curl", "-f", "http://localhost"),
                    interval_ns=90 * SECOND,
                    timeout_ns=5 * SECOND,
                    start_period_ns=10 * SECOND,
                    retries=3,
                ),
                stop_signal="SIGQUIT",
                stop_grace_ns=20 * SECOND,
                mounts=(
                    Mount(type=MountType.VOLUME, target="/cache"),
                    Mount(type=MountType.BIND, target="/srv/html", source="/srv/shop/html", read_only=True),
                    Mount(type=MountType.TMPFS, target="/tmp", size_bytes=64 * 1024**2),
                    Mount(
                        type=MountType.VOLUME,
                        target="/var/lib/data",
                        source="shop_data",
                        driver="local",
                        driver_options=(("type", "nfs"),),
                        labels=(("keep", "yes"),),
                    ),
                ),
                configs=(
                    FileRef(source="shop_site", target="/etc/site.conf", uid="7", gid="8", mode=0o440, digest=SITE),
                    FileRef(source="shop_site", target="/site", digest=SITE),
                ),
                secrets=(FileRef(source="shop_password", target="/run/secrets/password"),),
            ),
            limits=Resources(nano_cpus=500_000_000, memory_bytes=64 * 1024**2, pids=100),
            reservations=Resources(nano_cpus=250_000_000, memory_bytes=32 * 1024**2),
            restart=RestartPolicy(condition=RestartCondition.ON_FAILURE, delay_ns=SECOND, max_attempts=3, window_ns=MINUTE),
            placement=Placement(constraints=("node.role == manager",)),
            ports=(
                Port(target=53, published=5353, protocol="udp", mode=PublishMode.HOST),
                Port(target=80, published=8080),
            ),
            networks=(NetworkAttachment(network="shop_default", aliases=("web",)),),
        ),
        settings=ServiceSettings(
            replicas=1,
            labels=(("public", ""), ("tier", "front")),
            update=UpdateConfig(
                parallelism=2,
                delay_ns=5 * SECOND,
                failure_action=FailureAction.ROLLBACK,
                monitor_ns=30 * SECOND,
                max_failure_ratio=0.2,
                order=UpdateOrder.STOP_FIRST,
            ),
            rollback=UpdateConfig(parallelism=0, failure_action=FailureAction.CONTINUE),
        ),
    )
    agent = ServiceSpec(
        name="agent",
        task=TaskSpec(
            container=ContainerSpec(image="agent"),
            restart=RestartPolicy(condition=RestartCondition.ON_FAILURE, max_attempts=2),
            networks=(NetworkAttachment(network="shop_default", aliases=("agent",)),),
        ),
        settings=ServiceSettings(mode=ServiceMode.GLOBAL, replicas=0),
    )
    loaded = load(EVERY_KEY)
    assert loaded.spec == StackSpec(
        name="shop",
        services=(agent, web),
        configs=(ConfigSpec(name="shop_site", digest=SITE, data=b"listen 80;\n"),),
        secrets=(SecretSpec(name="shop_password", data=b"hush"),),
        networks=(NetworkSpec(name="shop_default"),),
    )
    assert loaded.warnings == ()
    assert loaded.side_files == ("./password", ".env", "app.env", "site.conf")


def test_a_service_with_nothing_but_an_image_takes_all_defaults() -> None:
    task = TaskSpec(
        container=ContainerSpec(image="nginx"), networks=(NetworkAttachment(network="shop_default", aliases=("web",)),)
    )
    assert a_service() == ServiceSpec(name="web", task=task)


@pytest.mark.parametrize(
    ("text", "file", "given", "expected"),
    [
        ("name: own\n", "x/stack.yaml", "given", "own"),
        ("", "x/stack.yaml", "given", "given"),
        ("", "stacks/shop/stack.yaml", None, "shop"),
        ("", "stacks/shop/docker-compose.yml", None, "shop"),
        ("", "stacks/blog.yaml", None, "blog"),
        ("", "stack.yaml", None, "folder"),
    ],
)
def test_a_stack_is_named_by_its_file_then_by_the_caller_then_by_its_place(
    text: str, file: str, given: str | None, expected: str
) -> None:
    assert load(text + service_file(), file=file, name=given, directory="/home/folder").spec.name == expected


def test_services_are_sorted_by_name() -> None:
    spec = load("services: {b: {image: x}, c: {image: x}, a: {image: x}}").spec
    assert [service.name for service in spec.services] == ["a", "b", "c"]


# Environment


def test_environment_wins_over_env_files_and_later_files_over_earlier_ones() -> None:
    files = {"one.env": b"A=1\nB=1\nC=1\n", "two.env": b"B=2\nC=2\n"}
    service = a_service("env_file: [one.env, two.env]\nenvironment: {C: 3}", files=files)
    assert service.task.container.env == ("A=1", "B=2", "C=3")


def test_a_name_without_a_value_takes_it_from_the_environment_or_stays_bare() -> None:
    assert a_service("environment: [HOME, NOWHERE, EMPTY]").task.container.env == ("EMPTY=", "HOME=/home/ann", "NOWHERE")
    assert a_service("environment: {HOME: , NOWHERE: }").task.container.env == ("HOME=/home/ann", "NOWHERE")


def test_numbers_and_truth_values_in_the_environment_are_printed_as_the_official_client_does() -> None:
    settings = "environment: {A: 1.10, B: 0x10, C: true, D: 1e30, E: no, F: 0010, G: 1_000, H: 0.00001, I: .5, J: 1e6}"
    assert a_service(settings).task.container.env == (
        "A=1.1", "B=16", "C=true", "D=1e+30", "E=no", "F=8", "G=1000", "H=1e-05", "I=0.5", "J=1e+06",
    )  # fmt: skip


def test_an_equals_sign_in_a_value_is_kept() -> None:
    assert a_service("environment: ['A=b=c', 'D=']").task.container.env == ("A=b=c", "D=")


def test_env_files_are_taken_literally() -> None:
    files = {"app.env": b"\xef\xbb\xbfA='quoted' # no comment\r\n\n  # a comment\n B=${TAG}\n"}
    assert a_service("env_file: app.env", files=files).task.container.env == ("A='quoted' # no comment", "B=${TAG}")


# Commands and health checks


@pytest.mark.parametrize("command", ["", '""', "[]", "null"])
def test_an_empty_command_means_the_images_own(command: str) -> None:
    assert a_service(f"command: {command}").task.container.command is None


def test_a_text_as_health_check_is_a_line_for_the_shell() -> None:
    healthcheck = a_service("healthcheck: {test: curl localhost}").task.container.healthcheck
    assert healthcheck == Healthcheck(test=("CMD-SHELL", "curl localhost"))


def test_a_disabled_health_check_is_none() -> None:
    assert a_service("healthcheck: {disable: true}").task.container.healthcheck == Healthcheck(test=("NONE",))


def test_a_health_check_without_a_test_changes_the_times_of_the_images_own() -> None:
    assert a_service("healthcheck: {interval: 5s}").task.container.healthcheck == Healthcheck(test=(), interval_ns=5 * SECOND)


# Mounts


def test_a_home_folder_comes_from_the_environment() -> None:
    mounts = a_service("volumes: ['~/site:/srv', '~:/home']").task.container.mounts
    assert [mount.source for mount in mounts] == ["/home/ann", "/home/ann/site"]


def test_relative_bind_mounts_start_from_the_stack_files_folder() -> None:
    mounts = a_service("volumes: ['./a:/a', '../b:/b', {type: bind, source: c/d, target: /c}]").task.container.mounts
    assert [mount.source for mount in mounts] == ["/srv/shop/a", "/srv/b", "/srv/shop/c/d"]


@pytest.mark.parametrize(
    ("definition", "source"),
    [("", "shop_data"), ("{name: own}", "own"), ("{external: true}", "data"), ("{external: {name: old}}", "old")],
)
def test_a_volume_is_called_by_its_stack_unless_it_has_a_name_or_is_external(definition: str, source: str) -> None:
    text = service_file("volumes: ['data:/data:nocopy']", f"volumes: {{data: {definition}}}")
    (mount,) = load(text).spec.services[0].task.container.mounts
    assert mount == Mount(type=MountType.VOLUME, target="/data", source=source, no_copy=True)


def test_options_without_effect_are_warned_of() -> None:
    loaded = load(service_file("volumes: ['./a:/a:ro,Z', {type: tmpfs, target: /b, consistency: cached}]"))
    assert [warning.code for warning in loaded.warnings] == ["spec.value.ignored"] * 2


# Configs and secrets


def test_relative_targets_of_secrets_are_in_the_folder_of_secrets() -> None:
    text = service_file("secrets: [{source: password, target: db/pw}]", "secrets: {password: {file: password}}")
    (secret,) = load(text).spec.services[0].task.container.secrets
    assert secret.target == "/run/secrets/db/pw"


@pytest.mark.parametrize(("written", "mode"), [("0440", 0o440), ('"0440"', 0o440), ("0o440", 0o440), ("288", 0o440)])
def test_permissions_are_octal_however_they_are_quoted(written: str, mode: int) -> None:
    text = service_file(f"configs: [{{source: site, mode: {written}}}]", "configs: {site: {file: site.conf}}")
    (config,) = load(text).spec.services[0].task.container.configs
    assert config.mode == mode


def test_permissions_that_look_octal_and_are_decimal_are_warned_of() -> None:
    text = service_file("configs: [{source: site, mode: 440}]", "configs: {site: {file: site.conf}}")
    (warning,) = load(text).warnings
    assert (warning.code, warning.hint) == ("spec.mode.decimal", "did you mean 0440?")


def test_what_no_service_uses_is_warned_of_and_kept() -> None:
    loaded = load(service_file("", "volumes: {data: }\nconfigs: {site: {file: site.conf}}"))
    assert [warning.message for warning in loaded.warnings] == [
        'no service uses the volume "data"',
        'no service uses the config "site"',
    ]
    assert [config.name for config in loaded.spec.configs] == ["shop_site"]


# Deploy


@pytest.mark.parametrize(
    ("restart", "expected"),
    [
        ("always", RestartPolicy()),
        ("unless-stopped", RestartPolicy()),
        ("on-failure", RestartPolicy(condition=RestartCondition.ON_FAILURE)),
        ("on-failure:4", RestartPolicy(condition=RestartCondition.ON_FAILURE, max_attempts=4)),
    ],
)
def test_the_short_restart_key_is_a_restart_policy(restart: str, expected: RestartPolicy) -> None:
    assert a_service(f"restart: {restart}").task.restart == expected


def test_the_restart_policy_of_deploy_wins_over_the_short_key() -> None:
    service = a_service("restart: always\ndeploy: {restart_policy: {condition: none}}")
    assert service.task.restart.condition is RestartCondition.NONE


def test_restart_no_restarts_as_in_the_official_client_and_says_so() -> None:
    loaded = load(service_file("restart: no"))
    assert loaded.spec.services[0].task.restart == RestartPolicy()
    assert [warning.code for warning in loaded.warnings] == ["spec.value.ignored"]


def test_a_monitor_of_zero_is_the_default() -> None:
    assert a_service("deploy: {update_config: {monitor: 0s}}").settings.update.monitor_ns == 5 * SECOND


def test_an_empty_deploy_section_says_nothing() -> None:
    assert a_service("deploy:") == a_service()


def test_texts_are_taken_as_numbers_and_truth_values_where_those_are_expected() -> None:
    settings = "deploy: {replicas: '3', update_config: {max_failure_ratio: '0.5'}}\nhealthcheck: {disable: 'yes'}"
    service = a_service(settings)
    assert (service.settings.replicas, service.settings.update.max_failure_ratio) == (3, 0.5)
    assert service.task.container.healthcheck == Healthcheck(test=("NONE",))


# Spelling


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("environment: {A: 1, B: x}", "environment: [B=x, A=1]"),
        ("command: sleep 5", "command: [sleep, '5']"),
        ("labels: {a: b}", "labels: [a=b]"),
        ("ports: ['53:53/udp']", "ports: [{target: 53, published: 53, protocol: udp}]"),
        ("ports: [8080:80, 81:81]", "ports: ['81:81', '8080:80/tcp']"),
        ("volumes: ['./a:/a:ro', '/b']", "volumes: [/b/, {type: bind, source: /srv/shop/a, target: /a, read_only: true}]"),
        ("stop_grace_period: 90s", "stop_grace_period: 1m30s"),
        (
            "deploy: {resources: {limits: {cpus: 0.5, memory: 1G}}}",
            "deploy: {resources: {limits: {cpus: '.50', memory: 1024m}}}",
        ),
        (
            "deploy: {placement: {constraints: [node.role==manager]}}",
            "deploy: {placement: {constraints: ['node.role  ==  manager']}}",
        ),
    ],
)
def test_two_spellings_of_one_meaning_have_one_digest(one: str, other: str) -> None:
    assert spec_digest(a_service(one).task) == spec_digest(a_service(other).task)


# The further keys


def test_every_further_key_has_its_meaning() -> None:
    loaded = load(FURTHER_KEYS)
    base, db, web = loaded.spec.services
    container = web.task.container
    assert container.cap_add == ("CAP_NET_ADMIN",)
    assert container.cap_drop == ("ALL",)
    assert container.devices == (
        Device(source="/dev/fuse", target="/dev/fuse"),
        Device(source="/dev/ttyUSB0", target="/dev/modem", permissions="rw"),
    )
    assert (container.dns_servers, container.dns_search, container.dns_options) == (
        ("10.0.0.53",),
        ("example.com",),
        ("ndots:2",),
    )
    assert container.hosts == ("10.0.0.7 db", "::1 v6")
    assert container.groups == ("44", "audio")
    assert container.healthcheck == Healthcheck(test=("CMD", "ok"), start_interval_ns=SECOND)
    assert (container.init, container.tty, container.stdin_open, container.read_only) == (True, True, True, True)
    assert (container.oom_score_adj, container.shm_size_bytes, container.privileged) == (100, 128 * 1024**2, True)
    assert (container.platform, container.pull_policy, container.runtime) == ("linux/arm64", "missing", "runsc")
    assert container.security_options == ("no-new-privileges:true",)
    assert container.sysctls == (("net.core.somaxconn", "1024"),)
    assert container.ulimits == (Ulimit(name="core", soft=0, hard=-1), Ulimit(name="nofile", soft=1024, hard=1024))
    assert [(mount.type, mount.source, mount.target) for mount in container.mounts] == [
        (MountType.CLUSTER, "shop_data", "/cluster"),
        (MountType.VOLUME, "shop_data", "/data"),
        (MountType.BIND, "/new", "/new"),
        (MountType.TMPFS, "", "/run"),
        (MountType.TMPFS, "", "/scratch"),
        (MountType.BIND, "/srv", "/srv"),
        (MountType.TMPFS, "", "/tmp"),
        (MountType.IMAGE, "tools", "/tools"),
    ]
    assert [(mount.size_bytes, mount.tmpfs_mode) for mount in container.mounts if mount.type is MountType.TMPFS] == [
        (64 * 1024**2, 0o1770),
        (1024**2, 0o1777),
        (0, 0),
    ]
    assert [mount.subpath for mount in container.mounts if mount.target == "/data"] == ["a/b"]
    assert [(mount.propagation, mount.create_host_path) for mount in container.mounts if mount.type is MountType.BIND] == [
        ("", True),
        ("rslave", False),
    ]
    assert [(config.source, config.target, config.template) for config in container.configs] == [
        ("shop_text", "/text", "golang"),
        ("variable-config", "/variable", ""),
    ]
    assert container.secrets == (FileRef(source="theirs", target="/run/secrets/theirs"),)
    assert web.task.limits == Resources(pids=100)
    assert web.task.reservations == Resources(generic=(GenericResource(kind="gpu", amount=2),))
    assert web.task.placement == Placement(spread=("node.labels.zone", "node.labels.rack"), max_per_node=2)
    assert web.task.networks == (
        NetworkAttachment(network="host"),
        NetworkAttachment(network="shop_front", aliases=("web", "www"), driver_options=(("mtu", "1400"),)),
        NetworkAttachment(network="their-net", aliases=("shop", "web")),
    )
    assert web.task.log == LogDriver(name="json-file", options=(("max-file", "3"), ("max-size", "10m")))
    assert (web.task.executor, web.task.fence, web.settings.drain_start_first) == ("process", True, True)
    assert web.settings.update.progress_deadline_ns == 60 * MINUTE
    assert web.settings.endpoint_mode is EndpointMode.DNSRR
    assert web.settings.depends_on == (
        Dependency(service="cache", required=False),
        Dependency(service="db", condition=DependencyCondition.HEALTHY),
    )
    assert (base.task.executor, base.task.fence) == ("docker", True)
    assert (db.task.container.image, db.task.container.stop_grace_ns) == ("postgres", MINUTE)
    assert (db.settings.mode, db.settings.replicas) == (ServiceMode.REPLICATED_JOB, 4)
    assert db.task.container.credentials == CredentialSpec(config="shop_text")


def test_networks_configs_and_secrets_of_the_top_level_have_their_meaning() -> None:
    spec = load(FURTHER_KEYS).spec
    front = NetworkSpec(
        name="shop_front",
        driver="overlay",
        driver_options=(("encrypted", ""),),
        internal=True,
        attachable=True,
        ipv6=True,
        ipam_driver="default",
        pools=(Pool(subnet="10.1.0.0/16", gateway="10.1.0.1", ip_range="10.1.4.0/24"),),
        labels=(("tier", "front"),),
    )
    assert spec.networks == (NetworkSpec(name="shop_default"), front)
    assert spec.externals == (
        External(kind=ExternalKind.NETWORK, name="their-net"),
        External(kind=ExternalKind.SECRET, name="theirs"),
    )
    assert [(config.name, config.data, config.template) for config in spec.configs] == [
        ("shop_text", b"listen 80;\n", "golang"),
        ("variable-config", b"/home/ann", ""),
    ]
    assert spec.secrets == (SecretSpec(name="shop_vault", data=b"", driver="vault", driver_options=(("path", "a"),)),)


def test_a_network_that_no_service_uses_is_not_made() -> None:
    loaded = load(service_file("", "networks: {front: {driver: overlay}}"))
    assert [network.name for network in loaded.spec.networks] == ["shop_default"]
    assert [warning.message for warning in loaded.warnings] == ['no service uses the network "front"']


@pytest.mark.parametrize(
    ("add", "drop", "added", "dropped"),
    [
        ("[net_admin, NET_ADMIN]", "[]", ("CAP_NET_ADMIN",), ()),
        ("[NET_ADMIN]", "[net_admin, MKNOD]", ("CAP_NET_ADMIN",), ("CAP_MKNOD",)),
        ("[ALL, NET_ADMIN]", "[ALL]", ("ALL",), ()),
        ("[NET_ADMIN]", "[all]", ("CAP_NET_ADMIN",), ("ALL",)),
    ],
)
def test_adding_a_capability_wins_over_dropping_it(
    add: str, drop: str, added: tuple[str, ...], dropped: tuple[str, ...]
) -> None:
    container = a_service(f"cap_add: {add}\ncap_drop: {drop}").task.container
    assert (container.cap_add, container.cap_drop) == (added, dropped)


# Warnings


@pytest.mark.parametrize(
    ("settings", "code", "hint"),
    [
        ("container_name: x", "spec.key.ignored", "named after their service and slot"),
        ("links: [a]", "spec.key.ignored", "find each other by name"),
        ("build: {context: ., whatever: 1}", "spec.key.ignored", "as it is in the registry"),
        ("develop: {watch: []}", "spec.key.ignored", "docker compose watch"),
        ("networks: {default: {ipv4_address: 10.0.0.7}}", "spec.key.ignored", "chosen by the cluster"),
        ("deploy: {mode: replicated-job, update_config: {}}", "spec.key.ignored", "remove it"),
        ("environment: {DB_PASSWORD: hunter22}", "spec.environment.secret", "DB_PASSWORD_FILE"),
        ("environment: [API_KEY=abcdef]", "spec.environment.secret", "use secrets"),
        ("deploy: {replicas: 3, update_config: {parallelism: 0}}", "spec.update.outage", "at most 2"),
        ("ports: ['80:80']\ndeploy: {replicas: 2}", "spec.port.replicas", "free port for each task"),
        ("ports: ['80:80']\ndeploy: {update_config: {order: start-first}}", "spec.port.one_listener", "stop-first"),
        ("depends_on: [db]", "spec.dependency.undefined", "define the service"),
    ],
)
def test_what_has_no_effect_or_looks_like_a_mistake_is_warned_of(settings: str, code: str, hint: str) -> None:
    (warning,) = load(service_file(settings)).warnings
    assert warning.code == code
    assert hint in (warning.hint or "")
    assert warning.position is not None


@pytest.mark.parametrize(
    "environment",
    ["{DB_PASSWORD: '${HOME}'}", "{DB_PASSWORD: }", "{DB_PASSWORD_FILE: /run/x}", "{TOKEN: /run/secrets/t}", "{PASSWORD: ''}"],
)
def test_a_secret_from_elsewhere_is_not_warned_of(environment: str) -> None:
    assert load(service_file(f"environment: {environment}")).warnings == ()


def test_an_external_network_with_settings_is_warned_of() -> None:
    loaded = load(service_file("networks: [n]", "networks: {n: {external: true, driver: overlay}}"))
    assert [warning.code for warning in loaded.warnings] == ["spec.key.ignored"]
    assert loaded.spec.externals == (External(kind=ExternalKind.NETWORK, name="n"),)
