"""The task's own file tree: an overlay over a directory or over the host's root, with its own /proc, /dev, /tmp and volumes.

Runs in the task's new mount namespace, so all of it vanishes with the task. Targets are resolved only after pivot_root:
a symbolic link in the task's tree can never lead to a path of the host.

The host's root can't be an overlay's lower directory while the upper one lies on the same file system (the kernel refuses
overlapping layers). Therefore it first becomes a read-only overlay of its own, and that is the lower directory. Where
the kernel can't stack that deep (the host's root is an overlay already), what the task writes is kept in memory instead.
"""

from __future__ import annotations

import errno
import os
import stat

from stackd.agent.executor.monitor import devices, kernel
from stackd.agent.executor.monitor.people import group_id, user_id
from stackd.agent.executor.monitor.room import is_full

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stackd.agent.executor.process.plan import FilePlan, MountPlan, Plan

_PRIVATE_PLACES = ("/proc", "/sys", "/dev", "/run", "/tmp")
"""Top directories of the host that a task gets new and empty."""

_NOT_FILES = """
autofs bpf binfmt_misc cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fuse.lxcfs fusectl hugetlbfs mqueue nsfs
overlay proc pstore rpc_pipefs securityfs sysfs tracefs
"""
"""Kinds of mounts on the host that hold no files a task might need (overlays are other containers' roots)."""

_MASKED_FILES = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/latency_stats", "/proc/sched_debug")
_MASKED_DIRECTORIES = ("/proc/acpi", "/proc/scsi", "/sys/firmware")
_READ_ONLY = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")
"""Files of the kernel that a task's root could otherwise use against the host; Docker hides the same."""

_SHM_BYTES = 64 << 20
"""The size of /dev/shm where the spec names none, as in Docker."""

_COPY_BYTES = 1 << 20


def build(plan: Plan) -> None:
    """Make the plan's root and enter it. The current directory is the task's; a plain OSError says what failed."""
    trees = [kernel.open_tree(mount.source) if mount.propagation else -1 for mount in plan.mounts]
    nodes = devices.find(plan)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    for name in ("root", "stage", "upper", "work", "tmp"):
        os.mkdir(name)
    os.chmod("tmp", 0o1777)  # noqa: S103 - it becomes the task's /tmp
    kernel.mount("tmpfs", "stage", "tmpfs", kernel.MS_NODEV, "mode=755")
    _overlay(plan.lower, "root", 0)
    if plan.lower == "/":
        _lay_host_mounts(plan.hidden)
    os.mkdir("stage/empty")
    temporary = [os.open("tmp", os.O_PATH)] if plan.lower == "/" else []
    sources = [_source(mount, tree) for mount, tree in zip(plan.mounts, trees, strict=True)]
    host = os.open("/", os.O_PATH)
    os.chdir("root")
    kernel.pivot_root(".", ".")
    # The host's root now lies invisibly on top of ours; it is let go once everything has been bound out of it.
    os.chdir("/")
    _system_directories(plan)
    devices.make(nodes)
    for descriptor in temporary:
        os.makedirs("/tmp", exist_ok=True)
        kernel.bind(f"/proc/self/fd/{descriptor}", "/tmp")
    for file in plan.etc:
        _write_new(file)
    _lay_volumes(plan.mounts, sources)
    _lay_files(plan.files)
    for path, value in plan.sysctls:
        _set(path, value)
    if not plan.rights.privileged:
        _protect_kernel_files()
    os.chdir(host)
    kernel.unmount(".")
    os.chdir("/")
    for descriptor in (host, *temporary, *(source for source in sources if source >= 0)):
        os.close(descriptor)


def make_read_only(plan: Plan) -> None:
    """Let the task write nowhere but into its volumes and /dev. To be called when all is laid out."""
    places = ("/proc", "/sys", "/dev", *(os.path.realpath(mount.target) for mount in plan.mounts))
    with open("/proc/self/mountinfo") as lines:
        points = {line.split(" ")[4].encode().decode("unicode_escape") for line in lines}
    for point in sorted(points):
        if _inside(point, places):
            continue
        try:
            kernel.make_read_only(point)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL):
                raise
            # Another mount covers this one, so nobody can reach it.


