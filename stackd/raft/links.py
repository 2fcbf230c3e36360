"""What the transport keeps of its connections: the way to each other member, and streams that have not said who they are."""

from __future__ import annotations

from dataclasses import dataclass

from stackd.raft.stream import Stream


@dataclass(slots=True)
class Link:
    """The way to one other member. Without an address it came by itself, and isn't dialled."""

    address: str | None
    stream: Stream | None = None
    was_dialled: bool = False
    """Whether this side has dialled `stream`."""
    opened_at: float = 0.0
    dialling: bool = False
    """A stream to it is being opened, or its name looked up."""
    place: str = ""
    """Where it was dialled last, "" since there was a stream."""
    next_dial: float = 0.0
    attempts: int = 0
    trouble: str = ""

    @property
    def is_to_dial(self) -> bool:
        return self.address is not None and self.stream is None and not self.dialling


@dataclass(slots=True)
class Opening:
    """A stream that has not said who it is: whom it was dialled to (an accepted one: nobody), and until when it may."""

    stream: Stream
    dialled: str | None
    until: float
    name: str = ""
    """As its certificate says, once TLS is up."""
