"""A role that can't be taken up, and one that is laid down while something in it fails: who waits hears why."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from pathlib import Path

import pytest
from stackd.api.client import Client
from stackd.api.local import InitRequest
from stackd.api.locations import socket_path
from stackd.base.errors import StackdError, Unavailable
from stackd.daemon import local
from stackd.daemon.addresses import check_free
from stackd.daemon.managing import outlive
from stackd.daemon.node import Node
from stackd.daemon.options import UpOptions

from node import free_port


async def life_of(node: Node) -> None:
    async with node.running():
        await node.serve(None)


async def codes_of_init(data: Path, place: str) -> tuple[str, str]:
    """What `cluster init` answers, and what the daemon ends with."""
    life = asyncio.create_task(life_of(Node(UpOptions(data_dir=data, executor="process", waits=True))))
    async with asyncio.timeout(20):
        while not socket_path(data).exists():
            await asyncio.sleep(0.01)

    def init() -> None:
        with Client(f"unix://{socket_path(data)}") as client:
            client.init_cluster(InitRequest(listen=place))

    answer, end = await asyncio.gather(asyncio.to_thread(init), life, return_exceptions=True)
    assert isinstance(answer, StackdError)
    assert isinstance(end, StackdError)
    return answer.code, end.code


def test_who_founds_a_cluster_hears_why_the_node_can_not_be_its_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = min(free_port(), 65000)
    with closing(socket.socket()) as thief:
        thief.bind(("127.0.0.1", base + 2))

        def check(place: object) -> None:
            """Somebody takes the port right after it was seen to be free."""
            check_free(place)  # type: ignore[arg-type]
            thief.listen()

        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        monkeypatch.setattr(local, "check_free", check)
        codes = asyncio.run(codes_of_init(tmp_path, f"127.0.0.1:{base}"))
    assert codes == ("api.listen.failed", "api.listen.failed")


async def failing() -> None:
    """Fails when it is cancelled, as what waits for an entry does whose outcome nobody knows then."""
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        raise Unavailable("raft.closed", "the member is not running") from None


def test_what_fails_because_a_role_ends_ends_nothing_else() -> None:
    async def main(*, ending: bool) -> None:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            life = group.create_task(outlive(failing(), over))
            await asyncio.sleep(0)
            if ending:
                over.set()
            life.cancel()

    asyncio.run(main(ending=True))
    with pytest.raises(ExceptionGroup):
        asyncio.run(main(ending=False))
