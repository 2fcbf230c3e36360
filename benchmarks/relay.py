"""A slow link: forwards TCP connections, and holds back what it forwards: `python -m benchmarks.relay LISTEN TARGET`.

It reads from its input how many seconds each piece is to be held back, one number a line, and ends with its input.
"""

from __future__ import annotations

import asyncio
import sys

_PIECE_BYTES = 64 * 1024


class Relay:
    """Forwards to `target`; `delay_seconds` may change at any time, and never changes the order."""

    def __init__(self, target: str) -> None:
        self.delay_seconds = 0.0
        self._host, _, self._port = target.rpartition(":")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(self._host, int(self._port))
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(self._forward(reader, back), self._forward(there, writer))

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)
        sending = asyncio.create_task(self._send(held, target))
        try:
            while data := await source.read(_PIECE_BYTES):
                await held.put((loop.time() + self.delay_seconds, data))
        except OSError:
            pass
        finally:
            await held.put((0.0, b""))
            await sending

    @staticmethod
    async def _send(held: asyncio.Queue[tuple[float, bytes]], target: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await held.get()
            if not data:
                break
            await asyncio.sleep(max(0.0, due - loop.time()))
            if target.is_closing():
                continue  # what is left is taken and dropped
            try:
                target.write(data)
                await target.drain()
            except OSError:
                pass  # the other direction ends too
        target.transport.abort()


async def main(listen: str, target: str) -> None:
    relay = Relay(target)
    host, _, port = listen.rpartition(":")
    async with await asyncio.start_server(relay.serve, host, int(port)):
        orders = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(orders)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        while line := await orders.readline():
            relay.delay_seconds = float(line)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
