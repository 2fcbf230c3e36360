"""Changes of who the members are: those that are asked for, and those that a leader makes by itself.

One at a time: the next one waits until the one before is committed. A new member is a learner until it has what is
committed, so it never makes a majority harder to reach; one is only removed if the others can agree without it; and one
that was removed still gets the commit that says so, before its streams are cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from stackd.base.errors import Refused, StackdError, Unavailable
from stackd.base.records import encode
from stackd.raft.contacts import Contacts
from stackd.raft.frame import Kind
from stackd.raft.hardened import Hardened
from stackd.raft.journal import Journal
from stackd.raft.membership import MAX_VOTERS, Membership, check_level
from stackd.raft.peers import Peers
from stackd.raft.settings import Settings
from stackd.raft.tenure import Tenure
from stackd.raft.ticket import Ticket


class Changes:
    """The membership of one node's cluster as it moves."""

    def __init__(
        self,
        me: str,
        raft: Hardened,
        journal: Journal,
        tenure: Tenure,
        peers: Peers,
        contacts: Contacts,
        clock: Callable[[], float],
        settings: Settings,
    ) -> None:
        self._me = me
        self._raft = raft
        self._journal = journal
        self._tenure = tenure
        self._peers = peers
        self._contacts = contacts
        self._clock = clock
        self._settings = settings
        self._followed: Membership | None = None
        self._goals: dict[str, tuple[int, float]] = {}
        """Which entry each learner has to get, and since when."""
        self._departing: dict[str, str] = {}
        self._depart_at = math.inf

    def due_at(self) -> float:
        return self._depart_at

    def follow(self) -> None:
        """Act on the membership that the log has now, if it is another one. Raises StackdError("raft.feature_level.newer") if
        the cluster is about to use what this member can't read."""
        if self._journal.membership is not self._followed:
            self.follow_anew()

    def follow_anew(self) -> None:
        self._followed = self._journal.membership
        check_level(self._followed, self._settings.feature_level)
        self._contacts.follow_level()
        self._goals = {learner: goal for learner, goal in self._goals.items() if learner in self._followed.learner_ids}
        self._raft.follow_membership(self._departing)
        self._peers.set_peers(self._followed.addresses | self._departing)

    # -- asked for

    def add(self, member: str, address: str) -> Ticket:
        """Raises Unavailable("raft.member.change_pending")."""
        self._check_settled()
        return self._append(self._journal.membership.with_member(member, address))

    def remove(self, member: str) -> Ticket:
        """Raises as `add`; NotFound("raft.member.unknown"); Refused with raft.member.leads, .last, .quorum."""
        self._check_settled()
        if member == self._me:
            hint = "transfer the leadership first, then remove it"
            raise Refused("raft.member.leads", f"{member} leads the cluster", hint=hint)
        membership = self._journal.membership
        remaining = membership.without(member)
        if member in membership.voter_ids and not remaining.is_quorum(self._raft.recently_heard()):
            why = f"without {member} too few of the voting members would be reachable to agree on anything"
            raise Refused("raft.member.quorum", why, hint="bring the others back first, or remove one that is unreachable")
        return self._append(remaining)

    def undone(self) -> None:
        """What was to be written could not be."""
        self._departing, self._depart_at = {}, math.inf
        self.follow_anew()

    # -- by itself

    def tend(self) -> None:
        """Raises StackdError("raft.member.removed") once it is committed that this node is no member any more."""
        if self._is_settled() and self._me not in self._journal.membership.addresses:
            why = "this node was removed from the managers"
            raise StackdError("raft.member.removed", why, hint="let it join anew, as a new member")
        if self._departing:
            self._let_depart()
        if self._tenure.is_deciding and self._raft.is_leading() and self._is_settled():
            self._raise_someone()

    def _let_depart(self) -> None:
        if not self._raft.is_leading() or self._clock() >= self._depart_at:
            self._departing, self._depart_at = {}, math.inf
            self.follow_anew()
        elif self._is_settled() and self._depart_at == math.inf:
            self._depart_at = self._clock() + self._settings.election_max_seconds
            self._raft.send_heartbeats()

    def _raise_someone(self) -> None:
        """Give a learner that has what is committed its vote; or everyone a higher feature level, if all can read it."""
        membership = self._journal.membership
        if membership.learners and len(membership.voters) < MAX_VOTERS:
            in_touch = sorted(membership.learner_ids & self._raft.recently_heard())
            caught_up = [member for member in in_touch if self._has_caught_up(member)]
            if caught_up:
                self._append(membership.with_vote(caught_up[0]))
                return
        if self._settings.feature_level > membership.feature_level:
            level = self._common_level()
            if level > membership.feature_level:
                self._append(membership.at_level(level))

    def _has_caught_up(self, learner: str) -> bool:
        """Whether it got all that was committed at one moment within an election timeout after that (Ongaro's thesis, section
        4.2.1). To have everything at one moment would be too much to ask over a slow wire, while there are writes."""
        now, committed = self._clock(), self._raft.commit_index()
        goal, since = self._goals.setdefault(learner, (committed, now))
        has = self._raft.match_index(learner)
        if has >= goal and now - since > self._settings.election_min_seconds:
            self._goals[learner] = goal, since = committed, now
        return has >= goal

    def _common_level(self) -> int:
        """What every member can read; 0 while one is away."""
        others = self._journal.membership.addresses.keys() - {self._me}
        return min([self._settings.feature_level, *(self._contacts.levels.get(member, 0) for member in others)])

    def _append(self, membership: Membership) -> Ticket:
        before = self._journal.membership.addresses
        self._departing = {member: address for member, address in before.items() if member not in membership.addresses}
        said = membership.said_at(self._journal.last.index + 1)
        index = self._raft.append(encode(said), Kind.MEMBERS).index
        self.follow_anew()
        return self._tenure.expect(index)

    def _is_settled(self) -> bool:
        return self._journal.membership.index <= self._raft.commit_index()

    def _check_settled(self) -> None:
        if not self._is_settled():
            raise Unavailable("raft.member.change_pending", "another change of the members is under way")
