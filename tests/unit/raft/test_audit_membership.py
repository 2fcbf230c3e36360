"""Defects of the stock library in changes of the membership: each shows there, and not on our members."""

from __future__ import annotations

import pytest
from audit_members import NewCluster, both


@both
def test_only_stock_takes_in_many_members_at_once_without_a_commit(
    new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = new_cluster(monkeypatch)
    cluster.elect("A")
    cluster.pass_time()
    committed = cluster.commit_index("A")
    for name in "DEFG":
        cluster.add_member("A", name)
    for _ in range(2):
        cluster.tick("A")
    assert cluster.commit_index("A") == committed
    assert (len(cluster.voters("A")) > 4) == cluster.is_stock
