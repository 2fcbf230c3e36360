from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster import Cluster, cluster_of


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Two hosts, on each of them a daemon that belongs to no cluster yet."""
    with cluster_of(2) as cluster:
        yield cluster
