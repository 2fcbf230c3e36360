"""What a process task sees and may do: its file tree, users, rights, files, volumes and limits."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from stackd.agent.executor.process import ProcessExecutor
from stackd.base.errors import TaskFault
from stackd.base.ids import BlobDigest
from stackd.spec.stack import FileRef, Mount, MountType, Resources

from images import busybox_archive
from process_host import Bench, drive, sh

pytestmark = pytest.mark.needs("root", "net")


def test_a_task_has_namespaces_of_its_own(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        inside = "for n in mnt uts ipc net pid; do readlink /proc/self/ns/$n; done; hostname; ls /proc | grep -c '^[0-9]'"
        _, output = await bench.ended(sh(inside, hostname="box"))
        *spaces, name, processes = output.split()
        assert not {os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "uts", "ipc", "net", "pid")} & set(spaces)
        assert name == "box"
        assert int(processes) < 6

    drive(tmp_path, script)


def test_what_a_task_writes_reaches_neither_the_host_nor_another_task(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        await bench.ended(sh("echo x > /etc/of-the-task; echo y > /tmp/of-the-task; rm /etc/passwd"))
        assert not Path("/etc/of-the-task").exists()
        assert Path("/etc/passwd").exists()
        assert not Path("/tmp/of-the-task").exists()
        _, output = await bench.ended(sh("ls /etc/of-the-task /tmp /etc/passwd"))
        assert "/etc/passwd" in output
        assert "No such file" in output
        assert "y" not in output.split()

    drive(tmp_path, script)


def test_a_mount_of_the_host_below_one_that_tasks_do_not_get_is_left_out(tmp_path: Path) -> None:
    chroot = Path(tempfile.mkdtemp(dir="/var/tmp"))  # not below /tmp, of which tasks see nothing anyway
    below = chroot / "fs" / "cgroup"

    async def script(bench: Bench) -> None:
        _, output = await bench.ended(sh(f"ls -A {chroot}; echo works"))
        assert output == "works"

    try:
        subprocess.run(["mount", "-t", "sysfs", "sysfs", chroot], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
        drive(tmp_path, script)
    finally:
        subprocess.run(["umount", "--recursive", chroot], check=True)
        chroot.rmdir()


def test_the_data_directory_and_the_hosts_temporary_files_are_hidden(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")

    async def script(bench: Bench) -> None:
        _, output = await bench.ended(sh(f"cat {tmp_path}/key; ls -A /tmp /run"))
        assert "secret" not in output

    drive(tmp_path, script)


def test_a_data_directory_outside_of_tmp_is_hidden_too() -> None:
    """Where the daemon's directory lies on the file system that the tasks' overlay is made of."""
    place = Path(tempfile.mkdtemp(prefix="stackd-test-", dir="/var/lib"))
    try:
        (place / "key").write_text("secret")

        async def script(bench: Bench) -> None:
            _, output = await bench.ended(
                sh(f"cat {place}/key {place}/tasks/*/record; ls {place}; echo x > /var/lib/of-the-task")
            )
            assert "secret" not in output
            assert "tasks" not in output.split()
            assert not Path("/var/lib/of-the-task").exists()

        drive(place, script)
    finally:
        shutil.rmtree(place)


def test_where_the_disk_can_not_hold_an_overlay_memory_does(tmp_path: Path) -> None:
    """On an overlay no other one can be stacked: so it is for a daemon inside a container."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    layers = ",".join(f"{name}dir={tmp_path / name}" for name in ("lower", "upper", "work"))
    subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", str(tmp_path / "merged")], check=True)
    try:

        async def script(bench: Bench) -> None:
            ended, output = await bench.ended(sh("echo x > /etc/of-the-task && cat /etc/of-the-task && ls /usr"))
            assert ended.code == 0
            assert output.split()[0] == "x"
            assert not Path("/etc/of-the-task").exists()

        drive(tmp_path / "merged/state", script)
    finally:
        subprocess.run(["umount", str(tmp_path / "merged")], check=True)


def test_a_file_system_mounted_on_the_host_is_seen_and_not_written(tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="stackd-test-", dir="/srv"))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], check=True)
    try:
        (place / "data").write_text("host\n")

        async def script(bench: Bench) -> None:
            _, output = await bench.ended(sh(f"cat {place}/data; echo task > {place}/data; cat {place}/data"))
            assert output.split() == ["host", "task"]
            assert (place / "data").read_text() == "host\n"

        drive(tmp_path, script)
    finally:
        subprocess.run(["umount", str(place)], check=True)
        place.rmdir()


