"""The git command line behind one small class: a bare mirror of one remote, and never a checkout.

No worktree means no hooks, no filters, no links that lead out, no half-written files. Nothing of the surroundings reaches
git: its environment is made from scratch, its only configuration is a private file that allows exactly the one protocol
of the remote. Commands that talk to the network have a time limit and are killed with all their children.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stackd.base.errors import Retry, StackdError
from stackd.gitops.remote import Remote

TIMEOUT_SECONDS = 300.0
"""For one fetch; a server that sends less than 1 KiB/s for half a minute is given up on earlier."""

MAX_OUTPUT_BYTES = 64 * 1024 * 1024
"""What a single command may print: a tree of several hundred thousand files."""

FETCHES_PER_CLEANING = 100
"""Each fetch of a shallow commit leaves a small pack behind; after so many they are repacked and old commits dropped."""

TIP = "refs/stackd/tip"
"""Where in the mirror the fetched commit stands."""

_INHERITED = ("PATH", "SSH_AUTH_SOCK", "GIT_ASKPASS", "SSL_CERT_FILE", "SSL_CERT_DIR", "TMPDIR")
_PROXIES = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")

_SSH = "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=20"

_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit, and who made it why."""

    id: str
    author: str
    subject: str


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """A file of a commit. `mode` is git's: 100644, 100755, 120000 (link) or 160000 (submodule)."""

    mode: str
    object_id: str
    size: int


