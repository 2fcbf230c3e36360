"""Published ports and the way out as nftables text. Pure: what is written here is what the kernel gets.

One table per bridge, named as the bridge. Forwarding is by map, so publishing a port adds an element and touches no rule.
Clients on other machines keep their address; clients on this host (also on 127.0.0.1) and endpoints of the same bridge
are masqueraded, or the answers would not come back the way they went.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

ANY_ADDRESS = ("", "0.0.0.0")


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """`published` on the host (on `host_ip`, or on all its addresses) leads to `target` of an endpoint."""

    published: int
    target: int
    protocol: str = "tcp"
    host_ip: str = ""


def table(bridge: str, subnet: IPv4Network) -> str:
    """The whole table without a single port; replaces one that exists."""
    return f"""\
add table ip {bridge}
delete table ip {bridge}
table ip {bridge} {{
    map published {{
        type inet_proto . inet_service : ipv4_addr . inet_service
    }}
    map published_at {{
        type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
    }}
    chain martians {{
        type filter hook prerouting priority raw
        iifname "{bridge}" ip daddr 127.0.0.0/8 drop
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat
        fib daddr type local meta l4proto {{ tcp, udp }} dnat ip to ip daddr . meta l4proto . th dport map @published_at
        fib daddr type local meta l4proto {{ tcp, udp }} dnat ip to meta l4proto . th dport map @published
    }}
    chain output {{
        type nat hook output priority -100
        fib daddr type local meta l4proto {{ tcp, udp }} dnat ip to ip daddr . meta l4proto . th dport map @published_at
        fib daddr type local meta l4proto {{ tcp, udp }} dnat ip to meta l4proto . th dport map @published
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat
        ip saddr {subnet} oifname != "{bridge}" masquerade
        oifname "{bridge}" ct status dnat fib saddr type local masquerade
        oifname "{bridge}" ct status dnat ip saddr {subnet} masquerade
    }}
}}
"""


def publish(bridge: str, address: str, ports: Sequence[PublishedPort]) -> str:
    """Lead `ports` to `address`."""
    return "".join(f"add element ip {bridge} {_map(port)} {{ {_key(port)} : {address} . {port.target} }}\n" for port in ports)


def withdraw(bridge: str, ports: Sequence[PublishedPort]) -> str:
    """Undo `publish`."""
    return "".join(f"delete element ip {bridge} {_map(port)} {{ {_key(port)} }}\n" for port in ports)


def drop_table(bridge: str) -> str:
    """Remove everything, also if there is nothing."""
    return f"add table ip {bridge}\ndelete table ip {bridge}\n"


def _map(port: PublishedPort) -> str:
    return "published" if port.host_ip in ANY_ADDRESS else "published_at"


def _key(port: PublishedPort) -> str:
    key = f"{port.protocol} . {port.published}"
    return key if port.host_ip in ANY_ADDRESS else f"{port.host_ip} . {key}"
