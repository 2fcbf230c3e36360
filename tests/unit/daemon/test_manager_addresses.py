"""Where a manager listens and what it advertises."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

import pytest
from stackd.api.addresses import ManagerAddress
from stackd.base.errors import Refused, StackdError
from stackd.daemon.addresses import Addresses, changed, check_free, chosen, is_here

from node import free_port


@pytest.mark.parametrize(
    ("listen", "advertise", "listens", "advertised"),
    [
        ("10.0.0.1", "", "10.0.0.1:2377", "10.0.0.1:2377"),
        ("10.0.0.1:5000", "", "10.0.0.1:5000", "10.0.0.1:5000"),
        ("", "10.0.0.7", "0.0.0.0:2377", "10.0.0.7:2377"),
        ("0.0.0.0:5000", "example.org:6000", "0.0.0.0:5000", "example.org:6000"),
        ("0.0.0.0:5000", "10.0.0.7", "0.0.0.0:5000", "10.0.0.7:5000"),
        ("[fd00::1]:5000", "", "[fd00::1]:5000", "[fd00::1]:5000"),
    ],
)
def test_what_is_asked_for_is_completed(listen: str, advertise: str, listens: str, advertised: str) -> None:
    found = chosen(listen, advertise)
    assert (str(found.listen), str(found.advertise)) == (listens, advertised)


def test_a_joiner_advertises_the_address_at_which_it_was_seen() -> None:
    assert str(chosen("0.0.0.0:5000", "", seen_as="10.0.0.9").advertise) == "10.0.0.9:5000"


@pytest.mark.parametrize(
    ("former", "listen", "advertise", "now"),
    [
        (("0.0.0.0:2377", "10.0.0.1:2377"), "", "", ("0.0.0.0:2377", "10.0.0.1:2377")),
        (("0.0.0.0:2377", "10.0.0.1:2377"), "", "10.0.0.7", ("0.0.0.0:2377", "10.0.0.7:2377")),
        (("10.0.0.1:5000", "10.0.0.1:5000"), "", "10.0.0.7", ("10.0.0.7:5000", "10.0.0.7:5000")),
        (("10.0.0.1:5000", "203.0.113.7:6000"), "", "203.0.113.8:6000", ("10.0.0.1:5000", "203.0.113.8:6000")),
        (("0.0.0.0:2377", "10.0.0.1:2377"), "0.0.0.0:5000", "", ("0.0.0.0:5000", "10.0.0.1:5000")),
        (("10.0.0.1:2377", "10.0.0.1:2377"), "10.0.0.7", "example.org", ("10.0.0.7:2377", "example.org:2377")),
    ],
)
def test_a_node_keeps_what_it_is_not_told_anew(former: Sequence[str], listen: str, advertise: str, now: Sequence[str]) -> None:
    before = Addresses(ManagerAddress.parse(former[0]), ManagerAddress.parse(former[1]))
    found = changed(before, listen, advertise)
    assert (str(found.listen), str(found.advertise)) == now


def test_a_host_knows_its_own_addresses() -> None:
    assert is_here("127.0.0.1")
    assert is_here("0.0.0.0")
    assert is_here("example.org")  # nobody is asked
    assert not is_here("192.0.2.1")


def test_without_any_wish_it_is_an_address_that_others_can_reach() -> None:
    with contextlib.suppress(Refused):  # a host with no address, or with several and no route
        assert chosen("", "").advertise.host not in ("", "0.0.0.0", "127.0.0.1")


@pytest.mark.parametrize(
    ("listen", "advertise", "code"),
    [
        ("nowhere:0", "", "api.address.bad"),
        ("", "host:port", "api.address.bad"),
        ("10.0.0.1", "0.0.0.0", "daemon.advertise.unclear"),
        ("10.0.0.1", "[::]:2377", "daemon.advertise.unclear"),
    ],
)
def test_what_can_not_be_is_refused(listen: str, advertise: str, code: str) -> None:
    with pytest.raises(StackdError) as caught:
        chosen(listen, advertise)
    assert caught.value.code == code


def test_a_port_that_is_taken_is_found_out_before_anything_is_done() -> None:
    base = free_port()
    place = ManagerAddress("127.0.0.1", min(base, 65000))
    with socket.socket() as other:
        other.bind((place.host, place.port + 1))
        other.listen(1)
        with pytest.raises(Refused) as caught:
            check_free(place)
    assert caught.value.code == "api.listen.failed"
    assert str(place.port + 1) in caught.value.message
