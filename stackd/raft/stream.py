"""One connection to another member: TLS over a socket that never blocks, and frames of bytes in both directions.

    frame    length (4 bytes, big-endian)  payload

It knows nothing of who may be at the other end (`transport.py`) and has no time of its own: whoever owns it calls it when
the socket is ready, and closes it after a `StreamBroken`. A length above the limit breaks the stream before anything is read on
the word of it.
"""

from __future__ import annotations

import enum
import os
import selectors
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
"""Small frames are put together up to this size: one TLS record and one call for many."""

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
        self.phase = Phase.CONNECTING
        self.queued_bytes = 0
        self.has_unread = False
        """Whether more may be there than the selector knows of: in TLS's buffer, or beyond READ_BYTES."""
        self.end: StreamBroken | None = None
        self._raw = raw
        self._context = context
        self._dialled = dialled
        self._tls: ssl.SSLSocket | None = None
        self._inbox = bytearray()
        self._outbox: deque[bytes] = deque()
        self._sending: memoryview | None = None
        self._waits_to_write = not connected
        if connected:
            self._begin_handshake()

    @property
    def interest(self) -> int:
        """What the selector shall wait for."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._waits_to_write else 0)

    def certificate(self) -> Mapping[str, Any]:
        """The other side's certificate, verified, as `ssl.SSLSocket.getpeercert` has it."""
        return (self._tls.getpeercert() if self._tls else None) or {}

    def advance(self) -> bool:
        """Go on with connect and handshake; True once TLS is up. Raises StreamBroken."""
        if self.phase is Phase.CONNECTING:
            error = self._raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise StreamBroken("raft.peer.unreachable", os.strerror(error))
            self._begin_handshake()
        if self.phase is Phase.HANDSHAKE and self._tls is not None:
            self._handshake(self._tls)
        return self.phase is Phase.OPEN

    def send(self, payload: bytes) -> None:
        """Queue `payload`, and write at once what the socket takes. Raises StreamBroken."""
        self._outbox.append(len(payload).to_bytes(_LENGTH_BYTES))
        self._outbox.append(payload)
        self.queued_bytes += _LENGTH_BYTES + len(payload)
        if self._sending is None:
            self.flush()

    def flush(self) -> None:
        """Write what the socket takes. Raises StreamBroken."""
        if self._tls is None:
            return
        self._waits_to_write = False
        try:
            while (piece := self._sending or self._next_piece()) is not None:
                self._sending = piece  # TLS wants to be asked again with the very same bytes
                written = self._tls.send(piece)
                self.queued_bytes -= written
                self._sending = piece[written:] or None
        except ssl.SSLWantReadError:
            pass  # a change of keys: the next read goes on, and then the writing
        except (ssl.SSLWantWriteError, BlockingIOError):
            self._waits_to_write = True
        except OSError as exc:
            raise _broken(exc) from exc

    def receive(self) -> None:
        """Take in what has arrived. When nothing more will come, `end` says why: what came before is still in `frames`."""
        if self._tls is None or self.end is not None:
            return
        taken = 0
        self.has_unread = True
        try:
            while taken < READ_BYTES:
                data = self._tls.recv(_TLS_RECORD_BYTES)
                if not data:
                    raise StreamBroken("raft.peer.closed", "it closed the connection")
                self._inbox += data
                taken += len(data)
                if len(data) < _TLS_RECORD_BYTES and not self._tls.pending():
                    self.has_unread = False  # most likely all there is; if not, the selector tells
                    break
        except (ssl.SSLWantReadError, BlockingIOError):
            self.has_unread = False
        except ssl.SSLWantWriteError:
            self.has_unread, self._waits_to_write = False, True
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
            (self._tls or self._raw).close()
        except OSError:
            pass

    def _begin_handshake(self) -> None:
        self.phase = Phase.HANDSHAKE
        self._waits_to_write = False
        try:
            self._tls = self._context.wrap_socket(self._raw, server_side=not self._dialled, do_handshake_on_connect=False)
        except OSError as exc:
            raise _broken(exc) from exc

    def _handshake(self, tls: ssl.SSLSocket) -> None:
        self._waits_to_write = False
        try:
            tls.do_handshake()
            self.phase = Phase.OPEN
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLWantWriteError:
            self._waits_to_write = True
        except OSError as exc:
            raise _broken(exc) from exc

    def _next_piece(self) -> memoryview | None:
        """Several small frames at once, or one large one as it is."""
        if not self._outbox:
            return None
        if len(self._outbox[0]) >= _JOINED_BYTES:
            return memoryview(self._outbox.popleft())
        piece = bytearray()
        while self._outbox and len(piece) + len(self._outbox[0]) <= _JOINED_BYTES:
            piece += self._outbox.popleft()
        return memoryview(piece)


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
    if isinstance(error, ssl.SSLEOFError):
        return StreamBroken("raft.peer.closed", "it closed the connection")
    if isinstance(error, ssl.SSLError):
        return StreamBroken("raft.peer.garbage", f"what it sent is no TLS: {(error.reason or str(error)).lower()}")
    return StreamBroken("raft.peer.closed", error.strerror or "the connection is gone")
