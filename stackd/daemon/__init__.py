"""Builds the parts and wires them: the only place that constructs adapters, reads the system clock and sets up logging.

The entry points import the parts only when called, so that a client command pays nothing for them.
"""

from __future__ import annotations

from stackd.daemon.options import Observer, UpOptions

__all__ = ["Observer", "UpOptions", "run_down", "run_up"]


def run_up(options: UpOptions, observer: Observer | None = None) -> int:
    """Run one node in the foreground until a signal or `stackd down` ends it; returns the exit code. Tasks keep running
    after a signal. Raises StackdError when the node can't start; then nothing has changed. `stackd daemon` is the same with
    `options.waits`."""
    from stackd.daemon.node import run_node

    return run_node(options, observer)


def run_down(options: UpOptions, observer: Observer | None = None) -> int:
    """Remove every task and stack of a node whose daemon is not running. Raises StackdError like `run_up`."""
    from stackd.daemon.node import run_node_down

    return run_node_down(options, observer)
