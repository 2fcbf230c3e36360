"""What a machine must have for a test: `@pytest.mark.needs("root", "docker", "net", "git")`.

Elsewhere such a test is skipped with the reason; where STACKD_REQUIRE names the need (as CI does), the lack is an error.
"""

from __future__ import annotations

import os
import signal

import hypothesis
import pytest

from needs import lack_of

# In CI the same examples every time: a red build has to be about the change. New ones are looked for everywhere else.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", deadline=None)
# For code that is known to be wrong: that it fails is all one wants to know.
hypothesis.settings.register_profile(
    "mutants", derandomize=True, deadline=None, database=None, phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate)
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "search")

# What a script starts in the background ignores Ctrl-C, and so would all that is started here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = set(filter(None, os.environ.get("STACKD_REQUIRE", "").split(",")))
    for mark in item.iter_markers("needs"):
        for need in mark.args:
            lack = lack_of(need)
            if lack and need in required:
                pytest.fail(f"STACKD_REQUIRE names {need}, but: {lack}", pytrace=False)
            if lack:
                pytest.skip(f"needs {need}: {lack}")
