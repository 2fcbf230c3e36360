"""Who is at the other end of a new stream: what its certificate and its first frame say, and whether they agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from stackd.base.records import decoder
from stackd.raft.credentials import Credentials
from stackd.raft.peers import Hello
from stackd.raft.stream import StreamBroken

MAX_HELLO_BYTES = 4096

_decode_hello = decoder(Hello).decode


def name_in(certificate: Mapping[str, Any], credentials: Credentials, own: str, dialled: str | None) -> str:
    """The node that the certificate is of. `dialled` is who should be there, if this side has dialled.
    Raises StreamBroken with raft.peer.untrusted or .wrong_node."""
    try:
        name = credentials.name_of(certificate)
    except ValueError as exc:
        raise StreamBroken("raft.peer.untrusted", str(exc)) from exc
    if dialled is not None and name != dialled:
        raise StreamBroken("raft.peer.wrong_node", f"node {name} answers at the address of {dialled}")
    if name == own:
        raise StreamBroken("raft.peer.wrong_node", f"another node has the certificate of this one, {name}")
    return name


def hello_in(frame: bytes, ours: Hello, name: str) -> Hello:
    """What the first frame of node `name` says, if it fits. Raises StreamBroken with raft.peer.garbage, .protocol,
    .other_cluster or .wrong_node."""
    try:
        hello: Hello = _decode_hello(frame)
    except msgspec.DecodeError as exc:
        raise StreamBroken("raft.peer.garbage", "its first frame is no hello") from exc
    if hello.protocol != ours.protocol:
        why = f"it speaks version {hello.protocol} of the protocol, this node version {ours.protocol}"
        raise StreamBroken("raft.peer.protocol", why)
    if hello.cluster != ours.cluster:
        raise StreamBroken("raft.peer.other_cluster", f"it belongs to cluster {hello.cluster}")
    if hello.node != name:
        raise StreamBroken("raft.peer.wrong_node", f"it says it is node {hello.node}, but its certificate is that of {name}")
    return hello
