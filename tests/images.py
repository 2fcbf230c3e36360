"""Root file systems for images, made of what the host has: no registry is reachable in tests.

`busybox_archive()` holds a static busybox with its applets. `python_archive()` adds the interpreter that
runs the tests, with its library and the shared libraries it needs.
"""

from __future__ import annotations

import functools
import io
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable
from pathlib import Path

_LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "_tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data"}
_LEFT_OUT |= {"_sqlite3", "unittest", "site-packages", "dist-packages", "__pycache__"}
"""Parts of the standard library that no example needs."""


@functools.cache
def busybox_archive() -> bytes:
    """A tar archive with /bin/busybox, its applets as links, /etc/passwd and empty mount points."""
    return _archive(_add_busybox)


@functools.cache
def python_archive() -> bytes:
    """The busybox root plus `python3` (with http.server) on the PATH; about 60 MB."""
    return _archive(_add_busybox, _add_python)


def _archive(*parts: Callable[[tarfile.TarFile], None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for part in parts:
            part(archive)
    return buffer.getvalue()


def _add_busybox(archive: tarfile.TarFile) -> None:
    for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin", "var"):
        _add_directory(archive, name, 0o1777 if name == "tmp" else 0o755)
    binary = shutil.which("busybox")
    if binary is None:
        raise RuntimeError("no busybox on this host (Debian: busybox-static)")
    _add_file(archive, "bin/busybox", Path(binary))
    applets = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True, timeout=10).stdout.split()
    for applet in applets:
        if applet != "busybox":
            _add_link(archive, f"bin/{applet}", "busybox")
    _add_text(archive, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    _add_text(archive, "etc/group", "root:x:0:\nnogroup:x:65534:\n")


def _add_python(archive: tarfile.TarFile) -> None:
    """The running interpreter at its own absolute path, so that it finds its library without any setting."""
    binary = (Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}").resolve()
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix}))
    files = [file for file in sorted(library.rglob("*")) if file.is_file() and not _left_out(file.relative_to(library))]
    binaries = [binary, *(file for file in files if file.suffix == ".so")]
    for file in {*binaries, *files, *_shared_libraries(binaries)}:
        _add_file(archive, str(file).lstrip("/"), file)
    for link in ("usr/bin/python3", "usr/bin/python"):
        _add_link(archive, link, str(binary))


def _left_out(path: Path) -> bool:
    return path.suffix == ".a" or any(part.split(".")[0] in _LEFT_OUT for part in path.parts)


def _shared_libraries(binaries: list[Path]) -> set[Path]:
    """What the dynamic linker loads for these files."""
    done = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=False, timeout=60)
    return {Path(found) for found in re.findall(r"(?:=> |\t)(/\S+) \(0x", done.stdout)}


def _add_directory(archive: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    archive.addfile(entry)


def _add_link(archive: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    archive.addfile(entry)


def _add_file(archive: tarfile.TarFile, name: str, path: Path) -> None:
    data = path.read_bytes()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), path.stat().st_mode & 0o755 | 0o444
    archive.addfile(entry, io.BytesIO(data))


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(text), 0o644
    archive.addfile(entry, io.BytesIO(text.encode()))