def _source(mount: MountPlan, tree: int) -> int:
    """The open source of a mount; -1 for a tmpfs."""
    if tree >= 0 or not mount.source:
        return tree
    source = os.open(mount.source, os.O_PATH)
    for name in filter(None, mount.subpath.split("/")):
        # Step by step and through no link: what is in a volume must not lead out of it.
        above, source = source, os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=source)
        os.close(above)
    return source


def _set(path: str, value: str) -> None:
    with open(path, "w") as setting:
        setting.write(value)


def _overlay(lower: str, target: str, number: int) -> None:
    """Mount an overlay over `lower` at `target`; what is written goes to disk, or to memory where that can't be."""
    upper, work = f"upper/{number}", f"work/{number}"
    os.mkdir(upper)
    os.mkdir(work)
    below = os.stat(lower)
    _like(upper, below)
    try:
        _mount_overlay(_lower_apart(lower, number), upper, work, target, ",volatile")
    except OSError as error:
        if is_full(error):
            raise
        upper, work = f"stage/upper{number}", f"stage/work{number}"
        os.mkdir(upper)
        os.mkdir(work)
        _like(upper, below)
        _mount_overlay(lower, upper, work, target, "")


def _lower_apart(lower: str, number: int) -> str:
    """`lower` as a read-only overlay of its own (with an empty second layer, which the kernel wants)."""
    empty, apart = f"stage/empty{number}", f"stage/lower{number}"
    os.mkdir(empty)
    os.mkdir(apart)
    kernel.mount("overlay", apart, "overlay", kernel.MS_RDONLY, f"lowerdir={_escaped(lower)}:{empty}")
    return apart


def _mount_overlay(lower: str, upper: str, work: str, target: str, more: str) -> None:
    options = f"lowerdir={_escaped(lower)},upperdir={upper},workdir={work}{more}"
    kernel.mount("overlay", target, "overlay", kernel.MS_NODEV, options)
    if os.statvfs(target).f_flag & os.ST_RDONLY:  # so the kernel mounts it if there is no room for what it needs to write
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), upper)


def _escaped(path: str) -> str:
    """A path as an overlay option: backslash, colon and comma have meanings there."""
    for character in "\\:,":
        path = path.replace(character, "\\" + character)
    return path


def _like(path: str, model: os.stat_result) -> None:
    os.chown(path, model.st_uid, model.st_gid)
    os.chmod(path, stat.S_IMODE(model.st_mode))


def _lay_host_mounts(hidden: str) -> None:
    """Over the host's root: its other file systems in the same way, and nothing of the daemon's own directory."""
    for number, (path, read_only) in enumerate(_host_mounts(hidden), start=1):
        target = f"root{path}"
        if not os.path.exists(target):
            continue  # its mount point belongs to a mount that was left out (a chroot's /sys, say)
        if read_only or not os.path.isdir(target):
            kernel.bind(path, target, read_only=True)
            continue
        try:
            _overlay(path, target, number)
        except OSError as error:
            if is_full(error):
                raise
            # A file system that can't be a layer (some network ones): shown as it is, but not writable.
            kernel.bind(path, target, read_only=True)
    if os.path.isdir(f"root{hidden}"):
        kernel.mount("tmpfs", f"root{hidden}", "tmpfs", kernel.MS_RDONLY, "mode=000,size=4k")


def _host_mounts(hidden: str) -> list[tuple[str, bool]]:
    """The host's file systems below /: path, whether read-only. Outer ones first; of stacked ones the last."""
    found: dict[str, bool] = {}
    no_files = _NOT_FILES.split()
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            fields = before.split(" ")
            path = fields[4].encode().decode("unicode_escape")
            kind = after.split(" ", 1)[0]
            if path != "/" and kind not in no_files and not _inside(path, (*_PRIVATE_PLACES, hidden)):
                found[path] = "ro" in fields[5].split(",")
    return sorted(found.items())


def _inside(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places if place)


