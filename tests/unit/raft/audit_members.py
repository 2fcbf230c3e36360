"""The two kinds of members that each scenario of the audit runs on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from audit_cluster import Cluster
from audit_ours import OurCluster
from audit_stock import StockCluster

NewCluster = Callable[..., Cluster]

both = pytest.mark.parametrize("new_cluster", [StockCluster, OurCluster], ids=["stock", "ours"])
