"""What is known outside of the cluster while chaos goes on, and what must never be.

What a command has acknowledged is noted here, where nothing fails. What runs is read off the machine's process table, and every
task leaves a line when it starts: which release, slot and node it is of. Nothing here asks the cluster.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")

MARK = "STACKD_CHAOS"
"""In the environment of every task: which stack it is of."""


class Violation(Exception):
    """Something happened that must not."""


@dataclass
class Asked(Generic[T]):
    """What was asked for of one thing. `acknowledged` is the latest that a command has confirmed; of those in `open` nobody
    knows what became; `earlier` is what it may have gone back to by itself, where a failed update does."""

    acknowledged: T
    open: set[T] = field(default_factory=set)
    earlier: set[T] = field(default_factory=set)
    goes_back: bool = False

    @property
    def possible(self) -> set[T]:
        """What the cluster may show now."""
        return {self.acknowledged, *self.open, *self.earlier}

    def note_acknowledged(self, value: T) -> None:
        """This is it, whatever became of those before."""
        self.earlier = self.possible - {value} if self.goes_back else set()
        self.acknowledged = value
        self.open.clear()

    def note_completed(self, value: T) -> None:
        """It was seen to be true everywhere: it doesn't go back any more."""
        if value == self.acknowledged and not self.open:
            self.earlier.clear()


@dataclass
class Recorder:
    """What is known outside. `releases` by stack, `roles` and `availability` by node. `leaving`: until when the tasks of a node
    had to leave it (or may have had to), in seconds since the epoch."""

    releases: dict[str, Asked[int]] = field(default_factory=dict)
    failing: set[tuple[str, int]] = field(default_factory=set)
    """The releases, by stack, of which no task can ever run."""
    roles: dict[str, Asked[str]] = field(default_factory=dict)
    availability: dict[str, Asked[str]] = field(default_factory=dict)
    leaving: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    lowest_running: int = sys.maxsize
    timeline: list[str] = field(default_factory=list)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def tell(self, what: str) -> None:
        """Write down that this happens now, for whoever has to find out why something broke."""
        self.timeline.append(f"{datetime.now(UTC):%H:%M:%S.%f} {what}")

    def next_release(self, stack: str, *, goes_back: bool) -> tuple[Asked[int], int]:
        """The stack, and its next release, which is asked for from now on."""
        asked = self.releases.setdefault(stack, Asked(0, goes_back=goes_back))
        release = max(asked.possible) + 1
        asked.open.add(release)
        return asked, release

    def managers(self) -> set[str]:
        """The nodes that may be managers."""
        return {name for name, role in self.roles.items() if "manager" in role.possible}

    def sure_managers(self) -> set[str]:
        """The nodes that are to be managers as far as anybody has said."""
        return {name for name, role in self.roles.items() if role.possible == {"manager"}}

    def begin_drain(self, node: str) -> None:
        self.leaving[node] = math.inf

    def end_drain(self, node: str) -> None:
        self.leaving[node] = time.time()

    def note_given_up(self, node: str) -> None:
        """The node was away for so long that its tasks are elsewhere, or about to be, and is told so now that it is back."""
        self.leaving[node] = max(self.leaving.get(node, 0.0), time.time())


@dataclass(frozen=True)
class Start:
    """What a task has written when it was started; `at` is in seconds since the epoch."""

    release: int
    slot: str
    node: str
    at: float


def check_release(recorder: Recorder, stack: str, detail: Any) -> None:
    """See that what `service inspect -o json` shows may be, and that a release which can't run isn't said to. Raises
    Violation."""
    asked, release, service = recorder.releases[stack], release_in(detail), detail["service"]
    if release not in asked.possible:
        raise Violation(
            f"{stack} has release {release}; {asked.acknowledged} was acknowledged, {sorted(asked.possible)} are possible"
        )
    if (stack, release) in recorder.failing and (service["converged"] or service["updated"]):
        raise Violation(f"release {release} of {stack} can't run, and is said to: {service}")
    if service["converged"]:
        asked.note_completed(release)


def check_asked(what: str, asked: Asked[str], shown: str) -> None:
    """See that what is shown was asked for. Raises Violation."""
    if shown not in asked.possible:
        raise Violation(f"{what} is {shown}; {asked.acknowledged} was acknowledged, {sorted(asked.possible)} are possible")


def release_in(detail: Any) -> int:
    """The release in what `service inspect -o json` shows."""
    environment = detail["spec"]["container"]["env"]
    for variable in environment:
        name, _, value = variable.partition("=")
        if name == "RELEASE":
            return int(value)
    raise Violation(f"a service without a release: {environment}")


def check_floor(floor: int, running: Collection[str], started: Mapping[str, Start], leaving: Mapping[str, float]) -> None:
    """See that no fewer slots of a service run than its updates leave running. `running` are the slots that do, `started` has
    the latest start of each. A slot whose task had to leave its node doesn't count until the next one runs. Raises
    Violation."""
    left = {slot: start for slot, start in started.items() if slot not in running}
    moved = {slot for slot, start in left.items() if start.at <= leaving.get(start.node, -math.inf)}
    if len(running) < floor - len(moved):
        raise Violation(
            f"{len(running)} slots run, {sorted(running)}; the updates leave {floor} running, {sorted(moved)} had to move. "
            f"Latest starts in the others: {left}"
        )


def check_starts(records: Path) -> int:
    """Every task was started once. Returns how many were. Raises Violation."""
    count = 0
    for path in records.glob("*/*"):
        lines = path.read_text().splitlines()
        if len(lines) != 1:
            raise Violation(f"task {path.name} was started {len(lines)} times: {lines}")
        count += 1
    return count


def check_log(log: Path) -> None:
    """See that a daemon has not logged a bug of its own. Raises Violation."""
    before, bug, after = log.read_text(errors="replace").partition("Traceback (most recent call last)")
    if bug:
        raise Violation(f"{log.parent.name} has logged a bug: {before[-300:]}{bug}{after[:3000]}")


def latest_starts(records: Path) -> dict[str, Start]:
    """The latest start in each slot of the stack whose records these are."""
    found: dict[str, Start] = {}
    for path in records.iterdir():
        words = path.read_text().split()
        if len(words) < 3:
            continue  # it is being written
        start = Start(int(words[0]), words[1], words[2], path.stat().st_mtime)
        if start.slot not in found or found[start.slot].at < start.at:
            found[start.slot] = start
    return found


def processes_of(stack: str, records: Path) -> dict[str, str]:
    """What runs of that stack on this machine and has left its line: the slots of its tasks, by the tasks' ids."""
    found: dict[str, str] = {}
    mark, ours = f"{MARK}={stack}".encode(), os.fsencode(records)
    for place in Path("/proc").glob("[0-9]*"):
        try:
            said = (place / "cmdline").read_bytes()
            if not said.startswith(b"sh\0") or ours not in said:
                continue
            environment = (place / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in environment:
            variables = dict(one.decode().partition("=")[::2] for one in environment)
            if (records / variables["TASK"]).exists():
                found[variables["TASK"]] = variables["SLOT"]
    return found
