"""The one door to docker-py: blocking calls in bounded lanes of threads, and one thread that follows the engine's events.

It knows the engine's API and nothing of tasks' lives: it speaks container ids and the records of `spec`. Every
foreign exception ends here, as `EngineRefused` (the engine said no, in its own words) or as a TaskFault with Retry.LATER
(the engine is away, which says nothing about its containers). Importing this module loads docker-py, some 12 MB: only a
daemon that uses Docker does so.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import requests
from docker.api import APIClient
from docker.errors import APIError, DockerException, InvalidRepository
from docker.types import CancellableStream
from docker.utils import parse_host

from stackd.agent.executor.docker.body import TASK_LABEL, ApiVersion, Body
from stackd.agent.executor.docker.spec import (
    WATCHED_ACTIONS,
    Container,
    ContainerEvent,
    container_of,
    description_of,
    event_of,
    instant_of,
)
from stackd.base.errors import Retry, StackdError, TaskFault
from stackd.base.ids import TaskId
from stackd.base.time import SECOND, Instant
from stackd.engine.parts import NodeDescription

T = TypeVar("T")

log = logging.getLogger(__name__)

CALL_SECONDS = 120
"""A call without an answer for so long counts as an engine that is away. A start on a loaded machine takes seconds."""
PING_SECONDS = 3
RECONNECT_SECONDS = (0.1, 1.0)
"""The first and the longest pause between attempts to reach an engine that is away."""


class Lane(enum.Enum):
    """Calls of one kind share a bounded set of threads, so that no kind has to wait for another one."""

    CONTROL = "control"
    CREATE = "create"
    START = "start"
    REMOVE = "remove"
    PULL = "pull"
    LOGS = "logs"


LANE_THREADS = {
    # Inspect, list, kill: milliseconds each.
    Lane.CONTROL: 4,
    # About 10 ms each; more at once is no faster.
    Lane.CREATE: 4,
    # The expensive one, 200 ms alone. To start 20 on two cores takes 4.2 s one by one, 2.6 s with 4 at once, 2.4 s with 8;
    # with 20 it gets slower again.
    Lane.START: 8,
    # Cheap and never urgent: it must not take the engine's time from starts.
    Lane.REMOVE: 2,
    # Minutes each; Docker's own limit of layers at once is 3 as well.
    Lane.PULL: 3,
    # Held for as long as a log is followed; further readers wait.
    Lane.LOGS: 16,
}


class EngineRefused(Exception):
    """The engine's answer was no: the HTTP status and its own words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


def engine_away(why: object) -> TaskFault:
    """The fault of an operation that the engine could not be asked for; the same operation may succeed later."""
    return TaskFault("agent.docker.engine_away", f"the Docker engine is away: {why}", retry=Retry.LATER)


def ping(base_url: str) -> bool:
    """Whether an engine answers at `base_url` within PING_SECONDS."""
    try:
        _Client(base_url, PING_SECONDS).close()
    except (DockerException, requests.RequestException):
        return False
    return True


class Listener(Protocol):
    """Who is told of the engine; called in the event loop, in order."""

    def connected(self, description: NodeDescription) -> None:
        """The engine answers. Events follow; whatever happened before is to be looked up."""
        ...

    def disconnected(self) -> None: ...

    def event(self, event: ContainerEvent) -> None: ...


