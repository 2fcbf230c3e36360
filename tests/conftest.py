"""What a machine must have for a test: `@pytest.mark.needs("root", "docker", "net", "git")`.

Elsewhere such a test is skipped with the reason; where STACKD_REQUIRE names the need (as CI does), the lack is an error.
"""

from __future__ import annotations

import os
import shutil

import hypothesis
import pytest

# In CI the same examples every time: a red build has to be about the change. New ones are looked for everywhere else.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", deadline=None)
# For code that is known to be wrong: that it fails is all one wants to know.
hypothesis.settings.register_profile(
    "mutants", derandomize=True, deadline=None, database=None, phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate)
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "search")


def _search_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _root() -> str | None:
    return None if os.geteuid() == 0 else "not root"


def _docker() -> str | None:
    if os.geteuid() != 0:
        return "not root, so no dockerd of our own can be started"
    return None if shutil.which("dockerd", path=_search_path()) else "no dockerd"


def _net() -> str | None:
    if os.geteuid() != 0:
        return "not root, so no network namespaces"
    missing = [tool for tool in ("ip", "nsenter") if not shutil.which(tool, path=_search_path())]
    return f"missing: {', '.join(missing)}" if missing else None


def _git() -> str | None:
    return None if shutil.which("git") else "no git"


_CHECKS = {"root": _root, "docker": _docker, "net": _net, "git": _git}


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = set(filter(None, os.environ.get("STACKD_REQUIRE", "").split(",")))
    for mark in item.iter_markers("needs"):
        for need in mark.args:
            lack = _CHECKS[need]()
            if lack and need in required:
                pytest.fail(f"STACKD_REQUIRE names {need}, but: {lack}", pytrace=False)
            if lack:
                pytest.skip(f"needs {need}: {lack}")
