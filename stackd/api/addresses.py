"""Where a manager is reached: one address, three ports next to each other.

    base        nodes and remote users, over gRPC with certificates on both sides
    base + 1    the other managers: consensus
    base + 2    nodes that want to join

Only the base is ever configured, stored or shown; the others follow from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from stackd.base.errors import StackdError

DEFAULT_PORT = 2377
_MOST = 65535 - 2


@dataclass(frozen=True, slots=True)
class ManagerAddress:
    """`host` is a name or an address, IPv6 without brackets; `port` is the base."""

    host: str
    port: int = DEFAULT_PORT

    @classmethod
    def parse(cls, text: str, default_port: int = DEFAULT_PORT) -> ManagerAddress:
        """`HOST[:PORT]`, IPv6 as `[HOST]:PORT` or bare. Raises StackdError("api.address.bad")."""
        host, port = _split(text.strip(), str(default_port))
        if not host or not port.isdigit() or not 0 < int(port) <= _MOST:
            raise StackdError("api.address.bad", f'"{text}" is no address', hint=f"HOST[:PORT], with a port up to {_MOST}")
        return cls(host, int(port))

    @classmethod
    def of_consensus(cls, text: str) -> ManagerAddress:
        """The manager whose port for consensus is this. Raises as `parse`."""
        address = cls.parse(text)
        return cls(address.host, address.port - 1)

    def __str__(self) -> str:
        return self._at(self.port)

    @property
    def consensus(self) -> str:
        return self._at(self.port + 1)

    @property
    def joiners(self) -> str:
        return self._at(self.port + 2)

    def _at(self, port: int) -> str:
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"


def _split(text: str, default_port: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        return host if bracket else "", rest.removeprefix(":") if rest else default_port
    if text.count(":") > 1:
        return text, default_port
    host, colon, port = text.partition(":")
    return host, port if colon else default_port
