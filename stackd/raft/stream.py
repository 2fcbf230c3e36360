"""One connection to another member: TLS over a socket that never blocks, and frames of bytes in both directions.

    frame    length (4 bytes, big-endian)  payload

It knows nothing of who may be at the other end (`transport.py`) and has no time of its own: whoever owns it calls it when
the socket is ready, and closes it after a `StreamBroken`. A length above the limit breaks the stream before anything is read on
the word of it.

TLS works in memory, and the socket is given what it made and asked for what it needs. `ssl.SSLSocket` would make two calls to
read each record of 16 KiB and one to write it, and wake the other end as often.
"""

from __future__ import annotations

import enum
import os
import select
import socket
import ssl
import sys
from collections import deque
from collections.abc import Mapping
from typing import Any

from stackd.base.errors import Retry, StackdError

READ_BYTES = 1024 * 1024
"""Read from one stream before the others have their turn."""

SILENT_PEER_MS = 3000
"""What was sent and isn't acknowledged by the other host in this time breaks the stream (TCP_USER_TIMEOUT, RFC 5482)."""

_JOINED_BYTES = 64 * 1024
"""Small frames are put together up to this size: one TLS record for many."""

_SEALED_BYTES = 256 * 1024
"""Sealed before the socket is asked to take it: the other end opens it while we go on."""

_CHUNK_BYTES = 128 * 1024
"""Asked of the socket at a time."""

_LENGTH_BYTES = 4
_TLS_RECORD_BYTES = 16 * 1024


