"""Both forms of control groups keep one contract, on trees made of plain files. The integration ring runs the real ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from stackd.agent.cgroup import Groups, detect
from stackd.spec.stack import Resources

ALL = Resources(nano_cpus=1_500_000_000, memory_bytes=64 << 20, pids=40)
HOME, TASK = "stackd-test", "task1"


@dataclass(frozen=True)
class Tree:
    """A tree as the kernel shows it, with the files of one group to be; `files` are those that hold the limits."""

    root: Path
    memory: str
    cpu: str
    pids: str
    joins: tuple[str, ...]
    counter: str

    def content(self, file: str) -> str:
        return (self.root / file).read_text()


def _file(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def v1(root: Path) -> Tree:
    for controller, files in {
        "memory": ("memory.limit_in_bytes", "memory.oom_control", "memory.memsw.limit_in_bytes"),
        "cpu": ("cpu.cfs_period_us", "cpu.cfs_quota_us"),
        "pids": ("pids.max",),
    }.items():
        _file(root / controller / "cgroup.procs")
        for name in ("cgroup.procs", *files):
            _file(root / controller / HOME / TASK / name)
    group = f"{HOME}/{TASK}"
    return Tree(
        root,
        memory=f"memory/{group}/memory.limit_in_bytes",
        cpu=f"cpu/{group}/cpu.cfs_quota_us",
        pids=f"pids/{group}/pids.max",
        joins=tuple(str(root / controller / group / "cgroup.procs") for controller in ("memory", "cpu", "pids")),
        counter=str(root / "memory" / group / "memory.oom_control"),
    )


def v2(root: Path) -> Tree:
    _file(root / "cgroup.controllers", "cpuset cpu io memory pids\n")
    _file(root / "cgroup.subtree_control")
    _file(root / HOME / "cgroup.subtree_control")
    group = root / HOME / TASK
    for name in ("cgroup.procs", "memory.max", "memory.swap.max", "memory.events", "cpu.max", "pids.max", "cgroup.kill"):
        _file(group / name)
    return Tree(
        root,
        memory=f"{HOME}/{TASK}/memory.max",
        cpu=f"{HOME}/{TASK}/cpu.max",
        pids=f"{HOME}/{TASK}/pids.max",
        joins=(str(group / "cgroup.procs"),),
        counter=str(group / "memory.events"),
    )


@pytest.fixture(params=[v1, v2])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    made: Tree = request.param(tmp_path)
    return made


@pytest.fixture
def groups(tree: Tree) -> Groups:
    found = detect(HOME, tree.root)
    assert found is not None
    return found


def test_every_limit_is_written_where_the_kernel_reads_it(tree: Tree, groups: Groups) -> None:
    group = groups.create(TASK, ALL)
    assert tree.content(tree.memory) == str(64 << 20)
    assert tree.content(tree.cpu).split()[0] == "150000"
    assert tree.content(tree.pids) == "40"
    assert set(group.join_files) == set(tree.joins)
    assert group.oom_counter == tree.counter


def test_a_limit_that_is_not_asked_for_is_not_written(tree: Tree, groups: Groups) -> None:
    group = groups.create(TASK, Resources(pids=7))
    assert tree.content(tree.memory) == ""
    assert tree.content(tree.cpu) == ""
    assert tree.content(tree.pids) == "7"
    assert group.oom_counter == ""


def test_a_tiny_share_of_a_cpu_is_raised_to_what_the_kernel_takes(tree: Tree, groups: Groups) -> None:
    groups.create(TASK, Resources(nano_cpus=1))
    assert tree.content(tree.cpu).split()[0] == "1000"


def test_groups_are_listed_by_name(groups: Groups) -> None:
    assert groups.names() == (TASK,)


def test_a_group_that_is_busy_stays_and_says_so(groups: Groups) -> None:
    """A directory with files can't be removed here, as one with processes can't there."""
    assert groups.remove(TASK) is False


def test_removing_and_killing_what_is_not_there_is_fine(groups: Groups) -> None:
    groups.kill("unknown")
    assert groups.remove("unknown") is True


def test_nothing_is_lacking_where_every_controller_is_present(groups: Groups) -> None:
    assert groups.lacking(ALL) == ""


def test_what_the_host_can_not_limit_is_named(tmp_path: Path) -> None:
    v2(tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpu\n")
    groups = detect(HOME, tmp_path)
    assert groups is not None
    assert groups.lacking(ALL) == "memory, pids"
    assert groups.lacking(Resources(nano_cpus=1)) == ""


def test_v2_hands_exactly_the_controllers_it_needs_down_to_its_children(tmp_path: Path) -> None:
    v2(tmp_path)
    groups = detect(HOME, tmp_path)
    assert groups is not None
    groups.create(TASK, Resources(memory_bytes=1 << 20))
    for above in (tmp_path, tmp_path / HOME):
        assert (above / "cgroup.subtree_control").read_text() == "+memory"


def test_a_host_without_groups_has_none(tmp_path: Path) -> None:
    assert detect(HOME, tmp_path) is None
