"""Pulling images from a registry of the test's own on localhost."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from stackd.base.errors import Retry, TaskFault

from docker_builders import a_context
from images import busybox_archive

if TYPE_CHECKING:
    from conftest import Bench

pytestmark = [pytest.mark.needs("root", "docker")]
Run = Callable[..., None]

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """Serves the busybox image as `shop:1` by the registry's HTTP API V2, and counts how often it is asked for it."""

    def __init__(self) -> None:
        root = busybox_archive()
        layer = gzip.compress(root, 1)
        config = json.dumps(
            {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest(root)]}}
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {
                    "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": len(config),
                    "digest": digest(config),
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        "size": len(layer),
                        "digest": digest(layer),
                    }
                ],
            }
        ).encode()
        self.manifests_served = 0
        self._blobs = {digest(config): config, digest(layer): layer}
        self._manifests = {"1": manifest, digest(manifest): manifest}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, path: str) -> tuple[str, bytes] | None:
        kind, _, name = path.removeprefix("/v2/").removeprefix("shop/").partition("/")
        if kind == "manifests" and name in self._manifests:
            return MANIFEST, self._manifests[name]
        if kind == "blobs" and name in self._blobs:
            return "application/octet-stream", self._blobs[name]
        return ("application/json", b"{}") if path == "/v2/" else None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._reply()

            def do_GET(self) -> None:
                registry.manifests_served += "/manifests/" in self.path
                self.wfile.write(self._reply())

            def _reply(self) -> bytes:
                found = registry.answer(self.path)
                status, kind, body = (
                    (200, *found) if found else (404, "application/json", b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
                )
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Docker-Content-Digest", digest(body))
                self.end_headers()
                return body

            def log_message(self, *arguments: Any) -> None:
                """Quiet."""

        return Handler


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    try:
        yield registry
    finally:
        registry.close()


def test_tasks_with_a_missing_image_pull_it_once_together_and_later_ones_not_at_all(
    bench: Bench, registry: Registry, run: Run
) -> None:
    image = f"{registry.address}/shop:1"

    async def scenario() -> None:
        async with bench.executor() as executor:
            tasks = [executor.controller(a_context(image=image)) for _ in range(4)]
            await asyncio.gather(*(task.prepare() for task in tasks))
            await executor.controller(a_context(image=image)).prepare()
            assert registry.manifests_served == 1
            await tasks[0].start()
            assert await tasks[0].pid() > 0

    run(scenario)


def test_a_tag_the_registry_does_not_know_is_a_final_fault_in_its_words(bench: Bench, registry: Registry, run: Run) -> None:
    async def scenario() -> None:
        async with bench.task(a_context(image=f"{registry.address}/shop:2")) as task:
            with pytest.raises(TaskFault, match="manifest unknown") as raised:
                await task.prepare()
            assert (raised.value.code, raised.value.retry) == ("agent.docker.image", Retry.NEVER)

    run(scenario)


def test_a_cancelled_prepare_leaves_the_pull_to_finish(bench: Bench, registry: Registry, run: Run) -> None:
    image = f"{registry.address}/shop:1"

    async def scenario() -> None:
        async with bench.executor() as executor:
            task = executor.controller(a_context(image=image))
            preparing = asyncio.ensure_future(task.prepare())
            await asyncio.sleep(0.02)
            preparing.cancel()
            await asyncio.wait([preparing])
            assert await task.stop() is None
            await task.prepare()
            assert registry.manifests_served == 1

    run(scenario)
