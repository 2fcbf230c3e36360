"""What a container is created with beyond the plain settings, and what an engine of some version can't do."""

from __future__ import annotations

from typing import Any

import pytest
from stackd.agent.executor.base import TaskContext
from stackd.agent.executor.docker.body import Joined, check_supported, create_body
from stackd.agent.executor.docker.networks import joined, network_body
from stackd.base.errors import TaskFault
from stackd.base.time import SECOND, Duration
from stackd.spec.stack import (
    CredentialSpec,
    Device,
    Healthcheck,
    LogDriver,
    Mount,
    MountType,
    NetworkAttachment,
    NetworkSpec,
    Pool,
    Port,
    Ulimit,
)

from docker_builders import a_context

OLD, NEW = (1, 41), (1, 50)


def host_config(**settings: Any) -> dict[str, Any]:
    config: dict[str, Any] = create_body(a_context(**settings), "data1", ())["HostConfig"]
    return config


def refusal(api: tuple[int, int] = OLD, system: str = "linux", **settings: Any) -> str:
    with pytest.raises(TaskFault) as fault:
        check_supported(a_context(**settings).spec, api, system)
    assert fault.value.code == "agent.docker.unsupported"
    return fault.value.message


def test_rights_and_limits_reach_the_engine_under_its_names() -> None:
    config = host_config(
        read_only=True,
        privileged=True,
        init=False,
        groups=("docker",),
        cap_add=("CAP_NET_ADMIN",),
        cap_drop=("ALL",),
        devices=(Device(source="/dev/a", target="/dev/b", permissions="r"),),
        sysctls=(("net.core.somaxconn", "9"),),
        ulimits=(Ulimit(name="nofile", soft=1, hard=-1),),
        shm_size_bytes=5,
        oom_score_adj=-3,
        security_options=("seccomp=unconfined",),
        runtime="runsc",
        isolation="default",
        hosts=("10.0.0.1 db", "fe80::1 six"),
        dns_servers=("10.0.0.2",),
        dns_search=("example.org",),
        dns_options=("ndots:2",),
        task={"log": LogDriver(name="syslog", options=(("tag", "x"),))},
    )
    assert {key: config[key] for key in config.keys() - {"NetworkMode", "RestartPolicy", "Mounts", "PortBindings"}} == {
        "ReadonlyRootfs": True,
        "Privileged": True,
        "Init": False,
        "GroupAdd": ["docker"],
        "CapAdd": ["CAP_NET_ADMIN"],
        "CapDrop": ["ALL"],
        "Devices": [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}],
        "Sysctls": {"net.core.somaxconn": "9"},
        "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": -1}],
        "ShmSize": 5,
        "OomScoreAdj": -3,
        "SecurityOpt": ["seccomp=unconfined"],
        "Runtime": "runsc",
        "Isolation": "default",
        "ExtraHosts": ["db:10.0.0.1", "six:fe80::1"],
        "Dns": ["10.0.0.2"],
        "DnsSearch": ["example.org"],
        "DnsOptions": ["ndots:2"],
        "LogConfig": {"Type": "syslog", "Config": {"tag": "x"}},
    }


def test_terminal_and_open_input_are_the_containers_own_settings() -> None:
    body = create_body(a_context(tty=True, stdin_open=True), "data1", ())
    assert (body["Tty"], body["OpenStdin"]) == (True, True)


def test_a_source_that_is_to_be_made_is_bound_in_the_form_in_which_every_engine_does_that() -> None:
    made = Mount(type=MountType.BIND, source="/a", target="/b", read_only=True, propagation="rslave", create_host_path=True)
    config = host_config(mounts=(made, Mount(type=MountType.BIND, source="/c", target="/d", propagation="shared")))
    assert config["Binds"] == ["/a:/b:ro,rslave"]
    assert [mount["BindOptions"] for mount in config["Mounts"]] == [{"Propagation": "shared"}]


def test_windows_credentials_are_a_security_option() -> None:
    assert host_config(credentials=CredentialSpec(file="c.json"))["SecurityOpt"] == ["credentialspec=file://c.json"]
    assert host_config(credentials=CredentialSpec(registry="r"))["SecurityOpt"] == ["credentialspec=registry://r"]


@pytest.mark.parametrize(
    ("settings", "since"),
    [
        ({"healthcheck": Healthcheck(test=("CMD", "x"), start_interval_ns=Duration(SECOND))}, "1.44"),
        ({"mounts": (Mount(type=MountType.VOLUME, source="v", target="/v", subpath="a"),)}, "1.45"),
        ({"mounts": (Mount(type=MountType.IMAGE, source="i", target="/v"),)}, "1.48"),
    ],
)
def test_what_the_engines_api_lacks_is_refused_by_name(settings: dict[str, Any], since: str) -> None:
    assert refusal(**settings).endswith(f"needs Docker API {since}, and the engine has 1.41")
    check_supported(a_context(**settings).spec, NEW, "linux")


