"""Leave to pass through a packet filter that drops what it doesn't know.

Docker sets the FORWARD chain's policy to DROP, and an accept in one nftables table can't overrule a drop in another. So
where the policy is DROP, two rules for our bridge are put where Docker leaves room for others (DOCKER-USER), or else at
the head of FORWARD. They are made with `iptables`, in whichever of its two forms the host uses.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from stackd.net.nftables import Nft, NftFailed

_LEGACY_TABLES = Path("/proc/net/ip_tables_names")
_DIRECTIONS = ("-i", "-o")


def grant(nft: Nft, bridge: str) -> None:
    """Let forwarded packets of `bridge` pass; nothing to do where nothing is dropped. May be repeated at little cost."""
    if not _may_drop(nft):
        return
    rules = _iptables("-S").splitlines()
    if "-P FORWARD DROP" not in rules:
        return
    chain = "DOCKER-USER" if "-N DOCKER-USER" in rules else "FORWARD"
    for direction in _DIRECTIONS:
        if f"-A {chain} {direction} {bridge} -j ACCEPT" not in rules:
            _iptables("-I", chain, direction, bridge, "-j", "ACCEPT")


def revoke(nft: Nft, bridge: str) -> None:
    """Take the rules away again, wherever they are."""
    if not _may_drop(nft):
        return
    for rule in _iptables("-S").splitlines():
        if rule.startswith("-A ") and rule.endswith(tuple(f" {direction} {bridge} -j ACCEPT" for direction in _DIRECTIONS)):
            _iptables("-D", *rule.split()[1:])


def _may_drop(nft: Nft) -> bool:
    """Whether a look by iptables (a process) is worth it: there is a drop policy, or a filter we can't see from here."""
    if _LEGACY_TABLES.exists() and "filter" in _LEGACY_TABLES.read_text().split():
        return True
    try:
        return "policy drop" in nft.run("list chain ip filter FORWARD")
    except NftFailed:
        return False  # no such chain


def _iptables(*arguments: str) -> str:
    command = shutil.which("iptables") or shutil.which("iptables", path="/usr/sbin:/sbin")
    if command is None:
        return ""
    return subprocess.run([command, "-w", *arguments], capture_output=True, text=True, check=False).stdout
