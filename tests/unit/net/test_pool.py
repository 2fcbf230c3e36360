"""Subnets and addresses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from stackd.base.errors import Retry, TaskFault
from stackd.net.pool import choose_address, choose_subnet, gateway, hardware_address

POOL = (IPv4Network("10.213.0.0/16"), IPv4Network("10.214.0.0/16"))


def test_the_first_subnet_that_no_route_of_the_host_overlaps_is_chosen() -> None:
    assert choose_subnet([], POOL) == IPv4Network("10.213.0.0/20")
    assert choose_subnet([IPv4Network("10.213.5.0/24")], POOL) == IPv4Network("10.213.16.0/20")
    assert choose_subnet([IPv4Network("10.213.0.0/16")], POOL) == IPv4Network("10.214.0.0/20")


def test_a_host_that_routes_everything_has_no_subnet_left() -> None:
    with pytest.raises(TaskFault) as fault:
        choose_subnet([IPv4Network("10.0.0.0/8")], POOL)
    assert fault.value.code == "net.pool.conflict"


def test_a_small_pool_is_one_subnet() -> None:
    assert choose_subnet([], [IPv4Network("192.168.7.0/24")]) == IPv4Network("192.168.7.0/24")


def test_addresses_start_after_the_bridges_own_and_fill_gaps() -> None:
    subnet = IPv4Network("10.213.0.0/20")
    assert gateway(subnet) == IPv4Address("10.213.0.1")
    assert choose_address(subnet, []) == IPv4Address("10.213.0.2")
    assert choose_address(subnet, [IPv4Address("10.213.0.2"), IPv4Address("10.213.0.4")]) == IPv4Address("10.213.0.3")


def test_a_full_subnet_is_a_passing_fault() -> None:
    subnet = IPv4Network("192.168.7.0/29")
    with pytest.raises(TaskFault) as fault:
        choose_address(subnet, list(subnet.hosts()))
    assert (fault.value.code, fault.value.retry) == ("net.pool.exhausted", Retry.LATER)


def test_hardware_addresses_tell_the_address_and_are_local() -> None:
    assert hardware_address(IPv4Address("10.213.0.2")).hex(":") == "02:42:0a:d5:00:02"