def test_what_no_engine_can_do_is_refused() -> None:
    assert "swarm mode only" in refusal(mounts=(Mount(type=MountType.CLUSTER, source="x", target="/x"),))
    assert "subpath" in refusal(NEW, mounts=(Mount(type=MountType.BIND, source="/x", target="/x", subpath="a"),))
    assert "colon" in refusal(mounts=(Mount(type=MountType.BIND, source="/a:b", target="/x", create_host_path=True),))
    assert "Windows" in refusal(credentials=CredentialSpec(file="c"))
    assert "Windows" in refusal(system="windows", credentials=CredentialSpec(config="c"))
    check_supported(a_context(credentials=CredentialSpec(file="c")).spec, NEW, "windows")


def test_in_the_hosts_network_no_port_can_be_mapped() -> None:
    with pytest.raises(TaskFault, match="port 81:80 can't be mapped"):
        check_supported(on("host", ports=(Port(target=80, published=81),)).spec, NEW, "linux")
    check_supported(on("host", ports=(Port(target=80, published=80),)).spec, NEW, "linux")


def on(*names: str, ports: tuple[Port, ...] = (), known: tuple[NetworkSpec, ...] = ()) -> TaskContext:
    attachments = tuple(NetworkAttachment(network=name, aliases=("web",)) for name in names)
    context = a_context(task={"networks": attachments, "ports": ports})
    return TaskContext(context.assignment, context.spec, {}, {spec.name: spec for spec in known})


def engine_name(network: str) -> str:
    return f"x-{network}"


def test_a_task_is_found_by_its_service_and_aliases_and_the_same_after_tasks() -> None:
    (network,) = joined(on("front"), engine_name)
    assert network.aliases == ("web", "shop_web", "tasks.web", "tasks.shop_web")
    body = create_body(on("front"), "data1", (), (network,))
    assert body["HostConfig"]["NetworkMode"] == "x-front"
    assert body["NetworkingConfig"]["EndpointsConfig"]["x-front"] == {"Aliases": list(network.aliases)}
    assert body["Labels"]["stackd.networks"] == "front"


def test_the_engines_own_networks_know_no_names_and_decide_the_mode() -> None:
    assert [one.name for one in joined(on("front", "host"), lambda name: name)] == ["host", "front"]
    assert joined(on("none"), lambda name: name) == (Joined("none"),)


def test_ports_need_a_way_into_internal_networks() -> None:
    internal = NetworkSpec(name="back", internal=True)
    names = [one.name for one in joined(on("back", ports=(Port(target=80),), known=(internal,)), engine_name)]
    assert names == ["bridge", "x-back"]
    assert len(joined(on("back", known=(internal,)), engine_name)) == 1


def test_a_fixed_address_is_asked_for_by_its_version() -> None:
    endpoint = Joined("front", addresses=("10.0.0.9", "fd00::9")).endpoint
    assert endpoint == {"IPAMConfig": {"IPv4Address": "10.0.0.9", "IPv6Address": "fd00::9"}}


def test_an_overlay_is_a_bridge_here_without_the_options_that_are_about_the_way_between_nodes() -> None:
    spec = NetworkSpec(
        name="front",
        driver_options=(
            ("com.docker.network.driver.mtu", "9"),
            ("com.docker.network.driver.overlay.x", "1"),
            ("encrypted", ""),
        ),
        pools=(Pool(subnet="10.0.0.0/24"),),
        labels=(("team", "shop"), ("stackd.network", "other")),
    )
    body = network_body(spec, "data1", engine_name)
    assert (body["Name"], body["Driver"], body["Options"]) == ("x-front", "bridge", {"com.docker.network.driver.mtu": "9"})
    assert body["IPAM"] == {"Driver": "default", "Config": [{"Subnet": "10.0.0.0/24"}]}
    assert body["Labels"] == {"team": "shop", "stackd.network": "front", "stackd.data": "data1"}


def test_other_drivers_get_all_options_as_they_are() -> None:
    body = network_body(NetworkSpec(name="lan", driver="macvlan", driver_options=(("parent", "eth0"),)), "d", engine_name)
    assert (body["Driver"], body["Options"]) == ("macvlan", {"parent": "eth0"})


def test_ipv6_without_a_subnet_gets_a_local_one_that_is_always_the_same() -> None:
    first, again, other = (
        network_body(NetworkSpec(name=name, ipv6=True), "d", engine_name)["IPAM"]["Config"] for name in ("a", "a", "b")
    )
    assert first == again != other
    assert first[0]["Subnet"].startswith("fd")
    given = NetworkSpec(name="a", ipv6=True, pools=(Pool(subnet="fd00::/64"),))
    assert network_body(given, "d", engine_name)["IPAM"]["Config"] == [{"Subnet": "fd00::/64"}]