def _system_directories(plan: Plan) -> None:
    """/proc, /dev, /sys and /run, new."""
    locked = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    for path in ("/proc", "/dev", "/sys", "/run"):
        os.makedirs(path, exist_ok=True)
    kernel.mount("proc", "/proc", "proc", locked)
    kernel.mount("sysfs", "/sys", "sysfs", locked | (0 if plan.rights.privileged else kernel.MS_RDONLY))
    kernel.mount("tmpfs", "/run", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    kernel.mount("tmpfs", "/dev", "tmpfs", kernel.MS_NOSUID | kernel.MS_NOEXEC, "mode=755,size=64k")
    devices.make_everybodys()
    for name in ("pts", "shm"):
        os.mkdir(f"/dev/{name}")
    kernel.mount("devpts", "/dev/pts", "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
    kernel.mount("tmpfs", "/dev/shm", "tmpfs", locked, f"mode=1777,size={plan.shm_bytes or _SHM_BYTES}")
    for link, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(f"/proc/self/{target}", f"/dev/{link}")
    os.symlink("pts/ptmx", "/dev/ptmx")


def _protect_kernel_files() -> None:
    for path in _MASKED_FILES:
        if os.path.exists(path):
            kernel.bind("/dev/null", path)
    for path in _MASKED_DIRECTORIES:
        if os.path.isdir(path):
            kernel.mount("tmpfs", path, "tmpfs", kernel.MS_RDONLY, "mode=555,size=4k")
    for path in _READ_ONLY:
        if os.path.exists(path):
            kernel.bind(path, path, read_only=True)


def _write_new(file: FilePlan) -> None:
    """Write a file of the root itself in the place of whatever is there (often a link to somewhere else)."""
    os.makedirs(os.path.dirname(file.target), exist_ok=True)
    try:
        os.unlink(file.target)
    except FileNotFoundError:
        pass
    _write(file.target, file)


def _write(path: str, file: FilePlan) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    left = memoryview(file.data)
    while left:
        left = left[os.write(descriptor, left) :]
    os.fchown(descriptor, user_id(file.uid), group_id(file.gid))
    os.fchmod(descriptor, file.mode)
    os.close(descriptor)


def _lay_volumes(mounts: tuple[MountPlan, ...], sources: list[int]) -> None:
    """Mount in the order of targets, so that one may lie inside another."""
    for mount, source in sorted(zip(mounts, sources, strict=True), key=lambda pair: pair[0].target):
        if not mount.source:
            os.makedirs(mount.target, exist_ok=True)
            size = f",size={mount.size_bytes}" if mount.size_bytes else ""
            flags = kernel.MS_NOSUID | kernel.MS_NODEV | (kernel.MS_RDONLY if mount.read_only else 0)
            kernel.mount("tmpfs", mount.target, "tmpfs", flags, f"mode={mount.tmpfs_mode or 0o1777:o}{size}")
            continue
        if mount.propagation:
            _make_target(mount.target, directory=stat.S_ISDIR(os.fstat(source).st_mode))
            kernel.move_mount(source, mount.target)
            kernel.mount(None, mount.target, None, kernel.PROPAGATION[mount.propagation])
            if mount.read_only:
                kernel.make_read_only(mount.target)
            continue
        path = f"/proc/self/fd/{source}"
        _make_target(mount.target, directory=stat.S_ISDIR(os.stat(path).st_mode))
        if mount.fill and not os.listdir(path):
            _copy_tree(mount.target, path)
        kernel.bind(path, mount.target, read_only=mount.read_only)


def _lay_files(files: tuple[FilePlan, ...]) -> None:
    """Configs and secrets: held by one tmpfs, each bound read-only to its target. Nothing of them reaches a disk."""
    if not files:
        return
    staging = "/run/.files"
    os.mkdir(staging)
    kernel.mount("tmpfs", staging, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, "mode=700")
    for number, file in enumerate(sorted(files, key=lambda file: file.target)):
        path = f"{staging}/{number}"
        _write(path, file)
        _make_target(file.target, directory=False)
        kernel.bind(path, file.target, read_only=True)
    kernel.unmount(staging)
    os.rmdir(staging)


def _make_target(path: str, *, directory: bool) -> None:
    if directory:
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path) or "/", exist_ok=True)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o644))


def _copy_tree(source: str, target: str) -> None:
    """Copy the content of a directory with owners and modes; links stay links, devices and sockets are left out."""
    _like(target, os.stat(source))
    for entry in os.scandir(source):
        path = f"{target}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), path)
        elif entry.is_dir():
            os.mkdir(path)
            _copy_tree(entry.path, path)
        elif entry.is_file():
            with open(entry.path, "rb") as reader, open(path, "wb") as writer:
                while chunk := reader.read(_COPY_BYTES):
                    writer.write(chunk)
            _like(path, entry.stat())