class LogStream:
    """An open log: frames of (1 stdout or 2 stderr, bytes), read in a thread of the caller's choice."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def frames(self) -> Iterator[tuple[int, bytes]]:
        yield from self._stream

    def close(self) -> None:
        """End the stream, also from another thread in the middle of a read."""
        _end(self._stream)


class DockerEngine:
    """One engine at `base_url` (`unix:///run/docker.sock`, `tcp://host:port`). Raises StackdError("agent.docker.host") on a
    URL that can't be one. Calls return concurrent futures: a started call can't be taken back, only no longer awaited."""

    def __init__(self, base_url: str, watched_labels: Mapping[str, str]) -> None:
        try:
            parse_host(base_url, False, False)
        except DockerException as error:
            raise StackdError("agent.docker.host", f"not an address of a Docker engine: {base_url} ({error})") from error
        self._base_url = base_url
        self._filters = {**_label_filters(watched_labels), "type": ["container"], "event": list(WATCHED_ACTIONS)}
        self._client: _Client | None = None
        self._closing = threading.Event()
        self._pools = {lane: ThreadPoolExecutor(LANE_THREADS[lane], f"docker-{lane.value}") for lane in Lane}
        self._watcher: threading.Thread | None = None

    def watch(self, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        """Keep a connection for events until `close`, and tell `listener` in `loop`. The first verdict comes at once."""
        self._watcher = threading.Thread(target=self._follow, args=(loop, listener), name="docker-events", daemon=True)
        self._watcher.start()

    async def close(self) -> None:
        """End all streams and let the threads go; a call that the engine is still working on is not waited for."""
        self._closing.set()
        if self._client is not None:
            self._client.end_streams()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        if self._watcher is not None:
            await asyncio.to_thread(self._watcher.join, RECONNECT_SECONDS[1])

    @property
    def available(self) -> bool:
        return self._client is not None

    @property
    def api(self) -> ApiVersion:
        """The version of the API that the engine speaks; raises TaskFault while it is away."""
        if self._client is None:
            raise engine_away("no connection")
        major, _, minor = self._client.api_version.partition(".")
        return int(major), int(minor)

    def create(self, name: str, body: Body, platform: str) -> Future[str]:
        """Create a container; its id. `platform` "" is whatever the image is for."""
        return self._submit(
            Lane.CREATE, lambda client: str(client.create_container_from_config(body, name, platform or None)["Id"])
        )

    def connect(self, network: str, container_id: str, endpoint: Body) -> Future[None]:
        """Have a container join one more network."""
        return self._submit(Lane.CREATE, lambda client: client.join_network(network, container_id, endpoint))

    def start(self, container_id: str) -> Future[None]:
        """Start a container; fine if it runs."""
        return self._submit(Lane.START, lambda client: client.start(container_id))

    def kill(self, container_id: str, signal: str) -> Future[None]:
        return self._submit(Lane.CONTROL, lambda client: client.kill(container_id, signal))

    def remove(self, container_id: str) -> Future[None]:
        """Kill and remove a container with its anonymous volumes."""
        return self._submit(Lane.REMOVE, lambda client: client.remove_container(container_id, v=True, force=True))

    def inspect(self, container_id: str) -> Future[Container]:
        return self._submit(Lane.CONTROL, lambda client: container_of(client.inspect_container(container_id)))

    def find(self, labels: Mapping[str, str]) -> Future[dict[str, TaskId]]:
        """The containers with all these labels, running or not: id -> task."""
        filters = _label_filters(labels)

        def listing(client: _Client) -> dict[str, TaskId]:
            found = client.containers(all=True, filters=filters)
            return {item["Id"]: TaskId(item["Labels"].get(TASK_LABEL, "")) for item in found}

        return self._submit(Lane.CONTROL, listing)

    def labels(self, labels: Mapping[str, str]) -> Future[list[Mapping[str, str]]]:
        """All labels of each container that has these, running or not."""
        filters = _label_filters(labels)
        return self._submit(
            Lane.CONTROL, lambda client: [item["Labels"] for item in client.containers(all=True, filters=filters)]
        )

    def networks(self, labels: Mapping[str, str]) -> Future[list[Mapping[str, str]]]:
        """All labels of each network that has these."""
        filters = _label_filters(labels)
        return self._submit(Lane.CONTROL, lambda client: [item["Labels"] for item in client.networks(filters=filters)])

    def create_network(self, body: Body) -> Future[None]:
        return self._submit(Lane.CONTROL, lambda client: client.make_network(body))

    def remove_network(self, name: str) -> Future[None]:
        return self._submit(Lane.CONTROL, lambda client: client.remove_network(name))

    def pull(self, image: str, platform: str) -> Future[None]:
        """Pull an image. A failure that the engine meets on the way is an EngineRefused too."""
        return self._submit(Lane.PULL, lambda client: _pull(client, image, platform))

    def open_logs(self, container_id: str, *, tty: bool, follow: bool, tail: int, since: Instant) -> Future[LogStream]:
        """Open the container's log, each line with its time; `tail` below 0 is all of it. The log of a container with a
        terminal has no frames."""
        params: Body = {
            "stdout": 1,
            "stderr": 1,
            "timestamps": 1,
            "follow": int(follow),
            "tail": str(tail) if tail >= 0 else "all",
        }
        if since:
            params["since"] = _seconds(since)
        return self._submit(Lane.CONTROL, lambda client: LogStream(client.open_logs(container_id, params, tty=tty)))

    def run(self, work: Callable[[], T]) -> Future[T]:
        """Run work that reads a log, in the lane for that."""
        return self._pools[Lane.LOGS].submit(work)

    def _submit(self, lane: Lane, operation: Callable[[_Client], T]) -> Future[T]:
        client = self._client
        if client is None or self._closing.is_set():
            raise engine_away("no connection")
        return self._pools[lane].submit(_translated, client, operation)

    def _follow(self, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        """The thread behind `watch`. Subscribing precedes `connected`, so that nothing falls between the two."""

        def tell(callback: Callable[..., None], *arguments: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody listens any more
                loop.call_soon_threadsafe(callback, *arguments)

        first, longest = RECONNECT_SECONDS
        pause = first
        while not self._closing.is_set():
            try:
                client = _Client(self._base_url)
                info = client.info()
                events = client.events(since=_seconds(instant_of(info["SystemTime"])), filters=self._filters, decode=True)
                self._client, pause = client, first
                tell(listener.connected, description_of(info))
                for message in events:
                    tell(listener.event, event_of(message))
            except (DockerException, requests.RequestException):
                pass  # it is away, or was cut off in the middle of a message
            except Exception:  # without this thread no exit would ever be seen again
                log.exception("engine not understood: host=%s", self._base_url)
            self._client = None
            tell(listener.disconnected)
            self._closing.wait(pause)
            pause = min(2 * pause, longest)


class _Client(APIClient):  # type: ignore[misc] # docker-py has no types
    """docker-py's low-level client in the engine's API version, with streams that another thread can end."""

    def __init__(self, base_url: str, timeout_seconds: int = CALL_SECONDS) -> None:
        self._streams: set[Any] = set()
        super().__init__(base_url=base_url, version="auto", timeout=timeout_seconds)

    def open_logs(self, container_id: str, params: Body, *, tty: bool) -> Any:
        """The log's frames as a stream that can be ended; docker-py's own form loses which of the two outputs wrote."""
        response = self._get(self._url("/containers/{0}/logs", container_id), params=params, stream=True, timeout=None)
        self._raise_for_status(response)
        frames = self._terminal_lines(response) if tty else self._frames(response)
        return CancellableStream(self._registered(response, frames), response)

    def make_network(self, body: Body) -> None:
        """Create a network; docker-py's own form knows fewer settings."""
        self._raise_for_status(self._post_json(self._url("/networks/create"), data=body))

    def join_network(self, network: str, container_id: str, endpoint: Body) -> None:
        """Connect a container; docker-py's own form takes its settings one by one."""
        body = {"Container": container_id, "EndpointConfig": endpoint}
        self._raise_for_status(self._post_json(self._url("/networks/{0}/connect", network), data=body))

    def end_streams(self) -> None:
        """End every open stream: events, pulls, logs."""
        for stream in tuple(self._streams):
            _end(stream)

    def _stream_helper(self, response: Any, decode: bool = False) -> Iterator[Any]:
        chunks = super()._stream_helper(response, decode)
        yield from chunks if decode else self._registered(response, chunks)

    def _registered(self, response: Any, items: Iterator[T]) -> Iterator[T]:
        stream = CancellableStream(items, response)
        self._streams.add(stream)
        try:
            yield from items
        finally:
            self._streams.discard(stream)

    def _terminal_lines(self, response: Any) -> Iterator[tuple[int, bytes]]:
        """What a terminal showed, as frames of a line each; it ends lines with a carriage return as well."""
        while line := response.raw.readline():
            yield 1, line.replace(b"\r\n", b"\n")

    def _frames(self, response: Any) -> Iterator[tuple[int, bytes]]:
        """Frames of the attach format: one byte for the stream, three of nothing, four for the length, big-endian."""
        while len(header := response.raw.read(8)) == 8:
            stream, length = struct.unpack(">BxxxL", header)
            yield stream, response.raw.read(length)


