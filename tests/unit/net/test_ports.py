"""The rules as text: what is compared here is what the kernel gets."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

from stackd.net.ports import PublishedPort, drop_table, publish, table, withdraw

WEB = PublishedPort(published=8080, target=80)
DNS = PublishedPort(published=53, target=5353, protocol="udp", host_ip="127.0.0.1")


def test_the_table_is_the_reviewed_one() -> None:
    golden = Path(__file__).with_name("table.nft").read_text()
    assert table("stackd0", IPv4Network("10.213.0.0/20")) == golden


def test_publishing_adds_an_element_to_the_map_of_its_kind() -> None:
    assert publish("stackd0", "10.213.0.2", [WEB, DNS]) == (
        "add element ip stackd0 published { tcp . 8080 : 10.213.0.2 . 80 }\n"
        "add element ip stackd0 published_at { 127.0.0.1 . udp . 53 : 10.213.0.2 . 5353 }\n"
    )


def test_withdrawing_names_the_same_elements() -> None:
    assert withdraw("stackd0", [WEB, DNS]) == (
        "delete element ip stackd0 published { tcp . 8080 }\ndelete element ip stackd0 published_at { 127.0.0.1 . udp . 53 }\n"
    )


def test_every_address_of_the_host_is_one_way_to_say_any() -> None:
    everywhere = PublishedPort(published=8080, target=80, host_ip="0.0.0.0")
    assert publish("b", "10.0.0.2", [everywhere]) == publish("b", "10.0.0.2", [WEB])


def test_a_table_is_dropped_also_if_it_is_not_there() -> None:
    assert drop_table("stackd0") == "add table ip stackd0\ndelete table ip stackd0\n"