def test_a_task_that_is_root_keeps_few_rights(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        _, output = await bench.ended(
            sh("grep -E 'Cap(Prm|Eff|Bnd)|NoNewPrivs' /proc/self/status; mount -t tmpfs x /mnt; id -u")
        )
        assert output.count("00000000a00425fb") == 3
        assert "NoNewPrivs:\t1" in output
        assert "permission denied" in output
        assert output.endswith("0")

    drive(tmp_path, script)


def test_the_kernels_own_files_can_not_be_written(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        writes = "echo h > /proc/sysrq-trigger; echo 1 > /proc/sys/kernel/sysrq; echo 0 > /sys/kernel/mm/ksm/run"
        _, output = await bench.ended(sh(f"{writes}; mknod /dev/disk b 8 0; umount /proc/sys"))
        assert len(output.splitlines()) == 5  # a complaint each

    drive(tmp_path, script)


@pytest.mark.parametrize(
    ("user", "told"), [("nobody", "65534 65534"), ("1234:77", "1234 77"), ("nobody:daemon", "65534 1"), ("0", "0 0")]
)
def test_the_user_of_the_spec_runs_the_task(tmp_path: Path, user: str, told: str) -> None:
    async def script(bench: Bench) -> None:
        _, output = await bench.ended(sh("echo $(id -u) $(id -g); grep CapEff /proc/self/status", user=user))
        first, capabilities = output.splitlines()
        assert first == told
        assert capabilities.endswith("0" * 16) == (user != "0")

    drive(tmp_path, script)


def test_environment_and_working_directory_are_those_of_the_spec(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        context = sh("echo $COLOUR $HOME $HOSTNAME; pwd", env=("COLOUR=red=ish",), working_dir="/srv/new/place", hostname="box")
        _, output = await bench.ended(context)
        assert output == "red=ish /root box\n/srv/new/place"
        assert not Path("/srv/new/place").exists()

    drive(tmp_path, script)


def test_nothing_of_the_daemons_environment_leaks_into_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD_OF_THE_DAEMON", "x")

    async def script(bench: Bench) -> None:
        _, output = await bench.ended(sh("env; ls -l /proc/self/fd | wc -l"))
        assert "PASSWORD" not in output
        assert int(output.split()[-1]) <= 6

    drive(tmp_path, script)


def test_configs_and_secrets_are_read_only_files_with_owner_and_mode(tmp_path: Path) -> None:
    configs = (FileRef(source="motd", target="/etc/app/motd", digest=BlobDigest("c"), mode=0o444),)
    secrets = (FileRef(source="key", target="key", uid="1234", gid="77", mode=0o400, digest=BlobDigest("s")),)

    async def script(bench: Bench) -> None:
        both = "/etc/app/motd /run/secrets/key"
        context = sh(
            f"cat {both}; stat -c '%a %u %g %n' {both}; echo x > /run/secrets/key",
            configs=configs,
            secrets=secrets,
            files={"c": b"hello\n", "s": b"hunter2\n"},
            user="1234:77",
        )
        task = await bench.running(context)
        await task.wait()
        lines = [line.line.decode() async for line in task.logs(follow=False, tail=-1, since=0)]  # type: ignore[arg-type]
        assert lines[:4] == ["hello", "hunter2", "444 0 0 /etc/app/motd", "400 1234 77 /run/secrets/key"]
        assert "cannot create" in lines[4]
        for path in tmp_path.rglob("*"):
            if path.is_file() and not path.name.startswith("log"):
                assert b"hunter2" not in path.read_bytes(), path

    drive(tmp_path, script)


def test_a_content_that_has_not_arrived_is_waited_for(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        with pytest.raises(TaskFault) as fault:
            await bench.controller(sh("true", configs=(FileRef(source="motd", target="/m", digest=BlobDigest("c")),))).prepare()
        assert (fault.value.code, fault.value.retry.value) == ("agent.process.content_missing", "later")

    drive(tmp_path, script)


def test_a_target_that_is_a_link_to_the_hosts_files_stays_inside_the_task(tmp_path: Path) -> None:
    """/var/run is an absolute link to /run on most hosts: followed from outside it would lead to the host's own."""
    configs = (FileRef(source="c", target="/var/run/of-the-task/config", digest=BlobDigest("c")),)

    async def script(bench: Bench) -> None:
        _, output = await bench.ended(sh("cat /run/of-the-task/config", configs=configs, files={"c": b"inside"}))
        assert output == "inside"
        assert not Path("/run/of-the-task").exists()

    drive(tmp_path, script)


def test_volumes_of_every_kind(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "given").write_text("given\n")
    mounts = (
        Mount(type=MountType.BIND, source=str(shared), target="/data/bind"),
        Mount(type=MountType.BIND, source=str(shared / "given"), target="/data/file", read_only=True),
        Mount(type=MountType.VOLUME, source="shop_db", target="/data/named", labels=(("a", "b"),)),
        Mount(type=MountType.VOLUME, target="/data/anonymous"),
        Mount(type=MountType.TMPFS, target="/data/memory", size_bytes=1 << 20),
    )

    async def script(bench: Bench) -> None:
        write = "cat /data/bind/given /data/file; for v in bind named anonymous memory; do echo $v > /data/$v/mark; done"
        more = "echo x > /data/file; head -c 2000000 /dev/zero > /data/memory/big; ls /data/*/mark"
        _, output = await bench.ended(sh(f"{write}; {more}", mounts=mounts))
        assert output.count("given") == 2
        assert "Read-only file system" in output
        assert "No space left" in output
        assert output.count("mark") == 4
        assert (shared / "mark").read_text() == "bind\n"
        _, output = await bench.ended(sh("ls /data/*/mark", mounts=mounts))
        assert output.split() == ["/data/bind/mark", "/data/named/mark"]

    drive(tmp_path / "state", script)
    assert (tmp_path / "state/volumes/shop_db/_data/mark").exists()


def test_a_bind_source_that_does_not_exist_is_a_fault(tmp_path: Path) -> None:
    mounts = (Mount(type=MountType.BIND, source="/no/such/place", target="/data"),)

    async def script(bench: Bench) -> None:
        with pytest.raises(TaskFault, match="bind source path does not exist: /no/such/place"):
            await bench.controller(sh("true", mounts=mounts)).prepare()

    drive(tmp_path, script)


def test_a_registered_root_stands_for_its_image_and_fills_new_volumes(tmp_path: Path) -> None:
    root = tmp_path / "roots/example:1"
    root.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(busybox_archive())) as archive:
        archive.extractall(root)
    (root / "data").mkdir()
    (root / "data/from-image").write_text("hello\n")
    os.chown(root / "data/from-image", 12, 34)
    mounts = (Mount(type=MountType.VOLUME, source="v", target="/data"),)

    async def script(bench: Bench) -> None:
        _, output = await bench.ended(sh("pwd; ls /; stat -c '%u %g' /data/from-image; echo x > /written", mounts=mounts))
        assert output.splitlines()[0] == "/"
        assert "home" not in output.split()
        assert "12 34" in output
        assert not (root / "written").exists()

    drive(tmp_path, script)


def test_the_memory_limit_ends_a_task_that_wants_more_and_says_so(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        eat = "python3 -c 'x = bytearray(200_000_000)'"
        ended, _ = await bench.ended(sh(f"exec {eat}", limits=Resources(memory_bytes=50_000_000)))
        assert (ended.code, ended.oom) == (137, True)
        assert ended.error == "task: non-zero exit (137): killed by the kernel: out of memory"

    drive(tmp_path, script)


def test_limits_are_in_force_for_the_whole_task(tmp_path: Path) -> None:
    limits = Resources(nano_cpus=500_000_000, memory_bytes=64 << 20, pids=20)

    async def script(bench: Bench) -> None:
        task = await bench.running(sh("for i in 1 2 3; do sleep 60 & done; wait", limits=limits))
        groups = Path(f"/proc/{await task.pid()}/cgroup").read_text()
        assert groups.count("/stackd-") >= 1
        ended, output = await bench.ended(sh("for i in $(seq 40); do sleep 1 & done; echo done", limits=limits))
        assert "fork" in output
        assert ended.code != 0 or "done" in output

    drive(tmp_path, script)


def test_limits_that_can_not_be_enforced_are_refused(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        executor = ProcessExecutor(tmp_path / "other", cgroup_root=tmp_path / "none")
        with pytest.raises(TaskFault, match="can't be enforced on this host"):
            await executor.controller(sh("true", limits=Resources(pids=3))).prepare()

    drive(tmp_path, script)