class Git:
    """One remote and its mirror below `home`, a folder of its own. One command at a time; nobody else uses the mirror."""

    def __init__(self, home: Path, remote: Remote, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._home = home
        self._mirror = home / "mirror.git"
        self._remote = remote
        self._timeout_seconds = timeout_seconds
        self._environment = _environment(home, os.environ)
        self._fetches = 0

    async def prepare(self) -> None:
        """Make the mirror, or find it. One that git doesn't take for a repository any more is made anew: it holds nothing
        that can't be fetched again. Raises StackdError `source.git.missing` where there is no git."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._home / "gitconfig").write_text(_configuration(self._remote))
        if self._mirror.exists():
            try:
                await self._run("rev-parse", "--git-dir")
                return
            except StackdError as exc:
                if exc.code != "source.git.failed":
                    raise
                shutil.rmtree(self._mirror)
        await self._run("init", "--quiet", "--bare", "--template=", str(self._mirror), mirror=False)

    async def remote_refs(self, *patterns: str) -> dict[str, str]:
        """The remote's refs that match exactly, with the commits they point to (a signed tag's is under `NAME^{}`)."""
        output = await self._run("ls-remote", "--quiet", "--end-of-options", self._remote.url, *patterns)
        lines = (line.partition("\t") for line in output.decode(errors="replace").splitlines())
        return {name: commit for commit, _, name in lines if _OBJECT_ID.fullmatch(commit)}

    async def fetch(self, wanted: str) -> str:
        """Fetch a ref or a commit without its history; the id of the commit it has led to."""
        self._drop_locks()
        refspec = f"+{wanted}:{TIP}"
        options = ("--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        await self._run("fetch", *options, "--end-of-options", self._remote.url, refspec)
        self._fetches += 1
        if self._fetches % FETCHES_PER_CLEANING == 0:
            await self._run("gc", "--quiet", "--prune=now")
        return (await self._run("rev-parse", "--verify", "--end-of-options", f"{TIP}^{{commit}}")).decode().strip()

    async def commit(self, commit: str) -> Commit:
        output = await self._run("log", "-1", "--no-show-signature", "--format=%an <%ae>%x00%s", "--end-of-options", commit)
        author, _, subject = output.decode(errors="replace").strip().partition("\0")
        return Commit(id=commit, author=_printable(author), subject=_printable(subject))

    async def tree(self, commit: str) -> dict[str, TreeEntry]:
        """Every file of a commit by its path from the top."""
        output = await self._run("ls-tree", "-r", "-z", "-l", "--full-tree", commit)
        entries: dict[str, TreeEntry] = {}
        for record in output.decode(errors="surrogateescape").split("\0"):
            about, tab, path = record.partition("\t")
            if tab:
                mode, _, object_id, size = about.split()
                entries[path] = TreeEntry(mode, object_id, int(size) if size.isdigit() else 0)
        return entries

    @contextlib.contextmanager
    def blobs(self) -> Iterator[BlobReader]:
        """Contents from the mirror. Blocking, for use in a thread; the disk is local and nothing is fetched."""
        process = subprocess.Popen(
            self._command("cat-file", "--batch"),
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield BlobReader(process)
        finally:
            process.kill()
            process.communicate()

    def _command(self, *arguments: str, mirror: bool = True) -> list[str]:
        return ["git", *(["--git-dir", str(self._mirror)] if mirror else []), *arguments]

    async def _run(self, *arguments: str, mirror: bool = True) -> bytes:
        """The output of a git command; raises StackdError `source.git.*`."""
        process = await self._start(self._command(*arguments, mirror=mirror))
        try:
            async with asyncio.timeout(self._timeout_seconds):
                output, complaints = await asyncio.gather(_all_of(process.stdout), _all_of(process.stderr))
                status = await process.wait()
        except TimeoutError as exc:
            message = f"git {arguments[0]} took longer than {self._timeout_seconds:g} s"
            raise StackdError("source.git.timeout", message, retry=Retry.LATER) from exc
        finally:
            await _reap(process)
        if status != 0:
            raise _failure(arguments[0], status, complaints)
        return output

    async def _start(self, command: list[str]) -> asyncio.subprocess.Process:
        """A running git in a session of its own, so that its children end with it. A cancellation waits until it has started:
        asyncio would kill git alone, and then wait for whoever still holds its pipes."""
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        )
        try:
            return await asyncio.shield(starting)
        except FileNotFoundError as exc:
            raise StackdError("source.git.missing", "there is no git on this host", hint="install git") from exc
        except asyncio.CancelledError:
            await _reap(await starting)
            raise

    def _drop_locks(self) -> None:
        """A git that was killed leaves its locks behind, and nobody else has a right to one here."""
        for lock in self._mirror.rglob("*.lock"):
            lock.unlink(missing_ok=True)


class BlobReader:
    """A running `git cat-file --batch`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def read(self, object_id: str) -> bytes:
        """The whole object; the caller has checked its size. Raises StackdError `source.git.failed`."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise StackdError("source.git.failed", "git cat-file has no pipes")
        try:
            stdin.write(f"{object_id}\n".encode())
            stdin.flush()
        except BrokenPipeError as exc:
            raise StackdError("source.git.failed", "git cat-file has ended early", retry=Retry.LATER) from exc
        header = stdout.readline().split()
        if len(header) != 3:
            raise StackdError("source.git.failed", f"the mirror lacks object {object_id}", retry=Retry.LATER)
        size = int(header[2])
        return stdout.read(size + 1)[:size]


async def _all_of(stream: asyncio.StreamReader | None) -> bytes:
    data = bytearray()
    while stream is not None and (piece := await stream.read(1 << 16)):
        data += piece
        if len(data) > MAX_OUTPUT_BYTES:
            raise StackdError(
                "source.too_large", f"git printed more than {MAX_OUTPUT_BYTES} bytes", hint="use a smaller repository"
            )
    return bytes(data)


async def _reap(process: asyncio.subprocess.Process) -> None:
    """End a command that has not ended by itself, with its process group (ssh, a remote helper)."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):  # it ended this moment
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _failure(verb: str, status: int, complaints: bytes) -> StackdError:
    """git's own words: the first complaint (often of ssh) and the fatal one. They may quote a remote, so they are cleaned
    and cut."""
    lines = [line.strip() for line in complaints.decode(errors="replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("warning:")]
    fatal = [line for line in lines if line.startswith("fatal:")]
    said = "; ".join(dict.fromkeys(line.removeprefix("fatal: ") for line in (*lines[:1], *fatal[:1])))
    return StackdError(
        "source.git.failed", f"git {verb}: {_printable(said)[:300] or f'exit status {status}'}", retry=Retry.LATER
    )


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _environment(home: Path, surroundings: Mapping[str, str]) -> dict[str, str]:
    """Only what reaching a server may need. The keys and known hosts are those of the user the daemon runs as."""
    passed = {name: surroundings[name] for name in (*_INHERITED, *_PROXIES) if name in surroundings}
    return passed | {
        "HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": _SSH,
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
    }


def _configuration(remote: Remote) -> str:
    """A file and not `-c` options, because the far end of a local fetch is git too and has to see it."""
    safe = "".join(f"\tdirectory = {_quoted(path)}\n" for path in remote.local_directories())
    return (
        f'[protocol]\n\tallow = never\n[protocol "{remote.protocol}"]\n\tallow = always\n'
        f"[safe]\n{safe}"
        "[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n"
        "[transfer]\n\tfsckObjects = true\n"
        "[fetch]\n\tunpackLimit = 1\n\tshowForcedUpdates = false\n"
        "[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"
        "[http]\n\tlowSpeedLimit = 1024\n\tlowSpeedTime = 30\n\tfollowRedirects = initial\n"
        "[advice]\n\tdetachedHead = false\n"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
