"""The network as a member sees it: one ordered stream to each other member, named by node id, never by address.

This is the port between `node.py` and what carries its messages: mutual TLS between daemons (`transport.py`), objects in
memory in tests and the simulator, nobody at all in a cluster of one (`Alone`). It knows nothing of what a message says.

What a node relies on: while two members are connected, what one sends arrives at the other in order and exactly once. When
the stream breaks, what was under way is gone. All events of an old stream come before the `Connected` of the next one, and
nothing of the old one comes after it. There is at most one stream between two members.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

PROTOCOL_VERSION = 1
"""Of hello and messages. Members of different versions don't talk; everything that can be added is above a feature level."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""A longer message is an error of the sender: nothing is read into memory on the word of a length. It holds the largest
batch of entries (`node.BATCH_BYTES` and one entry more) and the largest piece of a snapshot."""

MAX_QUEUED_BYTES = 16 * 1024 * 1024
"""What may wait to be sent to one member. A node itself keeps less than half of that under way; more means that the other
side does not read, and the stream is closed."""


class Hello(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What each side says first. New fields only at the end, with a default."""

    node: str
    cluster: str
    protocol: int = PROTOCOL_VERSION
    feature_level: int = 1
    """The highest level that this member's software can read."""


class Connected(msgspec.Struct, frozen=True):
    """There is a stream to `peer`, which is who `hello` says: the transport has checked it."""

    peer: str
    hello: Hello


class Received(msgspec.Struct, frozen=True):
    """The next message of the stream to `peer`."""

    peer: str
    message: bytes


class Disconnected(msgspec.Struct, frozen=True):
    """The stream to `peer` is gone, and with it what was under way on it."""

    peer: str


PeerEvent = Connected | Received | Disconnected


class Peers(Protocol):
    """The other members. Used from the node's thread alone, except for `wake`."""

    def send(self, peer: str, message: bytes) -> None:
        """Queue `message` for `peer`; it is dropped when there is no stream. Never blocks and never raises: a queue above
        MAX_QUEUED_BYTES closes the stream. `message` isn't changed by anyone afterwards and may be the same for several."""
        ...

    def set_peers(self, addresses: Mapping[str, str]) -> None:
        """Whom to be connected with, and where: node id to "host:port". The own id may be among them and is ignored.
        Streams to those who were among them and aren't any more are cut; those that stay are not disturbed, unless the address
        changed. Others may connect from their side, if they can show that they are of this cluster: who was away for a while
        doesn't know those who have come since, and its leader may be one of them."""
        ...

    def poll(self, timeout: float | None) -> Sequence[PeerEvent]:
        """What has happened since the last call; waits up to `timeout` seconds (None: as long as it takes) if nothing has.
        It also moves what is queued. Returns early, perhaps with nothing, after `wake`."""
        ...

    def rest(self, timeout: float | None) -> bool:
        """Wait as `poll` does, but whatever arrives meanwhile, wait on: the next `poll` has it. Returns False, at once, if
        there is something to see to, such as a stream that is being opened."""
        ...

    def wake(self) -> None:
        """Make the present or the next `poll` or `rest` return at once. May be called from any thread, and after `close`."""
        ...

    def close(self) -> None:
        """Cut every stream."""
        ...


class Alone:
    """The peers of a cluster of one: nobody. Costs nothing while nothing happens."""

    def __init__(self) -> None:
        self._asleep = threading.Lock()  # held, except between a wake and the poll that it wakes
        self._asleep.acquire()

    def send(self, peer: str, message: bytes) -> None:
        pass

    def set_peers(self, addresses: Mapping[str, str]) -> None:
        pass

    def poll(self, timeout: float | None) -> Sequence[PeerEvent]:
        self._asleep.acquire(timeout=-1 if timeout is None else timeout)
        return ()

    def rest(self, timeout: float | None) -> bool:
        return False

    def wake(self) -> None:
        try:
            self._asleep.release()
        except RuntimeError:
            pass  # it is awake already

    def close(self) -> None:
        self.wake()
