"""A private dockerd for tests and benchmarks: its own directory, socket, bridge and containerd; nothing left afterwards.

It lives beside any other engine of the machine: it changes neither the firewall nor sysctls (published ports work through
the engine's userland proxy), and its bridge has a name and a subnet of its own. With `isolated=True` the engine gets a
network namespace, for what insists on host-wide names (swarm mode's docker_gwbridge); with `namespace` it is in that one, as on
a host of `hosts.py`. With `hostname` it takes itself to be on a host of that name.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
NAMED = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"')
"""Runs a command on a host of the name that comes next: namespaces of the network have none."""

START_SECONDS = 30.0
"""It takes under a second on a quiet machine."""
STOP_SECONDS = 20.0


class PrivateDockerd:
    """One engine under `directory`. `start`, `kill` (SIGKILL) and `stop` may follow each other; `close` removes all."""

    def __init__(self, directory: Path, *, isolated: bool = False, namespace: str = "", hostname: str = "") -> None:
        self.directory = directory
        self.socket = directory / "docker.sock"
        self.url = f"unix://{self.socket}"
        self._name = f"sdt{secrets.token_hex(4)}"
        self._isolated = isolated
        self._hostname = hostname
        self._namespace = self._name if isolated else namespace
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._make_network()

    def start(self) -> None:
        """Start the engine and return when its API answers."""
        arguments = ["--data-root", "data", "--exec-root", "exec", "--pidfile", "pid", "-H", f"unix://{self.socket}"]
        arguments += [f"--bridge={self._name}", "--iptables=false", "--ip-masq=false", "--ip-forward=false"]
        arguments += ["--config-file", "daemon.json", "--cgroup-parent", f"/{self._name}"]
        (self.directory / "daemon.json").write_text("{}")
        (self.directory / "pid").unlink(missing_ok=True)
        for option in ("--data-root", "--exec-root", "--pidfile", "--config-file"):
            place = arguments.index(option) + 1
            arguments[place] = str(self.directory / arguments[place])
        enter = ["nsenter", f"--net=/run/netns/{self._namespace}"] if self._namespace else []
        enter += [*NAMED, self._hostname] if self._hostname else []
        with (self.directory / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*enter, "dockerd", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": PATH},
                start_new_session=True,
            )
        wait_until(self._answers, START_SECONDS, f"dockerd did not start, see {self.directory}/dockerd.log")

    @property
    def group(self) -> str:
        """The control group in which its containers are."""
        return self._name

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def revive(self) -> None:
        """Start the engine if it has ended."""
        if not self.is_running:
            self.start()

    def stop(self) -> None:
        """Stop the engine as an operator does; it stops its containers."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the engine without warning; its containers go on for the time being."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Remove the engine and everything it has made."""
        try:
            if self._process is None or self._process.poll() is not None:
                self.start()
            self._remove_containers()
        finally:
            self.stop()
            self._remove_network()
            self._remove_cgroups()
            self._end_shims()
            self._remove_mounts()
            shutil.rmtree(self.directory)

    def import_image(self, name: str, archive: bytes, *changes: str) -> str:
        """Import a root file system as image `name`; `changes` are Dockerfile instructions. Returns the image's id."""
        options = [word for change in changes for word in ("--change", change)]
        return self.docker("import", *options, "-", name, data=archive).strip()

    def docker(self, *arguments: str, data: bytes | None = None) -> str:
        """Run the engine's own command line against this engine; returns its output."""
        command = ["docker", "-H", self.url, *arguments]
        done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode().strip()}")
        return done.stdout.decode()

    def inspect(self, container: str) -> Any:
        return json.loads(self.docker("inspect", container))[0]

    def _end_shims(self) -> None:
        """End the containers' keepers that an engine which was killed has lost sight of."""
        place = os.fsencode(self.directory)
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if os.path.basename(words[0]).startswith(b"containerd-shim") and any(word.startswith(place) for word in words):
                    os.kill(int(path.parent.name), signal.SIGKILL)

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"dockerd has ended: {(self.directory / 'dockerd.log').read_text()[-2000:]}")
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            self.docker("version")
            return True
        return False

    def _end(self, signum: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signum)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._await_containerd()

    def _await_containerd(self) -> None:
        """The engine's containerd dies with it, but a moment later. A new engine must meet neither the old one nor its pid
        file: while nobody has reaped the dead process, the engine takes it for a running one."""
        pid_file = self.directory / "exec/containerd/containerd.pid"

        def over() -> bool:
            try:
                return not Path(f"/proc/{int(pid_file.read_text())}/cmdline").read_bytes()
            except (OSError, ValueError):
                return True

        wait_until(over, STOP_SECONDS, "containerd did not end")
        pid_file.unlink(missing_ok=True)

    def _remove_containers(self) -> None:
        containers = self.docker("ps", "--all", "--quiet").split()
        if containers:
            self.docker("rm", "--force", "--volumes", *containers)
        self.docker("network", "prune", "--force")  # their bridges would outlive the engine

    def _make_network(self) -> None:
        if self._isolated:
            _run("ip", "netns", "add", self._name)
            self._ip("link", "set", "lo", "up")
        subnet = ipaddress.IPv4Network("172.31.0.0/24") if self._namespace else _free_subnet()
        self._ip("link", "add", self._name, "type", "bridge")
        self._ip("address", "add", f"{subnet[1]}/24", "dev", self._name)
        self._ip("link", "set", self._name, "up")

    def _remove_network(self) -> None:
        if self._isolated:
            _run("ip", "netns", "delete", self._name)
        else:
            self._ip("link", "delete", self._name)

    def _ip(self, *arguments: str) -> None:
        _run("ip", *(("-n", self._namespace) if self._namespace else ()), *arguments)

    def _remove_cgroups(self) -> None:
        for group in [*Path("/sys/fs/cgroup").glob(f"*/{self._name}"), Path("/sys/fs/cgroup") / self._name]:
            with contextlib.suppress(OSError):
                group.rmdir()

    def _remove_mounts(self) -> None:
        """A killed engine leaves its mounts behind, and the next one mounts on top of them."""
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in reversed(points):
            if Path(point).is_relative_to(self.directory):
                _run("umount", "--lazy", point)


@contextlib.contextmanager
def private_dockerd(*, isolated: bool = False, namespace: str = "", hostname: str = "") -> Iterator[PrivateDockerd]:
    """A running engine in a temporary directory, gone at the end."""
    directory = Path(tempfile.mkdtemp(prefix="stackd-dockerd-"))
    engine = PrivateDockerd(directory, isolated=isolated, namespace=namespace, hostname=hostname)
    try:
        engine.start()
        yield engine
    finally:
        engine.close()


def wait_until(predicate: Any, seconds: float, failure: str) -> None:
    """Return as soon as `predicate()` holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError(failure)
        time.sleep(0.02)


def _free_subnet() -> ipaddress.IPv4Network:
    """A /24 that no address or route of this machine touches."""
    used = [
        ipaddress.IPv4Network(word, strict=False)
        for line in _run("ip", "-4", "route", "show", "table", "all").splitlines()
        for word in line.split()[:2]
        if word[0].isdigit()
    ]
    candidates = list(ipaddress.IPv4Network("172.28.0.0/14").subnets(new_prefix=24))
    secrets.SystemRandom().shuffle(candidates)
    return next(net for net in candidates if not any(net.overlaps(other) for other in used))


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, check=True, timeout=30, env={**os.environ, "PATH": PATH})
    return done.stdout.decode()
