"""What a node gives back: what became of a request, and what has happened since it was last asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from stackd.base.errors import StackdError
from stackd.raft.consensus import Entry, Installed, Leadership


class Ticket:
    """A request to a node. Done when `index` or `error` is set; nothing is called back. Once done, it is in an output."""

    __slots__ = ("error", "index")

    def __init__(self) -> None:
        self.index: int | None = None
        self.error: StackdError | None = None

    @property
    def is_done(self) -> bool:
        return self.index is not None or self.error is not None


@dataclass(slots=True)
class Output:
    """What has happened, in order."""

    items: list[Entry | Installed] = field(default_factory=list)
    """Committed, each once."""
    roles: list[Leadership] = field(default_factory=list)
    """Changes of role. Leading is told after the entry that opened the term, and all before it, are in `items`."""
    done: list[Ticket] = field(default_factory=list)
