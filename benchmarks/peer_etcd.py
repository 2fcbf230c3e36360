"""The peer's side of the consensus figures: three members of etcd, synced and with TLS, called as our own are.

etcd's interface is protocol buffers over gRPC; the few messages that are needed are put together here by hand.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.certificates import Authority

from benchmarks.raft_processes import Channel, Lost, until

HOW_TO_GET_IT = """there is no etcd to compare with. On Debian:
    apt-get install etcd-server
or, without installing it:
    apt-get download etcd-server && dpkg -x etcd-server_*.deb /tmp/etcd
    PATH=$PATH:/tmp/etcd/usr/bin make bench NAME=consensus"""


def find_etcd() -> str:
    """Where the program is. Raises SystemExit, saying how to get it."""
    found = shutil.which("etcd")
    if found is None:
        raise SystemExit(HOW_TO_GET_IT)
    return found


def version(program: str) -> str:
    """For example "3.4.23"."""
    output = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    return output.partition("\n")[0].rpartition(" ")[2]


class EtcdMember:
    """One member's process, and the channel to it."""

    def __init__(
        self, program: str, name: str, ports: dict[str, tuple[int, int]], directory: Path, authority: Authority
    ) -> None:
        certificate, key = authority.issue(f"etcd-{name}")
        peer, client = ports[name]
        tls = ["cert-file", str(certificate), "key-file", str(key), "trusted-ca-file", str(authority.certificate)]
        flags = ["name", name, "data-dir", str(directory / f"etcd-{name}"), "log-level", "error"]
        flags += ["listen-peer-urls", _url(peer), "initial-advertise-peer-urls", _url(peer)]
        flags += ["listen-client-urls", _url(client), "advertise-client-urls", _url(client)]
        flags += ["initial-cluster", ",".join(f"{other}={_url(port)}" for other, (port, _) in ports.items())]
        flags += [*tls, *(f"peer-{word}" if place % 2 == 0 else word for place, word in enumerate(tls))]
        command = [program, "--client-cert-auth", "--peer-client-cert-auth"]
        self._command = command + [f"--{flag}={value}" for flag, value in zip(flags[::2], flags[1::2], strict=True)]
        self._log = directory / f"etcd-{name}.log"
        self.channel = Channel(f"127.0.0.1:{client}", authority)
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    async def leads(self) -> bool:
        try:
            status = _fields(await self.channel.call("/etcdserverpb.Maintenance/Status", b""))
        except Lost:
            return False
        header = status.get(1, b"")
        return isinstance(header, bytes) and bool(status.get(4)) and _fields(header).get(2) == status.get(4)

    async def put(self, changes: Sequence[tuple[str, bytes]]) -> None:
        """All of them in one transaction."""
        puts = [_field(1, key.encode()) + _field(2, value) for key, value in changes]
        if len(puts) == 1:
            await self.channel.call("/etcdserverpb.KV/Put", puts[0])
        else:
            await self.channel.call("/etcdserverpb.KV/Txn", b"".join(_field(2, _field(2, put)) for put in puts))


@contextmanager
def etcd_cluster(
    program: str, ports: dict[str, tuple[int, int]], directory: Path, authority: Authority
) -> Iterator[list[EtcdMember]]:
    """Members by name, each with its ports for peers and clients; they are killed in the end."""
    with ExitStack() as stack:
        members = []
        for name in ports:
            member = EtcdMember(program, name, ports, directory, authority)
            stack.callback(member.kill)
            members.append(member)
        yield members


async def etcd_leader(members: Sequence[EtcdMember], seconds: float = 20.0) -> EtcdMember:
    """Raises TimeoutError."""

    async def look() -> EtcdMember | None:
        leads = [member for member in members if await member.leads()]
        return leads[0] if leads else None

    return await until(look, seconds, lambda: "no member of etcd leads")


def _url(port: int) -> str:
    return f"https://127.0.0.1:{port}"


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _fields(message: bytes) -> dict[int, int | bytes]:
    """The numbers and contents of a message's fields; of a repeated one the last."""
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        value, at = _read_varint(message, at)
        if tag & 7 == 2:
            found[tag >> 3] = message[at : at + value]
            at += value
        else:
            found[tag >> 3] = value
    return found


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return value, at