def _end(stream: Any) -> None:
    with contextlib.suppress(OSError, AttributeError):  # it has ended by itself in this moment
        stream.close()


def _translated(client: _Client, operation: Callable[[_Client], T]) -> T:
    try:
        return operation(client)
    except APIError as error:
        words = str(error.explanation or error)
        if any(sign in words for sign in _GOING_AWAY):
            raise engine_away(words) from error
        raise EngineRefused(error.status_code, words) from error
    except InvalidRepository as error:
        raise EngineRefused(400, str(error)) from error
    except (DockerException, requests.RequestException) as error:
        raise engine_away(error) from error


_GOING_AWAY = (
    "context canceled",
    "transport is closing",
    "error while dialing",
    "containerd.sock",
    "daemon is shutting down",
    "ttrpc: closed",
)
"""What an engine says of calls while it goes down: they are no verdict on the container."""


def _pull(client: _Client, image: str, platform: str) -> None:
    for line in client.pull(image, platform=platform or None, stream=True, decode=True):
        if "error" in line:
            raise EngineRefused(500, str(line["error"]))


def _label_filters(labels: Mapping[str, str]) -> dict[str, list[str]]:
    return {"label": [f"{key}={value}" for key, value in labels.items()]}


def _seconds(at: Instant) -> str:
    """An instant as the engine takes it, exactly."""
    return f"{at // SECOND}.{at % SECOND:09d}"
