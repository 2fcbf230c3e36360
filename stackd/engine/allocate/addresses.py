"""Which addresses are in use: counts kept up to date with every record of a task or an endpoint.

Derived, never stored. There is no list of free addresses to get out of step: an address is free if no record names it, and
so none can leak. A task holds its addresses until it has stopped for good, or was never handed to a node and never will be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stackd.base.ids import NetworkId
from stackd.engine.model import Task
from stackd.engine.parts import Attachment
from stackd.engine.status import TaskStatus
from stackd.engine.tables import Table
from stackd.engine.taskstate import TaskState, is_terminal

Attachments = tuple[Attachment, ...]


def attachments_held(task: Task | None, status: TaskStatus | None) -> Attachments:
    """The attachments whose addresses nobody else may have because of this task."""
    if task is None or not task.attachments:
        return ()
    state = status.state if status is not None else TaskState.NEW
    over = is_terminal(state) or (state < TaskState.ASSIGNED and task.desired > TaskState.COMPLETE)
    return () if over else task.attachments


def texts(attachment: Attachment) -> Iterator[str]:
    """The addresses of an attachment."""
    if attachment.v4:
        yield attachment.v4
    if attachment.v6:
        yield attachment.v6


class Addresses:
    """The addresses in use, by network, and who holds which. A holder is the key of a task or of an endpoint."""

    def __init__(self) -> None:
        self._held: Table[Attachments] = Table()
        self._uses: Table[int] = Table()

    def fork(self) -> Addresses:
        other = Addresses()
        other._held = self._held.fork()
        other._uses = self._uses.fork()
        return other

    def held(self, holder: str) -> Attachments:
        """What the holder has now."""
        return self._held.get(holder) or ()

    def uses(self, network: NetworkId, text: str) -> int:
        """How many hold this address; more than one is a fault."""
        return self._uses.get(f"{network} {text}") or 0

    def population(self, network: NetworkId) -> int:
        """How many addresses of the network are in use."""
        return self._uses.get(network) or 0

    def settle(self, holder: str, attachments: Attachments) -> None:
        """Let the holder have `attachments` in place of what it had."""
        before = self.held(holder)
        if before == attachments:
            return
        self._count(before, -1)
        self._count(attachments, 1)
        if attachments:
            self._held.put(holder, attachments)
        else:
            self._held.pop(holder)

    def _count(self, attachments: Iterable[Attachment], by: int) -> None:
        for one in attachments:
            for text in texts(one):
                self._add(f"{one.network} {text}", by)
                self._add(one.network, by)

    def _add(self, key: str, by: int) -> None:
        count = (self._uses.get(key) or 0) + by
        if count:
            self._uses.put(key, count)
        else:
            self._uses.pop(key)


def endpoint_holder(service: str) -> str:
    """The holder under which the virtual addresses of a service are kept."""
    return f"endpoint {service}"


class AddressBook:
    """The addresses in use as a decision sees them: those of the view below, its own changes, and what it hands out."""

    def __init__(self, below: Addresses) -> None:
        self._below = below
        self._own = Addresses()
        self._gone = Addresses()

    def change(self, holder: str, attachments: Attachments) -> None:
        """The holder has `attachments` after this decision, whatever it had before."""
        self._gone.settle(holder, self._below.held(holder))
        self._own.settle(holder, attachments)

    def is_free(self, network: NetworkId, text: str) -> bool:
        below = self._below.uses(network, text) - self._gone.uses(network, text)
        return below + self._own.uses(network, text) <= 0

    def population(self, network: NetworkId) -> int:
        return self._below.population(network) - self._gone.population(network) + self._own.population(network)
