"""A real directory, real inotify, and the ways in which tools change files. The sweep is off, so events have to do."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from stackd.gitops.runner import SourceRunner
from stackd.gitops.source_dir import SWEEP_SECONDS, DirectorySource

from source_builders import MemoryCluster, Repository, a_stack_file, until, write

WITH_CONFIG = a_stack_file(extra="    configs: [motd]\nconfigs:\n  motd:\n    file: ./motd.txt\n")

Scenario = Callable[["Followed"], Awaitable[None]]


class Followed:
    """A directory that is being followed, and the cluster that results."""

    def __init__(self, root: Path, cluster: MemoryCluster) -> None:
        self.root = root
        self.cluster = cluster

    def image(self, stack: str = "shop") -> str:
        latest = self.cluster.deployed[-1]
        found = [each.spec.services[0].task.container.image for each in latest.stacks if each.spec.name == stack]
        return found[0] if found else ""

    async def runs(self, image: str, stack: str = "shop") -> None:
        await until(lambda: self.image(stack) == image)

    async def reports(self, error_code: str) -> None:
        await until(lambda: self.cluster.reports[-1].error_code == error_code)


def follow(root: Path, scenario: Scenario, *, exclude: tuple[Path, ...] = (), sweep_seconds: float = 3600) -> MemoryCluster:
    async def main() -> MemoryCluster:
        cluster = MemoryCluster()
        origin = DirectorySource(root, environment={}, key=b"k", exclude=exclude, sweep_seconds=sweep_seconds)
        following = asyncio.create_task(SourceRunner("infra", origin, cluster).run())
        try:
            await until(lambda: bool(cluster.reports))
            await scenario(Followed(root, cluster))
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        return cluster

    before = threading.active_count()
    cluster = asyncio.run(main())
    assert threading.active_count() <= before
    return cluster


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    write(root, {"shop.yaml": a_stack_file("app:1"), "other.yaml": a_stack_file("other:1")})
    return root


def test_saving_in_place_is_seen_long_before_the_sweep(root: Path) -> None:
    async def scenario(followed: Followed) -> None:
        quickest = SWEEP_SECONDS
        for number in range(2, 6):  # the quickest of a few: the machine may be busy with something else
            began = time.monotonic()
            (root / "shop.yaml").write_text(a_stack_file(f"app:{number}"))
            await followed.runs(f"app:{number}")
            quickest = min(quickest, time.monotonic() - began)
        assert quickest < SWEEP_SECONDS / 4

    follow(root, scenario)


def test_an_editor_that_saves_by_renaming_is_seen(root: Path) -> None:
    async def scenario(followed: Followed) -> None:
        for number in (2, 3):
            (root / ".shop.yaml.swp").write_text(a_stack_file(f"app:{number}"))
            (root / ".shop.yaml.swp").rename(root / "shop.yaml")
            await followed.runs(f"app:{number}")

    follow(root, scenario)


def test_an_editor_that_keeps_a_backup_is_seen_and_the_stack_stays(root: Path) -> None:
    async def scenario(followed: Followed) -> None:
        (root / "shop.yaml").rename(root / "shop.yaml~")
        (root / "shop.yaml").write_text(a_stack_file("app:2"))
        await followed.runs("app:2")

    assert all(pruned == () for pruned in follow(root, scenario).pruned)


def test_a_stack_that_is_away_for_a_moment_is_not_removed(root: Path) -> None:
    async def scenario(followed: Followed) -> None:
        (root / "shop.yaml").unlink()
        await asyncio.sleep(0.1)  # longer than the watch waits for silence
        (root / "shop.yaml").write_text(a_stack_file("app:2"))
        await followed.runs("app:2")

    assert all(pruned == () for pruned in follow(root, scenario).pruned)


def test_a_deleted_file_is_a_removed_stack(root: Path) -> None:
    async def scenario(followed: Followed) -> None:
        (root / "other.yaml").unlink()
        await until(lambda: followed.cluster.stacks == {"shop"})

    follow(root, scenario)


def test_an_error_is_reported_and_nothing_changes_until_it_is_mended(root: Path) -> None:
    async def scenario(followed: Followed) -> None:
        (root / "shop.yaml").write_text("services: [\n")
        (root / "other.yaml").unlink()
        await until(lambda: bool(followed.cluster.reports[-1].error))
        assert followed.cluster.stacks == {"shop", "other"}
        (root / "shop.yaml").write_text(a_stack_file("app:2"))
        await until(lambda: followed.cluster.stacks == {"shop"})
        await followed.reports("")

    follow(root, scenario)


def test_a_new_folder_with_a_stack_is_seen(root: Path) -> None:
    async def scenario(followed: Followed) -> None:
        write(root, {"stacks/blog/stack.yaml": a_stack_file("blog:1")})
        await followed.runs("blog:1", "blog")
        write(root, {"stacks/blog/stack.yaml": a_stack_file("blog:2")})
        await followed.runs("blog:2", "blog")

    follow(root, scenario)


def test_a_changed_side_file_rolls_its_stack(root: Path) -> None:
    write(root, {"blog/stack.yaml": WITH_CONFIG, "blog/motd.txt": "one"})

    async def scenario(followed: Followed) -> None:
        first = followed.cluster.deployed[-1].label
        write(root, {"blog/motd.txt": "two"})
        await until(lambda: followed.cluster.deployed[-1].label != first)

    follow(root, scenario)


def test_changed_variables_and_included_files_roll_their_stack(root: Path) -> None:
    write(root, {"blog/stack.yaml": "include: [parts/web.yml]", "blog/parts/web.yml": a_stack_file("blog:${TAG:-1}")})

    async def scenario(followed: Followed) -> None:
        write(root, {"blog/.env": "TAG=2"})
        await followed.runs("blog:2", "blog")
        write(root, {"blog/parts/web.yml": a_stack_file("web:${TAG}")})
        await followed.runs("web:2", "blog")

    follow(root, scenario)


def test_a_linked_stack_file_is_watched_where_it_lies(root: Path) -> None:
    elsewhere = root.parent / "elsewhere"
    write(elsewhere, {"real.yaml": a_stack_file("linked:1"), "new.yaml": a_stack_file("linked:3")})
    (root / "linked.yaml").symlink_to(elsewhere / "real.yaml")

    async def scenario(followed: Followed) -> None:
        (elsewhere / "real.yaml").write_text(a_stack_file("linked:2"))
        await followed.runs("linked:2", "linked")
        (elsewhere / "new.yaml").rename(elsewhere / "real.yaml")
        await followed.runs("linked:3", "linked")

    follow(root, scenario)


def test_a_linked_folder_is_watched_where_it_lies(root: Path) -> None:
    elsewhere = root.parent / "elsewhere"
    write(elsewhere, {"stack.yaml": WITH_CONFIG, "motd.txt": "one"})
    (root / "blog").symlink_to(elsewhere)

    async def scenario(followed: Followed) -> None:
        first = followed.cluster.deployed[-1].label
        write(elsewhere, {"motd.txt": "two"})
        await until(lambda: followed.cluster.deployed[-1].label != first)

    follow(root, scenario)


def test_a_release_link_that_is_switched_over_is_seen(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path / f"release-{number}", {"shop.yaml": a_stack_file(f"app:{number}")})
    root = tmp_path / "current"
    root.symlink_to("release-1")

    async def scenario(followed: Followed) -> None:
        (tmp_path / "next").symlink_to("release-2")
        (tmp_path / "next").rename(root)
        await followed.runs("app:2")
        write(tmp_path / "release-2", {"shop.yaml": a_stack_file("app:3")})
        await followed.runs("app:3")

    follow(root, scenario)


def test_a_whole_directory_that_is_written_atomically_is_seen(tmp_path: Path) -> None:
    root = tmp_path / "mounted"
    write(root, {"..one/shop.yaml": a_stack_file("app:1"), "..two/shop.yaml": a_stack_file("app:2")})
    (root / "..data").symlink_to("..one")
    (root / "shop.yaml").symlink_to("..data/shop.yaml")

    async def scenario(followed: Followed) -> None:
        (root / "..next").symlink_to("..two")
        (root / "..next").rename(root / "..data")
        await followed.runs("app:2")

    follow(root, scenario)


def test_a_directory_that_is_deleted_is_an_error_until_it_is_there_again(root: Path) -> None:
    async def scenario(followed: Followed) -> None:
        shutil.rmtree(root)
        await followed.reports("source.unreadable")
        assert followed.cluster.stacks == {"shop", "other"}
        write(root, {"shop.yaml": a_stack_file("app:2"), "other.yaml": a_stack_file("other:1")})
        await followed.runs("app:2")
        await followed.reports("")
        write(root, {"shop.yaml": a_stack_file("app:3")})
        await followed.runs("app:3")

    follow(root, scenario)


def test_a_directory_that_does_not_exist_yet_is_picked_up_when_it_comes(tmp_path: Path) -> None:
    async def scenario(followed: Followed) -> None:
        assert followed.cluster.reports[-1].error_code == "source.unreadable"
        write(tmp_path / "fresh", {"shop.yaml": a_stack_file("app:1")})
        await until(lambda: followed.cluster.stacks == {"shop"})

    follow(tmp_path / "fresh", scenario)


@pytest.mark.needs("git")
def test_a_checkout_of_another_branch_is_seen_and_prunes_nothing_by_mistake(tmp_path: Path) -> None:
    stacks = [f"s{number:02d}" for number in range(40)]
    repository = Repository(tmp_path / "work")
    repository.commit({f"{name}/stack.yaml": a_stack_file("app:1") for name in stacks})
    repository.git("checkout", "--quiet", "-b", "next")
    repository.commit({f"{name}/stack.yaml": a_stack_file("app:2") for name in stacks})
    repository.git("checkout", "--quiet", "main")

    async def scenario(followed: Followed) -> None:
        for branch, image in (("next", "app:2"), ("main", "app:1")):
            await asyncio.to_thread(repository.git, "checkout", "--quiet", branch)
            await until(lambda image=image: all(followed.image(name) == image for name in stacks))  # type: ignore[misc]

    assert all(pruned == () for pruned in follow(tmp_path / "work", scenario).pruned)


def test_noise_in_hidden_and_excluded_folders_is_not_looked_at(root: Path) -> None:
    write(root, {".git/index": "", "data/state": ""})

    async def scenario(followed: Followed) -> None:
        deployed, reported = len(followed.cluster.deployed), len(followed.cluster.reports)
        for number in range(20):
            write(root, {".git/index": str(number), "data/stack.yaml": "no stack", "readme.md": str(number)})
        (root / "shop.yaml").write_text(a_stack_file("app:2"))
        await followed.runs("app:2")
        assert (len(followed.cluster.deployed), len(followed.cluster.reports)) == (deployed + 1, reported + 1)

    follow(root, scenario, exclude=(root / "data",))


def test_a_touch_triggers_nothing(root: Path) -> None:
    async def scenario(followed: Followed) -> None:
        os.utime(root / "shop.yaml")
        (root / "other.yaml").write_text(a_stack_file("other:2"))
        await followed.runs("other:2", "other")
        (root / "shop.yaml").write_text(a_stack_file("app:1"))
        (root / "other.yaml").write_text(a_stack_file("other:3"))
        await followed.runs("other:3", "other")
        assert len(followed.cluster.deployed) == 3

    follow(root, scenario)


def test_the_sweep_sees_what_no_event_told_of(root: Path) -> None:
    elsewhere = root.parent / "far" / "away"
    write(elsewhere, {"real.yaml": a_stack_file("linked:1")})
    (root.parent / "hop").symlink_to(elsewhere)
    (root / "linked.yaml").symlink_to(root.parent / "hop" / "real.yaml")

    async def scenario(followed: Followed) -> None:
        write(root.parent / "far" / "again", {"real.yaml": a_stack_file("linked:2")})
        (root.parent / "hop2").symlink_to(root.parent / "far" / "again")
        (root.parent / "hop2").rename(root.parent / "hop")
        await followed.runs("linked:2", "linked")

    follow(root, scenario, sweep_seconds=0.2)


def test_a_change_of_one_of_two_hundred_stacks_is_seen_quickly(tmp_path: Path) -> None:
    root = tmp_path / "many"
    write(root, {f"s{number:03d}/stack.yaml": a_stack_file("app:1") for number in range(200)})

    async def scenario(followed: Followed) -> None:
        quickest = SWEEP_SECONDS
        for number in range(2, 5):
            began = time.monotonic()
            write(root, {"s100/stack.yaml": a_stack_file(f"app:{number}")})
            await followed.runs(f"app:{number}", "s100")
            quickest = min(quickest, time.monotonic() - began)
        assert quickest < SWEEP_SECONDS / 4

    follow(root, scenario)
