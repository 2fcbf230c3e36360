"""Real git: repositories on this host, fetched through the file protocol into a bare mirror."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stackd.base.errors import StackdError
from stackd.base.time import MILLISECOND, Duration
from stackd.gitops.git import Git
from stackd.gitops.remote import Remote, checked_remote
from stackd.gitops.runner import SourceRunner
from stackd.gitops.snapshot import SourceSnapshot
from stackd.gitops.source_git import GitLocation, GitSource

from source_builders import MemoryCluster, Repository, a_stack_file, until

pytestmark = pytest.mark.needs("git")

WITH_CONFIG = a_stack_file(extra="    configs: [motd]\nconfigs:\n  motd:\n    file: ../common/motd.txt\n")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "infra")


def a_source(repository: Repository, **location: object) -> GitSource:
    where = GitLocation(url=str(repository.path), allow_local=True, **location)  # type: ignore[arg-type]
    return GitSource(where, home=repository.path.parent / "mirrors" / "infra", environment={})


def looks(source: GitSource, *steps: Callable[[], object]) -> list[SourceSnapshot]:
    """One snapshot, and one more after each step."""

    async def main() -> list[SourceSnapshot]:
        found = [await source.snapshot()]
        for step in steps:
            await asyncio.to_thread(step)
            found.append(await source.snapshot())
        return found

    return asyncio.run(main())


def look(source: GitSource) -> SourceSnapshot:
    return looks(source)[0]


def code_of(source: GitSource) -> str:
    with pytest.raises(StackdError) as caught:
        look(source)
    return caught.value.code


def image(snapshot: SourceSnapshot, stack: str) -> str:
    return next(each.spec.services[0].task.container.image for each in snapshot.stacks if each.spec.name == stack)


def test_a_commit_is_read_with_its_author_and_subject(repository: Repository) -> None:
    commit = repository.commit({"shop.yaml": a_stack_file("app:1"), "blog/stack.yaml": a_stack_file()}, "Open the shop")
    snapshot = look(a_source(repository))
    assert (snapshot.label, snapshot.author, snapshot.subject) == (commit, "Ann <ann@example.com>", "Open the shop")
    assert snapshot.stack_names() == {"shop", "blog"}
    assert not snapshot.problems


def test_a_stack_may_be_made_of_several_files_of_its_commit(repository: Repository) -> None:
    repository.commit(
        {
            "shop/stack.yaml": "services: {web: {extends: {file: ../parts/base.yml, service: app}}}",
            "shop/.env": "TAG=7",
            "parts/base.yml": "services: {app: {image: 'app:${TAG}'}}",
        }
    )
    assert image(look(a_source(repository)), "shop") == "app:7"


def test_there_is_no_checkout(repository: Repository) -> None:
    repository.commit({"shop.yaml": a_stack_file("app:1")})
    look(a_source(repository))
    assert not list((repository.path.parent / "mirrors").rglob("shop.yaml"))


def test_the_newest_commit_is_read_and_an_unmoved_ref_costs_one_look(repository: Repository) -> None:
    repository.commit({"shop.yaml": a_stack_file("app:1")})
    source = a_source(repository)
    first, same, newest = looks(
        source,
        lambda: None,
        lambda: [repository.commit({"shop.yaml": a_stack_file(f"app:{number}")}) for number in (2, 3)],
    )
    assert same is first
    assert image(newest, "shop") == "app:3"


def test_a_rewritten_branch_is_followed(repository: Repository) -> None:
    base = repository.commit({"shop.yaml": a_stack_file("app:1")})
    repository.commit({"shop.yaml": a_stack_file("app:2")})

    def rewrite() -> None:
        repository.git("reset", "--quiet", "--hard", base)
        repository.commit({"shop.yaml": a_stack_file("app:3")})

    assert [image(snapshot, "shop") for snapshot in looks(a_source(repository), rewrite)] == ["app:2", "app:3"]


def test_a_branch_a_tag_or_a_commit_can_be_named(repository: Repository) -> None:
    first = repository.commit({"shop.yaml": a_stack_file("app:1")})
    repository.commit({"shop.yaml": a_stack_file("app:2")})
    repository.git("tag", "-a", "-m", "release", "v2")
    repository.commit({"shop.yaml": a_stack_file("app:3")})
    repository.git("branch", "feature/x", first)
    images = {
        ref: image(look(a_source(repository, ref=ref)), "shop") for ref in ("main", "v2", first, "feature/x", "refs/heads/main")
    }
    assert images == {"main": "app:3", "v2": "app:2", first: "app:1", "feature/x": "app:1", "refs/heads/main": "app:3"}


def test_a_tag_is_fetched_once(repository: Repository) -> None:
    repository.commit({"shop.yaml": a_stack_file("app:1")})
    repository.git("tag", "-a", "-m", "release", "v1")
    first, second = looks(a_source(repository, ref="v1"), lambda: None)
    assert second is first


def test_only_the_named_folder_is_read_but_side_files_may_lie_beside_it(repository: Repository) -> None:
    repository.commit(
        {
            "mkdocs.yaml": "no: stack",
            "deploy/shop.yaml": WITH_CONFIG,
            "deploy/stack.yaml": a_stack_file(),
            "common/motd.txt": "hello",
        }
    )
    snapshot = look(a_source(repository, path="deploy"))
    assert not snapshot.problems
    assert snapshot.stack_names() == {"shop", "deploy"}
    assert next(stack for stack in snapshot.stacks if stack.spec.name == "shop").spec.configs[0].data == b"hello"


def test_links_lead_within_the_commit_and_nowhere_else(repository: Repository) -> None:
    repository.commit({"real/stack.yaml": a_stack_file("app:1"), "real/motd.txt": "hello"})
    (repository.path / "linked.yaml").symlink_to("real/stack.yaml")
    (repository.path / "alias").symlink_to("real")
    (repository.path / "passwd").symlink_to("/etc/passwd")
    (repository.path / "loop").symlink_to("loop")
    config = "configs: [motd]\nconfigs:\n  motd:\n    file: "
    repository.commit({"good.yaml": a_stack_file(extra=f"    {config}alias/motd.txt\n")})
    assert look(a_source(repository)).stack_names() == {"real", "linked", "good"}
    for path in ("passwd", "loop", "../outside", "/etc/passwd", "real/../../x"):
        repository.commit({"good.yaml": a_stack_file(extra=f"    {config}{path}\n")})
        assert [problem.code for problem in look(a_source(repository)).problems] == ["spec.file.escapes"], path


def test_a_relative_bind_mount_is_refused(repository: Repository) -> None:
    repository.commit({"shop.yaml": a_stack_file(extra="    volumes: ['./data:/data']\n")})
    assert [problem.code for problem in look(a_source(repository)).problems] == ["spec.mount.relative_in_git"]


def test_a_missing_side_file_names_the_line(repository: Repository) -> None:
    repository.commit({"blog/stack.yaml": WITH_CONFIG})
    problem = look(a_source(repository)).problems[0]
    assert problem.code == "spec.file.missing"
    assert str(problem.position).startswith("blog/stack.yaml:7:")


def test_a_file_above_the_limit_is_not_read(repository: Repository) -> None:
    repository.commit({"shop.yaml": a_stack_file() + "#" * (2 << 20)})
    assert [problem.code for problem in look(a_source(repository)).problems] == ["spec.file.too_large"]


def test_what_cannot_be_fetched_is_an_error_and_never_an_empty_source(repository: Repository) -> None:
    assert code_of(a_source(repository)) == "source.ref.missing"
    repository.commit({"shop.yaml": a_stack_file()})
    assert code_of(a_source(repository, ref="nope")) == "source.ref.missing"
    assert code_of(a_source(repository, path="nope")) == "source.unreadable"
    assert code_of(a_source(repository, ref="0" * 40)) == "source.git.failed"
    repository.path.rename(repository.path.parent / "away")
    assert code_of(a_source(repository)) == "source.git.failed"


def test_after_an_outage_the_source_goes_on(repository: Repository) -> None:
    repository.commit({"shop.yaml": a_stack_file("app:1")})
    away = repository.path.parent / "away"

    async def main() -> None:
        source, cluster = a_source(repository, interval_ns=Duration(20 * MILLISECOND)), MemoryCluster()
        following = asyncio.create_task(SourceRunner("infra", source, cluster).run())
        try:
            await until(lambda: cluster.stacks == {"shop"})
            repository.path.rename(away)
            await until(lambda: cluster.reports[-1].error_code == "source.git.failed")
            await asyncio.to_thread(away.rename, repository.path)
            await until(lambda: not cluster.reports[-1].error)
            await asyncio.to_thread(repository.commit, {"blog.yaml": a_stack_file()})
            await until(lambda: cluster.stacks == {"shop", "blog"})
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    asyncio.run(main())


def test_a_deleted_branch_prunes_nothing(repository: Repository) -> None:
    repository.commit({"shop.yaml": a_stack_file()})
    repository.git("branch", "live")

    async def main() -> None:
        source, cluster = a_source(repository, ref="live", interval_ns=Duration(20 * MILLISECOND)), MemoryCluster()
        following = asyncio.create_task(SourceRunner("infra", source, cluster).run())
        try:
            await until(lambda: cluster.stacks == {"shop"})
            await asyncio.to_thread(repository.git, "branch", "-D", "live")
            await until(lambda: cluster.reports[-1].error_code == "source.ref.missing")
            assert cluster.stacks == {"shop"}
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    asyncio.run(main())


def test_the_mirror_is_used_again_after_a_restart_and_locks_of_a_killed_git_are_cleared(repository: Repository) -> None:
    repository.commit({"shop.yaml": a_stack_file("app:1")})
    look(a_source(repository))
    mirror = repository.path.parent / "mirrors" / "infra" / "mirror.git"
    (mirror / "shallow.lock").touch()
    (mirror / "refs" / "stackd" / "tip.lock").touch()
    repository.commit({"shop.yaml": a_stack_file("app:2")})
    assert image(look(a_source(repository)), "shop") == "app:2"


def test_the_mirror_is_cleaned_of_what_nobody_needs(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackd.gitops.git.FETCHES_PER_CLEANING", 4)
    source = a_source(repository)
    steps = [lambda number=number: repository.commit({"shop.yaml": a_stack_file(f"app:{number}")}) for number in range(8)]
    steps[0]()
    assert image(looks(source, *steps[1:])[-1], "shop") == "app:7"
    mirror = repository.path.parent / "mirrors" / "infra" / "mirror.git"
    assert len(list(mirror.rglob("*.pack"))) == 1


def test_a_ruined_mirror_is_made_anew(repository: Repository) -> None:
    repository.commit({"shop.yaml": a_stack_file("app:1")})
    look(a_source(repository))
    mirror = repository.path.parent / "mirrors" / "infra" / "mirror.git"
    (mirror / "HEAD").write_text("")
    (mirror / "config").write_text("[[[")
    assert look(a_source(repository)).stack_names() == {"shop"}


def test_hooks_and_configuration_of_the_surroundings_have_no_effect(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = repository.path.parent / "home"
    home.mkdir()
    trap = repository.path.parent / "trapped"
    (home / ".gitconfig").write_text(
        f'[core]\n\tsshCommand = touch {trap}\n[url "/nowhere"]\n\tinsteadOf = {repository.path}\n'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "bad")
    repository.commit({"shop.yaml": a_stack_file()})
    hook = repository.path / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {trap}\n")
    hook.chmod(0o755)
    assert look(a_source(repository)).stack_names() == {"shop"}
    assert not trap.exists()


@pytest.mark.needs("root")
def test_a_repository_of_another_user_can_be_followed_when_it_was_named(repository: Repository) -> None:
    repository.commit({"shop.yaml": a_stack_file()})
    for path in (repository.path, *repository.path.rglob("*")):
        os.chown(path, 65534, 65534)
    assert look(a_source(repository)).stack_names() == {"shop"}


def test_only_the_protocol_of_the_remote_is_allowed(repository: Repository) -> None:
    repository.commit({"shop.yaml": a_stack_file()})

    async def main() -> None:
        git = Git(repository.path.parent / "mirror", Remote(str(repository.path), "https"))
        await git.prepare()
        with pytest.raises(StackdError, match="transport 'file' not allowed"):
            await git.remote_refs("HEAD")

    asyncio.run(main())


def a_slow_git(folder: Path) -> Path:
    """A `git` on the PATH that hangs with a child of its own and says who they are."""
    folder.mkdir()
    script = folder / "git"
    script.write_text(f"#!/bin/sh\nsleep 600 &\necho $! $$ > {folder}/pids.new\nmv {folder}/pids.new {folder}/pids\nwait\n")
    script.chmod(0o755)
    return folder / "pids"


def gone(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_git_that_hangs_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = a_slow_git(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    remote = checked_remote("https://git.example/infra", allow_local=False)

    async def main() -> None:
        git = Git(tmp_path / "mirror", remote, timeout_seconds=1)
        began = time.monotonic()
        with pytest.raises(StackdError) as caught:
            await git.prepare()
        assert caught.value.code == "source.git.timeout"
        assert time.monotonic() - began < 10
        await until(lambda: all(gone(pid) for pid in pids.read_text().split()))

    asyncio.run(main())


@pytest.mark.parametrize("turns", range(8))
def test_a_git_that_is_cancelled_while_it_starts_leaves_nothing(
    turns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = a_slow_git(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    async def main() -> None:
        git = Git(tmp_path / "mirror", checked_remote("https://git.example/infra", allow_local=False))
        running = asyncio.create_task(git.prepare())
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()
        if pids.exists():
            await until(lambda: all(gone(pid) for pid in pids.read_text().split()))

    asyncio.run(main())


def test_a_cancelled_git_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = a_slow_git(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    async def main() -> None:
        git = Git(tmp_path / "mirror", checked_remote("https://git.example/infra", allow_local=False))
        running = asyncio.create_task(git.prepare())
        await until(pids.exists)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await until(lambda: all(gone(pid) for pid in pids.read_text().split()))

    asyncio.run(main())


def test_a_host_without_git_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    git = Git(tmp_path / "mirror", checked_remote("https://git.example/infra", allow_local=False))
    with pytest.raises(StackdError) as caught:
        asyncio.run(git.prepare())
    assert caught.value.code == "source.git.missing"
