"""Picking one address of a network that nobody has (semantics 15.2).

Addresses are given out in turn, not lowest first: one that has just become free is still known to others as somebody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from stackd.base.ids import NetworkId
from stackd.engine.allocate.addresses import AddressBook, Attachments, texts
from stackd.engine.allocate.ipmath import Space, Version, address_number, space_of
from stackd.engine.draft import Draft
from stackd.engine.parts import Attachment
from stackd.engine.status import NetworkStatus

CROWDED_PERCENT = 80
"""From this share of addresses in use on, people are told; below three quarters of it they will be told again."""

_VERSIONS: tuple[Version, ...] = (4, 6)

NO_ADDRESS = "allocate.address.exhausted"
ADDRESS_TAKEN = "allocate.address.taken"


class Unaddressable(Exception):
    """There is no address to give. `code` and `sentence` say why."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


@dataclass(slots=True)
class _Cursors:
    """Where giving out has come to in one network. `warned`: people know that it is crowded."""

    status: NetworkStatus
    spaces: tuple[Space, ...]
    offsets: list[int]
    warned: bool


@dataclass(slots=True)
class Picker:
    """Gives out addresses for one decision; `finish` stores where it has come to in each network."""

    draft: Draft
    book: AddressBook
    _networks: dict[NetworkId, _Cursors] = field(default_factory=dict)

    def attach(
        self,
        holder: str,
        held: Attachments,
        networks: Iterable[NetworkStatus],
        requested: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    ) -> Attachments:
        """Addresses in all of `networks` for `holder`, beside what it has, one of each IP version that a network has.
        `requested` are addresses that it has to have, by the name of the network. Raises Unaddressable, and then the holder
        has `held` and nothing else."""
        before = [(cursors, cursors.offsets.copy()) for cursors in map(self._cursors, networks)]
        wanted = held
        try:
            for cursors, _ in before:
                wanted = (*wanted, self._attachment(cursors, requested.get(cursors.status.name, ())))
        except Unaddressable:
            for cursors, offsets in before:
                cursors.offsets[:] = offsets
            self.book.change(holder, held)
            raise
        self.book.change(holder, wanted)
        return wanted

    def _attachment(self, cursors: _Cursors, requested: tuple[str, ...]) -> Attachment:
        by_version: dict[Version, str] = {}
        for version in _VERSIONS:
            if any(space.subnet.version == version for space in cursors.spaces):
                by_version[version] = self._requested(cursors, version, requested) or self._next(cursors, version)
        return Attachment(network=cursors.status.id, v4=by_version.get(4, ""), v6=by_version.get(6, ""))

    def _cursors(self, status: NetworkStatus) -> _Cursors:
        found = self._networks.get(status.id)
        if found is None:
            spaces = tuple(space_of(pool) for pool in status.pools)
            found = self._networks[status.id] = _Cursors(status, spaces, list(status.cursors), warned=status.crowded)
            found.warned = found.warned and self._is_crowded(found)  # it may have emptied since
        return found

    def _requested(self, cursors: _Cursors, version: Version, requested: tuple[str, ...]) -> str:
        """The address that is asked for, "" if none is."""
        for text in requested:
            asked, number = address_number(text)
            if asked != version:
                continue
            space = next((one for one in cursors.spaces if one.subnet.version == version and number in one.subnet), None)
            if space is None or number == space.gateway:
                raise Unaddressable(ADDRESS_TAKEN, f'the address {text} can\'t be had in network "{cursors.status.name}"')
            if not self.book.is_free(cursors.status.id, space.text(number)):
                raise Unaddressable(ADDRESS_TAKEN, f'the address {text} in network "{cursors.status.name}" is in use')
            return space.text(number)
        return ""

    def _next(self, cursors: _Cursors, version: Version) -> str:
        """The next free address after the last one that was given out, pool by pool."""
        status = cursors.status
        for at, space in enumerate(cursors.spaces):
            if space.subnet.version != version:
                continue
            size = space.usable.last - space.usable.first + 1
            for step in range(1, size + 1):
                offset = (cursors.offsets[at] + step) % size
                number = space.usable.first + offset
                if number != space.gateway and self.book.is_free(status.id, text := space.text(number)):
                    cursors.offsets[at] = offset
                    return text
        subnets = ", ".join(pool.subnet for pool in status.pools)
        raise Unaddressable(NO_ADDRESS, f'no address is left in network "{status.name}" ({subnets})')

    def finish(self) -> None:
        """Store how far each network has come, and tell once when one begins to run out."""
        for cursors in self._networks.values():
            present = self.draft.network_statuses.get(cursors.status.id)
            if present is None:
                continue
            crowded = self._is_crowded(cursors)
            if crowded and not cursors.warned:
                self._warn(cursors)
            self.draft.put(msgspec.structs.replace(present, cursors=tuple(cursors.offsets), crowded=crowded))

    def _is_crowded(self, cursors: _Cursors) -> bool:
        """Whether so much is in use that people have to know, or have been told and need not be told again."""
        used, threshold = self.book.population(cursors.status.id), CROWDED_PERCENT * _capacity(cursors)
        return 100 * used >= (threshold * 3 // 4 if cursors.warned else threshold)

    def _warn(self, cursors: _Cursors) -> None:
        used, capacity = self.book.population(cursors.status.id), _capacity(cursors)
        network = self.draft.networks.get(cursors.status.name)
        self.draft.event(
            "network.crowded",
            cursors.status.name,
            f"{used} of {capacity} addresses are in use; a network with a larger subnet, or a second one, gives room",
            stack=network.stack if network is not None else "",
        )


def _capacity(cursors: _Cursors) -> int:
    """Addresses of all pools together; that of the scarcer IP version counts twice over where there are both, since each
    holder has one of either."""
    by_version = {
        version: sum(space.capacity for space in cursors.spaces if space.subnet.version == version) for version in _VERSIONS
    }
    present = [capacity for capacity in by_version.values() if capacity]
    return min(present) * len(present)


def lacks(attachments: Attachments, networks: list[NetworkStatus]) -> list[NetworkStatus]:
    """The networks in which there is no address among `attachments` yet."""
    have = {one.network for one in attachments if any(texts(one))}
    return [status for status in networks if status.id not in have]
