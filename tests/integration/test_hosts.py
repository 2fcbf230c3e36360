"""The namespaces that other tests use as hosts: they reach each other, and cables can be pulled."""

from __future__ import annotations

import subprocess

import pytest

from hosts import Host, network_of_hosts

pytestmark = pytest.mark.needs("root", "net")

_TALK = """
import socket, sys
socket.create_connection((sys.argv[1], 4711), timeout=float(sys.argv[2])).close()
"""
_LISTEN = """
import socket
listener = socket.create_server(("", 4711))
print("ready", flush=True)
while True:
    listener.accept()[0].close()
"""


def reaches(source: Host, target: Host, seconds: float = 0.3) -> bool:
    command = [*source.enter, "python3", "-c", _TALK, target.address, str(seconds)]
    return subprocess.run(command, capture_output=True, check=False, timeout=10).returncode == 0


def test_hosts_reach_each_other_until_a_cable_is_pulled() -> None:
    with network_of_hosts(3) as network:
        one, two, three = network.hosts
        with subprocess.Popen([*two.enter, "python3", "-c", _LISTEN], stdout=subprocess.PIPE) as listener:
            try:
                assert listener.stdout is not None
                assert listener.stdout.readline() == b"ready\n"
                assert reaches(one, two, 5)
                assert reaches(three, two, 5)
                network.separate(one, two)
                assert not reaches(one, two)
                assert reaches(three, two, 5)
                network.pull(two)
                assert not reaches(three, two)
                network.heal()
                assert reaches(one, two, 5)
            finally:
                listener.kill()
    names = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert not any(host.namespace in names for host in network.hosts)
