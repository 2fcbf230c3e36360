"""What must hold in every history, checked while it happens. A violation is an exception that says what broke.

Entries that any member applied are agreed on for ever; what was acknowledged is among them, what was refused is not, and
nothing is there twice; a term has one leader; nobody votes twice in it; nothing that was committed is taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from raft_host import Host
from raft_machine import Machine, Put, read_command
from stackd.raft.consensus import Entry, Installed, Leadership
from stackd.raft.membership import Membership
from stackd.raft.message import Appended, AskVote, Vote, decode_message
from stackd.raft.node import Node
from stackd.raft.storage import History


class Violation(BaseException):
    """The cluster did what it must never do. It may come up in the middle of a node's tick, and a node survives no mere
    Exception but notes it as a defect of its own: so it isn't one."""


@dataclass(slots=True)
class Agreed:
    """An entry that some member has applied, and the digest of the history that ends with it."""

    entry: Entry
    digest: bytes
    by: str


@dataclass(slots=True)
class Checks:
    """All that has been seen of one cluster."""

    agreed: list[Agreed] = field(default_factory=list)
    """The entry at index N at N - 1."""
    acknowledged: dict[str, int] = field(default_factory=dict)
    """Value of the command to its index."""
    refused: set[str] = field(default_factory=set)
    index_of: dict[str, int] = field(default_factory=dict)
    leader_of: dict[tuple[int, int], str] = field(default_factory=dict)
    """By epoch and term."""
    vote_of: dict[tuple[str, int, int], str] = field(default_factory=dict)
    """By voter, epoch and term."""
    commit_of: dict[tuple[str, int], int] = field(default_factory=dict)
    last_vote: dict[str, tuple[int, str]] = field(default_factory=dict)
    promised: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The last entry, as term and index, that a member said it had."""
    lost: set[str] = field(default_factory=set)
    """Commands that were agreed on, and given up by a recovery."""
    lost_keys: set[str] = field(default_factory=set)
    level: int = 1
    """The highest feature level of any leader's membership."""

    def saw_message(self, sender: Host, receiver: str, message: bytes) -> None:
        decoded = decode_message(message)
        if isinstance(decoded, AskVote):
            self._voted(sender.name, decoded, sender.name)
        elif isinstance(decoded, Vote):
            self._voted(sender.name, decoded, receiver)
        elif isinstance(decoded, Appended) and decoded.success and sender.node is not None:
            index = decoded.next_index - 1
            term = sender.node._journal.term_at(index) or 0
            self.promised[sender.name] = max((term, index), self.promised.get(sender.name, (0, 0)))

    def _voted(self, voter: str, message: AskVote | Vote, candidate: str) -> None:
        first = self.vote_of.setdefault((voter, message.epoch, message.term), candidate)
        if first != candidate:
            raise Violation(f"{voter} voted for {first} and for {candidate} in term {message.term}")
        self.last_vote[voter] = max((message.term, candidate), self.last_vote.get(voter, (0, "")))

    def saw_start(self, host: Host, node: Node) -> None:
        """What `host` has told others must be what it knows after a crash. The end of its log may have been replaced, but
        only by entries of a later term."""
        self._saw_restored(host)
        term, candidate = self.last_vote.get(host.name, (0, ""))
        vote = node._raft._SyncObj__votedForNodeId or ""
        if node.term < term or (node.term == term and vote != candidate):
            raise Violation(f"{host.name} voted for {candidate} in term {term}; it starts in {node.term}, voting for {vote!r}")
        if (node.last.term, node.last.index) < self.promised.get(host.name, (0, 0)):
            raise Violation(f"{host.name} had {self.promised[host.name]} (term, index) in its log, and starts with {node.last}")

    def agrees_up_to(self, history: History) -> int:
        """The last entry up to which a log is what was agreed on. Two logs that have the same term at one index are the same
        up to there."""
        found = history.position.index
        for entry in history.entries:
            if entry.index <= len(self.agreed) and self.agreed[entry.index - 1].entry.term == entry.term:
                found = entry.index
        return found

    def give_up(self, after: int) -> None:
        """A recovery has lost what was agreed on after an entry. Nobody may come with it any more."""
        for lost in self.agreed[after:]:
            command = read_command(lost.entry)
            if command is not None:
                self.lost_keys.add(command.key)
                self.lost.add(command.value)
                self.acknowledged.pop(command.value, None)
                self.index_of.pop(command.value, None)
        del self.agreed[after:]

    def forget(self, name: str) -> None:
        """A member is emptied and joins anew."""
        self.last_vote.pop(name, None)
        self.promised.pop(name, None)

    def saw_role(self, host: Host, epoch: int, role: Leadership) -> None:
        if not role.is_leader:
            return
        first = self.leader_of.setdefault((epoch, role.term), host.name)
        if first != host.name:
            raise Violation(f"{first} and {host.name} both lead term {role.term}")

    def saw_commit(self, host: Host, index: int, *, undone: bool) -> None:
        """What could not be written is `undone` as by a crash; then only what was applied must stay committed."""
        life = (host.name, host.lives)
        before = host.machine.index if undone else self.commit_of.get(life, 0)
        if index < before:
            raise Violation(f"the commit index of {host.name} went back from {before} to {index}")
        self.commit_of[life] = index

    def saw_applied(self, host: Host, entry: Entry) -> None:
        """`host` is about to apply `entry`."""
        if entry.index != host.machine.index + 1:
            raise Violation(f"{host.name} applies entry {entry.index} after entry {host.machine.index}")
        command = host.machine.apply(entry)
        self._check_readable(host)
        if entry.index <= len(self.agreed):
            self._compare(host, entry, self.agreed[entry.index - 1])
        else:
            self._agree(host, entry, command)

    def saw_installed(self, host: Host, installed: Installed) -> None:
        """`host` replaces its state by a snapshot."""
        if installed.index <= host.machine.index:
            raise Violation(f"{host.name} goes back from entry {host.machine.index} to a snapshot at {installed.index}")
        host.machine = Machine(installed.content)
        if host.machine.index != installed.index:
            raise Violation(f"{host.name} installed a snapshot at {installed.index} with the state at {host.machine.index}")
        self._saw_restored(host)

    def _saw_restored(self, host: Host) -> None:
        """`host` has taken its state from a snapshot, of its own or of another member."""
        self._check_readable(host)
        index = host.machine.index
        if index > len(self.agreed):
            raise Violation(f"{host.name} has a snapshot at entry {index}, which nobody has applied")
        if index and host.machine.digest != self.agreed[index - 1].digest:
            raise Violation(f"the snapshot of {host.name} at entry {index} is not the state that the others had there")

    def _check_readable(self, host: Host) -> None:
        if host.machine.level > host.feature_level:
            raise Violation(f"{host.name} has software of level {host.feature_level}, and is given level {host.machine.level}")

    def _compare(self, host: Host, entry: Entry, agreed: Agreed) -> None:
        if entry != agreed.entry or host.machine.digest != agreed.digest:
            raise Violation(
                f"{host.name} applies {_told(entry)} where {agreed.by} has applied {_told(agreed.entry)}"
                if entry != agreed.entry
                else f"{host.name} and {agreed.by} have come to entry {entry.index} by different ways"
            )

    def _agree(self, host: Host, entry: Entry, command: Put | None) -> None:
        self.agreed.append(Agreed(entry, host.machine.digest, host.name))
        if command is None:
            return
        first = self.index_of.setdefault(command.value, entry.index)
        if first != entry.index:
            raise Violation(f"command {command.value} is at {first} and again at {entry.index}")
        if command.value in self.lost:
            raise Violation(f"command {command.value} is back at {entry.index}, after a recovery without it")
        if command.value in self.refused:
            raise Violation(f"command {command.value} was refused, and is committed at {entry.index}")

    def saw_refusal(self, value: str) -> None:
        self.refused.add(value)
        if value in self.index_of:
            raise Violation(f"command {value} is committed at {self.index_of[value]}, and its proposer was told that it is not")

    def saw_acknowledgement(self, host: Host, value: str, index: int) -> None:
        self.acknowledged[value] = index
        if index > host.machine.index:
            raise Violation(f"{host.name} acknowledges {value} at {index} having applied {host.machine.index}")
        if self.index_of.get(value) != index:
            raise Violation(f"{host.name} acknowledges {value} at {index}; it is at {self.index_of.get(value)}")

    def saw_running(self, nodes: dict[str, Node]) -> None:
        """What the newest leader believes of its followers must be so. (A look inside: it shows some mistakes long before
        they cost an entry.)"""
        newest = max(nodes, key=lambda name: (nodes[name].leads, nodes[name].term), default="")
        if not newest or not nodes[newest].leads:
            return
        leader = nodes[newest]
        for name, node in nodes.items():
            index = leader._raft.match_index(name)
            if name == newest or node.term > leader.term or not index:
                continue
            if node.last.index < index or not _same_term(leader, node, index):
                raise Violation(f"{newest} believes that the log of {name} is its own up to {index}; it ends at {node.last}")

    def saw_level(self, hosts: dict[str, Host], membership: Membership) -> None:
        """The level goes up only after everyone has shown that it can read that."""
        if membership.feature_level > self.level:
            self.level = membership.feature_level
            unable = [name for name in membership.addresses if name in hosts and hosts[name].highest_level < self.level]
            if unable:
                raise Violation(f"the cluster goes to level {self.level}, which {', '.join(unable)} can't read")

    def saw_read(self, host: Host, index: int) -> None:
        if index > host.machine.index:
            raise Violation(f"{host.name} answers a read at {index} having applied {host.machine.index}")


def _same_term(one: Node, other: Node, index: int) -> bool:
    """Whether two logs have the same entry at `index`, as far as they still have it."""
    terms = {one._journal.term_at(index), other._journal.term_at(index)} - {None}
    return len(terms) < 2


def _told(entry: Entry) -> str:
    return f"entry {entry.index} of term {entry.term} {entry.data[:40]!r}"
