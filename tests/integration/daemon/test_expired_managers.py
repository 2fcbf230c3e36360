"""Certificates that run out while there is no quorum: whoever can sign renews by itself, and nobody has to be restarted."""

from __future__ import annotations

import pytest

from aged import expire_in, has_expired
from cluster import cluster_of
from sleepers import deploy, running

pytestmark = pytest.mark.needs("root", "net")

LEFT_SECONDS = 15.0
"""Of the certificates when daemons start: longer than that takes."""


def test_a_manager_whose_certificate_runs_out_while_nobody_leads_is_there_as_soon_as_the_others_are() -> None:
    with cluster_of(4) as cluster:
        cluster.form(3)
        alone, *others, worker = cluster.nodes
        deploy(alone)
        before = running(alone)
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            expire_in(node.data, alone.data, seconds=LEFT_SECONDS)
        lives = [alone, worker]
        for node in lives:
            node.start_soon()
        for node in lives:
            node.wait_started()
            assert not has_expired(node.data)
        pids = [node.pid for node in lives]
        cluster.eventually(lambda: has_expired(worker.data), "the certificates have run out")
        for node in others:
            node.start()
        cluster.until_ready(3)
        assert [node.pid for node in lives] == pids
        assert not any(has_expired(node.data) for node in cluster.nodes)
        assert running(alone) == before