class StreamBroken(StackdError):
    """The connection can't go on."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, retry=Retry.LATER)


class Phase(enum.Enum):
    """How far a stream has come; it only moves forward."""

    CONNECTING = "connecting"
    HANDSHAKE = "handshake"
    OPEN = "open"


class Stream:
    """A stream that dials (`connected=False`: a connect is under way) or was accepted. The socket doesn't block."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, *, connected: bool, dialled: bool) -> None:
        _prepare(raw)
        self.fd = raw.fileno()
        self.phase = Phase.HANDSHAKE if connected else Phase.CONNECTING
        self.end: StreamBroken | None = None
        self._raw = raw
        self._arrived, self._sealed = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arrived, self._sealed, server_side=not dialled)
        self._inbox = bytearray()
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._sending = memoryview(b"")
        """Sealed, and not yet taken by the socket."""
        self._waits_to_write = not connected

    @property
    def interest(self) -> int:
        """What to wait for, as `select.epoll` has it."""
        return select.EPOLLIN | (select.EPOLLOUT if self._waits_to_write else 0)

    @property
    def queued_bytes(self) -> int:
        """What `send` was given and the socket has not taken."""
        return self._outbox_bytes + len(self._sending)

    def certificate(self) -> Mapping[str, Any]:
        """The other side's certificate, verified, as `ssl.SSLSocket.getpeercert` has it."""
        return self._tls.getpeercert() or {}

    def advance(self) -> bool:
        """Go on with connect and handshake; True once TLS is up. Raises StreamBroken."""
        if self.phase is Phase.CONNECTING:
            error = self._raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise StreamBroken("raft.peer.unreachable", os.strerror(error))
            self.phase = Phase.HANDSHAKE
        if self.phase is Phase.HANDSHAKE:
            self._handshake()
        return self.phase is Phase.OPEN

    def send(self, payload: bytes) -> None:
        """Queue `payload`, and write at once what the socket takes. Raises StreamBroken."""
        self._outbox.append(len(payload).to_bytes(_LENGTH_BYTES))
        self._outbox.append(payload)
        self._outbox_bytes += _LENGTH_BYTES + len(payload)
        if not self._sending:
            self.flush()

    def flush(self) -> None:
        """Write what the socket takes. Raises StreamBroken."""
        try:
            self._write()
            while self.phase is Phase.OPEN and self._outbox and not self._waits_to_write:
                while self._outbox and self._sealed.pending < _SEALED_BYTES:
                    self._tls.write(self._next_piece())
                self._write()
        except OSError as exc:
            raise _broken(exc) from exc

    def receive(self) -> None:
        """Take in what has arrived. When nothing more will come, `end` says why: what came before is still in `frames`."""
        if self.end is not None:
            return
        taken = 0
        try:
            self._open_records()  # they may have come with the end of the handshake
            while taken < READ_BYTES and (size := self._read()):
                taken += size
                self._open_records()
                if size < _CHUNK_BYTES:
                    break  # most likely all there is; if not, epoll tells
            if self._sealed.pending:  # an answer of TLS's own
                self.flush()
        except StreamBroken as broken:
            self.end = broken
        except OSError as exc:
            self.end = _broken(exc)

    def frames(self, limit: int, *, most: int = sys.maxsize) -> list[bytes]:
        """The next payloads that are here whole. Raises StreamBroken for one above `limit` bytes."""
        frames: list[bytes] = []
        at, size = 0, len(self._inbox)
        with memoryview(self._inbox) as inbox:  # a slice of the bytearray itself would be one copy more
            while size - at >= _LENGTH_BYTES and len(frames) < most:
                length = int.from_bytes(inbox[at : at + _LENGTH_BYTES])
                if length > limit:
                    raise StreamBroken("raft.peer.garbage", f"it sent a frame of {length} bytes; {limit} are the most")
                end = at + _LENGTH_BYTES + length
                if end > size:
                    break
                frames.append(bytes(inbox[at + _LENGTH_BYTES : end]))
                at = end
        del self._inbox[:at]
        return frames

    def close(self) -> None:
        """Without TLS's farewell: it would have to be waited for."""
        try:
            self._raw.close()
        except OSError:
            pass

    def _handshake(self) -> None:
        try:
            self._read()
            self._tls.do_handshake()
            self.phase = Phase.OPEN
        except ssl.SSLWantReadError:
            pass
        except OSError as exc:
            self._tell_why()
            raise _broken(exc) from exc
        self.flush()

    def _tell_why(self) -> None:
        """TLS has an alert for the other side, if that still listens."""
        try:
            self._write()
        except OSError:
            pass

    def _read(self) -> int:
        """Hand TLS what has arrived, up to a chunk; returns how many bytes. Raises OSError, and StreamBroken at the end."""
        try:
            data = self._raw.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            raise StreamBroken("raft.peer.closed", "it closed the connection")
        return self._arrived.write(data)

    def _open_records(self) -> None:
        try:
            while self._arrived.pending or self._tls.pending():
                self._inbox += self._tls.read(_TLS_RECORD_BYTES)
        except ssl.SSLWantReadError:
            pass  # the rest of a record is to come

    def _write(self) -> None:
        """Hand the socket what is sealed, as far as it takes it. Raises OSError."""
        self._waits_to_write = False
        try:
            while self._sending or self._sealed.pending:
                if not self._sending:
                    self._sending = memoryview(self._sealed.read())
                self._sending = self._sending[self._raw.send(self._sending) :]
        except BlockingIOError:
            self._waits_to_write = True

    def _next_piece(self) -> bytes | bytearray:
        """Several small frames at once, or one large one as it is."""
        if len(self._outbox[0]) >= _JOINED_BYTES:
            piece: bytes | bytearray = self._outbox.popleft()
        else:
            piece = bytearray()
            while self._outbox and len(piece) + len(self._outbox[0]) <= _JOINED_BYTES:
                piece += self._outbox.popleft()
        self._outbox_bytes -= len(piece)
        return piece


def _prepare(raw: socket.socket) -> None:
    raw.setblocking(False)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_PEER_MS)
    # Between followers nothing is sent for hours; the kernel finds out whether the other host is still there.
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)


def _broken(error: OSError) -> StreamBroken:
    if isinstance(error, ssl.SSLCertVerificationError):
        return StreamBroken("raft.peer.untrusted", f"its certificate is not trusted: {error.verify_message}")
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return StreamBroken(
            "raft.peer.refused", f"it refused our certificate: {(error.reason or '').lower().replace('_', ' ')}"
        )
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return StreamBroken("raft.peer.closed", "it closed the connection")
    if isinstance(error, ssl.SSLError):
        return StreamBroken("raft.peer.garbage", f"what it sent is no TLS: {(error.reason or str(error)).lower()}")
    return StreamBroken("raft.peer.closed", error.strerror or "the connection is gone")
