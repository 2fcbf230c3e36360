"""Networks, configs and secrets on the command line: lists, pages, making them from files, and never showing a secret."""

from __future__ import annotations

import json
from pathlib import Path

from stackd.api.control import ClusterRequest, FileRequest, NetworkRequest, RemoveRequest
from stackd.spec.stack import ExternalKind, NetworkSpec, Pool

from cli_control import a_cluster, a_config, a_network, a_secret, some_settings
from cli_runner import Stackd


def test_networks_are_listed_with_their_subnets_and_services(stackd: Stackd) -> None:
    stackd.control.network_list = (a_network(), a_network("local", driver="bridge", subnets=(), services=()))
    assert stackd("network", "ls").out == (
        "ID             NAME         DRIVER    SUBNET        STATE   SERVICES\n"
        "netw5m1q0x8c   shop_front   overlay   10.0.0.0/20   ready   shop_web\n"
        "netw5m1q0x8c   local        bridge                  ready\n"
    )


def test_the_wide_list_says_how_many_addresses_are_left_and_what_a_network_waits_for(stackd: Stackd) -> None:
    stackd.control.network_list = (a_network(state="waiting", message="the subnet is taken"),)
    assert (
        stackd("network", "ls", "-o", "wide")
        .out.splitlines()[1]
        .endswith("waiting   shop_web   10.0.0.1   4 of 4093   4096       shop    the subnet is taken")
    )


def test_many_services_are_counted(stackd: Stackd) -> None:
    stackd.control.network_list = (a_network(services=("a", "b", "c", "d", "e")),)
    assert "a, b, c and 2 more" in stackd("network", "ls").out


def test_a_network_is_found_by_the_beginning_of_its_id(stackd: Stackd) -> None:
    stackd.control.network_list = (a_network(),)
    assert "10.0.0.1" in stackd("network", "inspect", "netw5").out
    assert json.loads(stackd("network", "inspect", "shop_front", "-o", "json").out)["kind"] == "Network"
    assert stackd("network", "inspect", "nothing").code == 1


def test_a_network_is_made_with_its_pools(stackd: Stackd) -> None:
    subnets = ("--subnet", "10.9.0.0/16", "--gateway", "10.9.0.1", "--subnet", "fd00:9::/64")
    assert stackd("network", "create", "--ipv6", *subnets, "--label", "tier=front", "common").out == "common\n"
    pools = (Pool(subnet="10.9.0.0/16", gateway="10.9.0.1"), Pool(subnet="fd00:9::/64"))
    spec = NetworkSpec(name="common", ipv6=True, pools=pools, labels=(("tier", "front"),))
    assert stackd.control.requests == [NetworkRequest(spec=spec)]


def test_a_gateway_without_a_subnet_is_an_error_of_usage(stackd: Stackd) -> None:
    assert stackd("network", "create", "--gateway", "10.9.0.1", "common").code == 64


def test_configs_are_listed_with_size_and_users(stackd: Stackd) -> None:
    stackd.control.config_list = (a_config(),)
    assert stackd("config", "ls").out == (
        "ID             NAME        SIZE   SERVICES   CREATED         UPDATED\n"
        "c0nf5m1q0x8c   shop_site   11B    shop_web   5 minutes ago   about a minute ago\n"
    )


def test_a_config_is_shown_with_its_content(stackd: Stackd) -> None:
    stackd.control.config_list = (a_config(),)
    assert stackd("config", "inspect", "shop_site").out.endswith("Content:\nlisten 80;\n")
    document = json.loads(stackd("config", "inspect", "shop_site", "-o", "json").out)
    assert document["data"] == "bGlzdGVuIDgwOwo="
    assert document["config"]["name"] == "shop_site"


def test_a_config_that_is_no_text_is_counted_not_printed(stackd: Stackd) -> None:
    stackd.control.config_list = (a_config(),)
    stackd.control.config_data = b"\xff\xfe"
    assert stackd("config", "inspect", "shop_site").out.endswith("(2 bytes that are no text)\n")


def test_a_config_is_made_from_a_file(stackd: Stackd, tmp_path: Path) -> None:
    file = tmp_path / "site.conf"
    file.write_bytes(b"listen 80;")
    assert stackd("config", "create", "--label", "tier=front", "site", str(file)).out == "site\n"
    assert stackd.control.requests == [FileRequest(name="site", data=b"listen 80;", labels={"tier": "front"})]


def test_a_file_that_is_not_there_is_an_error_of_usage(stackd: Stackd, tmp_path: Path) -> None:
    ended = stackd("config", "create", "site", str(tmp_path / "none"))
    assert ended.code == 64
    assert "No such file" in ended.err


def test_secrets_are_listed_without_what_they_hold(stackd: Stackd) -> None:
    stackd.control.secret_list = (a_secret(),)
    assert stackd("secret", "ls").out == (
        "ID             NAME            SERVICES            CREATED         UPDATED\n"
        "secr5m1q0x8c   shop_password   shop_db, shop_web   5 minutes ago   5 minutes ago\n"
    )


def test_the_content_of_a_secret_is_in_no_output_and_in_no_repr(stackd: Stackd, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"s3cret")
    ended = stackd("secret", "create", "db_password", str(file))
    assert ended.out == "db_password\n"
    assert "s3cret" not in ended.out + ended.err
    (request,) = stackd.control.requests
    assert request.data == b"s3cret"
    assert "s3cret" not in repr(request)


def test_a_secret_is_shown_with_its_users(stackd: Stackd) -> None:
    stackd.control.secret_list = (a_secret(),)
    page = stackd("secret", "inspect", "shop_password").out
    assert "shop_db, shop_web" in page
    assert "tier=back" in page


def test_objects_are_removed_by_name(stackd: Stackd) -> None:
    for kind in ExternalKind:
        assert stackd(str(kind), "rm", "one", "two").out == "one\ntwo\n"
    assert stackd.control.requests == [RemoveRequest(kind=kind, name=name) for kind in ExternalKind for name in ("one", "two")]


def test_names_come_one_per_line(stackd: Stackd) -> None:
    stackd.control.network_list = (a_network("one"), a_network("two"))
    stackd.control.config_list = (a_config("one"), a_config("two"))
    stackd.control.secret_list = (a_secret("one"), a_secret("two"))
    for kind in ExternalKind:
        assert stackd(str(kind), "ls", "-o", "name").out == "one\ntwo\n"
        assert [item["name"] for item in json.loads(stackd(str(kind), "ls", "-o", "json").out)["items"]] == ["one", "two"]


def test_settings_of_the_cluster_are_changed_and_shown(stackd: Stackd) -> None:
    stackd.control.info = a_cluster(cluster=some_settings(rebalance_tasks=2))
    assert stackd("cluster", "update", "--rebalance", "2").out == (
        "ID:            c1uster\n"
        "History:       5 tasks per slot\n"
        "Rebalance:     2 tasks at a time\n"
        "Subnets:       /20 of 10.0.0.0/8\n"
        "Autolock:      off\n"
        "Certificates:  issued for 3 months\n"
    )
    assert stackd.control.requests[0] == ClusterRequest(rebalance=2)
    assert json.loads(stackd("cluster", "update", "-o", "json").out)["rebalance_tasks"] == 0
