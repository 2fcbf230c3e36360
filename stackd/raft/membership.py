"""Who the members of the cluster are: a value that lies in the log, in snapshots, and nowhere else.

A change is an entry that holds the whole new membership, not a difference: so the membership at any place of the log is
the last one at or before it, whatever was compacted or cut off since. A member acts on it as soon as the entry is in its
log (Ongaro's thesis, section 4.1). Each change adds or removes one vote, and the next one waits until it is committed:
then any majority of the old membership and any of the new one share a member, and two leaders of one term can't be.
"""

from __future__ import annotations

from collections.abc import Set

from msgspec.structs import replace

from stackd.base.errors import NotFound, Refused, StackdError
from stackd.base.records import Pairs, Record, decoder, pairs

MAX_VOTERS = 9
"""More votes make every write slower and tolerate nothing that matters; further managers can be learners."""


class Membership(Record):
    """The voters, and the learners, who get every entry and have no vote. Node id to "host:port".

    `epoch` counts recoveries from a lost quorum: members of another epoch are not heard, since they may hold, and vote for,
    a history that the recovery has given up. `feature_level` is what every member can read; entries and files that need more
    are not written before it is raised."""

    epoch: int
    voters: Pairs
    learners: Pairs = ()
    feature_level: int = 1
    index: int = 0
    """The entry that says so; 0 for the membership that a cluster begins with. Who joins is told the present one: until its
    log has come that far, what it reads there about the members is history."""

    @classmethod
    def sole(cls, member: str, address: str = "", *, epoch: int = 0, index: int = 0) -> Membership:
        """A cluster of one: how each cluster begins, and begins again after a recovery."""
        return cls(epoch=epoch, voters=((member, address),), index=index)

    @property
    def voter_ids(self) -> frozenset[str]:
        return frozenset(dict(self.voters))

    @property
    def learner_ids(self) -> frozenset[str]:
        return frozenset(dict(self.learners))

    @property
    def addresses(self) -> dict[str, str]:
        return dict(self.voters + self.learners)

    def is_newer_than(self, other: Membership) -> bool:
        return (self.epoch, self.index) > (other.epoch, other.index)

    def is_quorum(self, members: Set[str]) -> bool:
        """Whether `members` hold a majority of the votes."""
        return 2 * len(self.voter_ids & members) > len(self.voters)

    def with_member(self, member: str, address: str) -> Membership:
        """`member` as a learner, or, if it is a member already, at another address."""
        if member in self.voter_ids:
            return replace(self, voters=pairs({**dict(self.voters), member: address}))
        return replace(self, learners=pairs({**dict(self.learners), member: address}))

    def with_vote(self, member: str) -> Membership:
        """The learner `member` as a voter. Raises NotFound, or Refused("raft.member.too_many_voters")."""
        learners = dict(self.learners)
        if member not in learners:
            raise _unknown(member)
        if len(self.voters) >= MAX_VOTERS:
            raise Refused("raft.member.too_many_voters", f"there are {MAX_VOTERS} voting members, which is the limit")
        address = learners.pop(member)
        return replace(self, voters=pairs({**dict(self.voters), member: address}), learners=pairs(learners))

    def without(self, member: str) -> Membership:
        """Raises NotFound, or Refused("raft.member.last") for the only voter."""
        if member not in self.addresses:
            raise _unknown(member)
        if self.voter_ids == {member}:
            raise Refused("raft.member.last", f"{member} is the only voting member; without it there is no cluster")
        voters, learners = dict(self.voters), dict(self.learners)
        voters.pop(member, None)
        learners.pop(member, None)
        return replace(self, voters=pairs(voters), learners=pairs(learners))

    def said_at(self, index: int) -> Membership:
        return replace(self, index=index)

    def at_level(self, feature_level: int) -> Membership:
        return replace(self, feature_level=feature_level)


_decode = decoder(Membership).decode


def decode_membership(data: bytes) -> Membership:
    """Raises msgspec.DecodeError."""
    membership: Membership = _decode(data)
    return membership


def check_level(membership: Membership, readable: int) -> None:
    """Raises StackdError("raft.feature_level.newer") if the cluster may write what this member can't read."""
    if membership.feature_level > readable:
        why = f"the cluster is at feature level {membership.feature_level}; this stackd has {readable}"
        raise StackdError("raft.feature_level.newer", why, hint="upgrade stackd")


def _unknown(member: str) -> NotFound:
    return NotFound("raft.member.unknown", f"{member} is not a member of the cluster")
