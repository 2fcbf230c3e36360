"""Addresses of managers: one is written, three ports follow."""

from __future__ import annotations

import pytest
from stackd.api.addresses import ManagerAddress
from stackd.base.errors import StackdError


@pytest.mark.parametrize(
    ("text", "base", "consensus", "joiners"),
    [
        ("10.0.0.1", "10.0.0.1:2377", "10.0.0.1:2378", "10.0.0.1:2379"),
        ("box.example:4000", "box.example:4000", "box.example:4001", "box.example:4002"),
        ("fd00::1", "[fd00::1]:2377", "[fd00::1]:2378", "[fd00::1]:2379"),
        ("[fd00::1]", "[fd00::1]:2377", "[fd00::1]:2378", "[fd00::1]:2379"),
        ("[fd00::1]:4000", "[fd00::1]:4000", "[fd00::1]:4001", "[fd00::1]:4002"),
    ],
)
def test_the_ports_lie_next_to_each_other(text: str, base: str, consensus: str, joiners: str) -> None:
    address = ManagerAddress.parse(text)
    assert (str(address), address.consensus, address.joiners) == (base, consensus, joiners)
    assert ManagerAddress.of_consensus(consensus) == address
    assert ManagerAddress.parse(str(address)) == address


@pytest.mark.parametrize("text", ["", ":2377", "host:", "host:0", "host:65534", "host:port", "[fd00::1", "[]:1", "[::1]x"])
def test_what_is_no_address_is_said_to_be_none(text: str) -> None:
    with pytest.raises(StackdError) as caught:
        ManagerAddress.parse(text)
    assert caught.value.code == "api.address.bad"
