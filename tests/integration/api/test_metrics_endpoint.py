"""`/metrics` over real HTTP: what Prometheus reads, and what a stranger can do to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families
from stackd.base.errors import Refused
from stackd.daemon import metrics
from stackd.daemon.metrics import Gauges, Metrics, gather_state, serve_metrics

from engine_builders import ToyCluster, a_spec, settings


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


def answered(request: bytes, read: Callable[[], Awaitable[bytes]] | None = None) -> bytes:
    async def body() -> bytes:
        return b"stackd_up 1.0\n"

    async def scenario() -> bytes:
        async with serve_metrics("127.0.0.1", 0, read or body) as port:
            return await ask(port, request)

    return asyncio.run(scenario())


def values(text: bytes) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_the_state_and_the_meters_are_one_text() -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(wanted=settings(3))
    cluster.settle()
    meters = Metrics()
    meters.stepped(0.002, 3)
    meters.committed(0.01)
    meters.not_stored("raft.storage_failed")
    meters.called("Control.Apply", "ok", "here", 0.1)

    async def read() -> bytes:
        gauges = Gauges()
        await gather_state(cluster.view, gauges)
        return meters.text(gauges.families)

    found = values(answered(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", read).partition(b"\r\n\r\n")[2])
    assert found["stackd_tasks", "running"] == 3
    assert found["stackd_nodes", "ready"] == 2
    assert found["stackd_services",] == 1
    assert found["stackd_step_inputs_sum",] == 3
    assert found["stackd_commit_seconds_count",] == 1
    assert found["stackd_entries_not_stored_total", "raft.storage_failed"] == 1
    assert found["stackd_call_seconds_count", "here", "Control.Apply", "ok"] == 1


def test_how_far_the_updates_under_way_are_is_counted_in_tasks() -> None:
    cluster = ToyCluster(nodes=1)
    cluster.run(a_spec("v1"), settings(4))
    cluster.settle()
    cluster.run(a_spec("v2"), settings(4))
    cluster.until(lambda: next(iter(cluster.view.rollouts.values())).done == 1)

    async def gathered() -> dict[tuple[str, ...], float]:
        gauges = Gauges()
        await gather_state(cluster.view, gauges)
        return values(Metrics().text(gauges.families))

    found = asyncio.run(gathered())
    assert found["stackd_rollouts", "updating"] == 1
    assert [found["stackd_rollout_tasks", state] for state in ("done", "left", "failed")] == [1, 3, 0]
    cluster.settle()
    assert asyncio.run(gathered())["stackd_rollout_tasks", "left"] == 0


def test_the_answer_is_http_with_its_length() -> None:
    head, _, body = answered(b"GET /metrics?x=1 HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert body == b"stackd_up 1.0\n"


def test_a_head_request_has_no_body() -> None:
    head, _, body = answered(b"HEAD /metrics HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    assert b"Content-Length: 14" in head
    assert body == b""


@pytest.mark.parametrize(
    ("request_", "status"),
    [(b"GET / HTTP/1.1\r\n\r\n", b"404"), (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"), (b"\x16\x03\x01\r\n\r\n", b"404")],
)
def test_anything_else_is_refused(request_: bytes, status: bytes) -> None:
    assert answered(request_).split(b" ")[1] == status


def test_who_never_finishes_a_request_or_sends_too_much_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "READ_SECONDS", 0.2)
    assert answered(b"GET /metr") == b""
    with suppress(ConnectionResetError):  # what was sent after the limit is never read
        assert answered(b"GET /" + b"x" * 100_000) == b""


def test_a_port_that_is_taken_is_named() -> None:
    async def body() -> bytes:
        return b""

    async def scenario() -> None:
        async with serve_metrics("127.0.0.1", 0, body) as port:
            with pytest.raises(Refused, match=str(port)):
                async with serve_metrics("127.0.0.1", port, body):
                    pass

    asyncio.run(scenario())
