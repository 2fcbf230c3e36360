"""The members' network: one mutual-TLS stream between each two of them (`peers.Peers`).

Of two members the one with the lower id dials; the other one does so too when it has waited for a while, since the lower one
may not know that it is there. Should both have dialled, the stream from the lower one stays. A new stream that the same side
has dialled replaces the old one.

Who is at the other end is said by its certificate, which must be of the node that was dialled, or of any node of the cluster;
what the first frame, the `Hello`, says has to agree with it. So an address is only where to look: a member that isn't at its
own is looked for at those that this one was told besides, and members that have all moved find each other again.

Everything runs in the thread that calls `poll`: sockets never block, and names are looked up in threads of their own, so
neither a silent address nor a silent name server holds up the others. Connections that live keep the certificate with which
they began; new ones ask the factories again, so certificates rotate without a stream being cut.

It doesn't find out whether the other member is well: that is the node's own heartbeat. It only sees to it that a connection
whose other end is gone doesn't stay.
"""

from __future__ import annotations

import logging
import os
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stackd.base.errors import StackdError
from stackd.base.records import encode
from stackd.raft.address import Address, Resolver, literal
from stackd.raft.credentials import Credentials, checked
from stackd.raft.greeting import MAX_HELLO_BYTES, hello_in, name_in
from stackd.raft.links import Link, Opening
from stackd.raft.peers import MAX_MESSAGE_BYTES, MAX_QUEUED_BYTES, Connected, Disconnected, Hello, PeerEvent, Received
from stackd.raft.stream import Stream, StreamBroken

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportLimits:
    """Settings of the transport."""

    opening_seconds: float = 3.0
    """From dialling or accepting until the hello: longer than a slow handshake, shorter than anyone's patience."""
    first_retry_seconds: float = 0.05
    """Until a lost member is dialled again; doubled at each attempt, and shortened at random by up to a half."""
    longest_retry_seconds: float = 1.0
    """How long a member that comes back waits at the most: it can't dial those with a lower id."""
    higher_waits_seconds: float = 1.0
    """How long who has the higher id waits to be dialled."""
    lasting_seconds: float = 5.0
    """A stream that lived so long was a good one: the next attempt is the first again."""
    strangers: int = 32
    """Accepted connections that have not said who they are yet. One more takes the place of the first of them: silent ones
    can't keep members out, who are done in milliseconds."""
    queued_bytes: int = MAX_QUEUED_BYTES
    accept_pause_seconds: float = 1.0
    """After an accept that failed, for want of file descriptors most likely: it would fail again at once."""


DEFAULT_TRANSPORT_LIMITS = TransportLimits()


class TlsPeers:
    """`peers.Peers` over TCP. It owns `listener`."""

    def __init__(
        self,
        hello: Hello,
        listener: socket.socket,
        credentials: Credentials,
        *,
        elsewhere: Sequence[str] = (),
        limits: TransportLimits = DEFAULT_TRANSPORT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        """`elsewhere` are more addresses ("host:port") at which members may be: who isn't found at its own is looked for
        there."""
        self._hello = hello
        self._listener = listener
        self._credentials = credentials
        self._elsewhere = elsewhere
        self._limits = limits
        self._clock = clock
        self._chance = chance or random.Random()
        self._links: dict[str, Link] = {}
        self._opening: dict[int, Opening] = {}
        self._open: dict[int, tuple[str, Stream]] = {}
        self._watched: dict[int, int] = {}
        """What `_epoll` waits for, by file descriptor."""
        self._events: list[PeerEvent] = []
        self._resolver = Resolver(self.wake)
        self._epoll = select.epoll()
        self._bell = select.epoll()
        """What ends a rest."""
        self._wake_lock = threading.Lock()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._woken = False
        self._closed = False
        self._accept_again: float | None = None
        self._last_refusal = ""
        listener.setblocking(False)
        for waiting in (self._epoll, self._bell):
            waiting.register(listener.fileno(), select.EPOLLIN)
            waiting.register(self._wake_fd, select.EPOLLIN | select.EPOLLET)  # told once of each write, so nobody reads it

    # -- the port

    def send(self, peer: str, message: bytes) -> None:
        link = self._links.get(peer)
        if link is None or link.stream is None:
            return
        stream = link.stream
        try:
            if stream.queued_bytes + len(message) > self._limits.queued_bytes:
                raise StreamBroken("raft.peer.slow", f"it doesn't read: {stream.queued_bytes} bytes wait for it")
            stream.send(message)
            self._watch(stream)
        except StreamBroken as broken:
            self._lose(peer, stream, broken)

    def set_peers(self, addresses: Mapping[str, str]) -> None:
        wanted = {peer: address for peer, address in addresses.items() if peer != self._hello.node}
        for peer, link in list(self._links.items()):
            if link.address is not None and wanted.get(peer) != link.address:
                self._cut(peer, link)
        for peer, address in wanted.items():
            link = self._links.setdefault(peer, Link(address, next_dial=self._clock() + self._least_wait_seconds(peer)))
            link.address = address

    def poll(self, timeout: float | None) -> Sequence[PeerEvent]:
        until = None if timeout is None else self._clock() + timeout
        while True:
            due = self._do_what_is_due()
            self._select(self._wait_seconds(until, due))
            if self._events or self._woken or (until is not None and self._clock() >= until):
                events, self._events, self._woken = self._events, [], False
                return events

    def rest(self, timeout: float | None) -> bool:
        streams = [link.stream for link in self._links.values()]
        is_busy = any(stream is None or stream.queued_bytes for stream in streams)
        if is_busy or self._events or self._opening or self._accept_again is not None:
            return False
        self._bell.poll(timeout)
        return True

    def wake(self) -> None:
        with self._wake_lock:
            if not self._closed:
                os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        with self._wake_lock:
            if self._closed:
                return
            self._closed = True
        for stream in [*(opening.stream for opening in self._opening.values()), *(stream for _, stream in self._open.values())]:
            stream.close()
        self._epoll.close()
        self._bell.close()
        self._listener.close()
        os.close(self._wake_fd)
        self._resolver.close()

    @property
    def last_refusal(self) -> str:
        """Why the last connection that somebody made to here was turned away, for people."""
        return self._last_refusal

    def troubles(self) -> dict[str, str]:
        """Why there is no stream to a member, for people. May be called from any thread."""
        return {peer: link.trouble for peer, link in list(self._links.items()) if link.trouble}

    # -- one round of poll

    def _wait_seconds(self, until: float | None, due: float | None) -> float | None:
        if self._events:
            return 0.0
        ends = [at for at in (until, due) if at is not None]
        return max(0.0, min(ends) - self._clock()) if ends else None

    def _select(self, wait: float | None) -> None:
        for fd, mask in self._epoll.poll(wait):
            if fd == self._wake_fd:
                self._woken = True
            elif fd == self._listener.fileno():
                self._accept()
            elif fd in self._opening:
                self._go_on_opening(self._opening[fd])
            elif fd in self._open:
                self._exchange(*self._open[fd], mask)

    def _do_what_is_due(self) -> float | None:
        """Dial, give up what takes too long, accept again. Returns when there is something to do next."""
        lacking = [(peer, link) for peer, link in self._links.items() if link.stream is None]
        if not lacking and not self._opening and self._accept_again is None:
            return None
        now = self._clock()
        self._dial_resolved(now)
        for opening in [opening for opening in self._opening.values() if opening.until <= now]:
            self._give_up(opening, StreamBroken("raft.peer.unreachable", "it doesn't answer"))
        for peer, link in lacking:
            if link.is_to_dial and link.next_dial <= now:
                self._dial(peer, link, now)
        if self._accept_again is not None and self._accept_again <= now:
            self._accept_again = None
            self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        dials = [link.next_dial for _, link in lacking if link.is_to_dial]
        ends = [opening.until for opening in self._opening.values()]
        return min((*dials, *ends, *filter(None, [self._accept_again])), default=None)

    # -- opening streams

    def _least_wait_seconds(self, peer: str) -> float:
        return 0.0 if self._hello.node < peer else self._limits.higher_waits_seconds

    def _dial(self, peer: str, link: Link, now: float) -> None:
        link.dialling, link.place = True, self._place_of(link)
        try:
            address = literal(link.place)
        except ValueError as exc:
            self._fail_to_dial(peer, link, StreamBroken("raft.peer.unreachable", str(exc)))
            return
        if address is None:
            self._resolver.begin(link.place)
        else:
            self._connect(peer, link, address, now)

    def _place_of(self, link: Link) -> str:
        """Where to dial it: its own address and, in turn, those where nobody has been found."""
        assert link.address is not None
        found = {other.address for other in self._links.values() if other.stream is not None}
        places = (link.address, *(place for place in self._elsewhere if place not in found))
        return places[link.attempts % len(places)]

    def _dial_resolved(self, now: float) -> None:
        for name, addresses in self._resolver.take().items():
            for peer, link in self._links.items():
                if link.place != name or not link.dialling or self._is_opening(peer):
                    continue
                if addresses:
                    self._connect(peer, link, addresses[link.attempts % len(addresses)], now)
                else:
                    self._fail_to_dial(peer, link, StreamBroken("raft.peer.unreachable", f"nobody knows the name in {name}"))

    def _is_opening(self, peer: str) -> bool:
        return any(opening.dialled == peer for opening in self._opening.values())

    def _connect(self, peer: str, link: Link, address: Address, now: float) -> None:
        try:
            context = checked(self._credentials.to_dial())
            stream = Stream(address.begin_to_connect(), context, connected=False, dialled=True)
        except OSError as exc:
            self._fail_to_dial(peer, link, StreamBroken("raft.peer.unreachable", exc.strerror or str(exc)))
        except StackdError as exc:
            self._fail_to_dial(peer, link, exc)
        else:
            self._opening[stream.fd] = Opening(stream, peer, now + self._limits.opening_seconds)
            self._watch(stream)

    def _accept(self) -> None:
        """Take in who waits. No more at a time than may be strangers: the others are served in between."""
        for _ in range(self._limits.strangers):
            try:
                raw, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                log.warning("can't accept connections for a moment reason=%s", exc.strerror)
                self._epoll.unregister(self._listener.fileno())
                self._accept_again = self._clock() + self._limits.accept_pause_seconds
                return
            strangers = [opening for opening in self._opening.values() if opening.dialled is None]
            if len(strangers) >= self._limits.strangers:
                self._give_up(strangers[0], StreamBroken("raft.peer.closed", "too many connections say nothing"))
            self._welcome(raw)

    def _welcome(self, raw: socket.socket) -> None:
        try:
            stream = Stream(raw, checked(self._credentials.to_accept()), connected=True, dialled=False)
        except (OSError, StackdError) as exc:
            raw.close()
            self._refuse(str(exc))
            return
        self._opening[stream.fd] = Opening(stream, None, self._clock() + self._limits.opening_seconds)
        self._watch(stream)

    def _go_on_opening(self, opening: Opening) -> None:
        stream = opening.stream
        try:
            if not stream.advance():
                self._watch(stream)
                return
            if not opening.name:
                opening.name = name_in(stream.certificate(), self._credentials, self._hello.node, opening.dialled)
                stream.send(encode(self._hello))
            stream.receive()
            greeting = stream.frames(MAX_HELLO_BYTES, most=1)
            if greeting:
                self._join(opening, hello_in(greeting[0], self._hello, opening.name))
            elif stream.end is not None:
                raise stream.end
            else:
                stream.flush()
                self._watch(stream)
        except StreamBroken as broken:
            self._give_up(opening, broken)

    def _join(self, opening: Opening, hello: Hello) -> None:
        """The stream is open. One that was there before is gone, and nothing more of it is heard."""
        peer, stream, dialled = hello.node, opening.stream, opening.dialled is not None
        link = self._links.setdefault(peer, Link(None))
        if link.stream is not None:
            self._check_supersedes(link, dialled, peer)
            self._drop(peer, link.stream)
        del self._opening[stream.fd]
        link.stream, link.was_dialled, link.opened_at, link.trouble, link.place = stream, dialled, self._clock(), "", ""
        if dialled:
            link.dialling = False
        self._open[stream.fd] = (peer, stream)
        self._events.append(Connected(peer, hello))
        log.info("connected peer=%s", peer)
        self._deliver(peer, stream)

    def _check_supersedes(self, link: Link, dialled: bool, peer: str) -> None:
        """Of two streams the one from the side that dials first stays; both sides see it so."""
        if dialled != link.was_dialled and dialled != (self._hello.node < peer):
            raise StreamBroken("raft.peer.closed", "there is a stream to it already")

    # -- open streams

    def _exchange(self, peer: str, stream: Stream, mask: int) -> None:
        if mask & ~select.EPOLLOUT:  # something to read, or an end
            stream.receive()
        self._deliver(peer, stream)

    def _deliver(self, peer: str, stream: Stream) -> None:
        """Report what has arrived, and go on sending."""
        try:
            self._events += [Received(peer, frame) for frame in stream.frames(MAX_MESSAGE_BYTES)]
            if stream.end is not None:
                raise stream.end
            if stream.queued_bytes:
                stream.flush()
            self._watch(stream)
        except StreamBroken as broken:
            self._lose(peer, stream, broken)

    def _watch(self, stream: Stream) -> None:
        interest, watched = stream.interest, self._watched.get(stream.fd)
        if watched is None:
            self._epoll.register(stream.fd, interest)
        elif watched != interest:
            self._epoll.modify(stream.fd, interest)
        self._watched[stream.fd] = interest

    # -- ends

    def _lose(self, peer: str, stream: Stream, broken: StackdError) -> None:
        """An open stream is gone."""
        if stream.fd not in self._open:
            return
        link = self._drop(peer, stream)
        if link.address is None:
            del self._links[peer]
            return
        if self._clock() - link.opened_at >= self._limits.lasting_seconds:
            link.attempts = 0
        self._retry(peer, link, broken)

    def _drop(self, peer: str, stream: Stream) -> Link:
        del self._open[stream.fd]
        self._close(stream)
        link = self._links[peer]
        link.stream = None
        self._events.append(Disconnected(peer))
        return link

    def _give_up(self, opening: Opening, broken: StackdError) -> None:
        """A stream did not come to be."""
        del self._opening[opening.stream.fd]
        self._close(opening.stream)
        link = self._links.get(opening.dialled or opening.name)
        if opening.dialled is not None and link is not None:
            link.dialling = False
            if link.stream is None:
                self._retry(opening.dialled, link, broken)
        elif link is None or link.stream is None:
            self._refuse(broken.message)

    def _cut(self, peer: str, link: Link) -> None:
        """It is no peer any more, or has another address."""
        for opening in [opening for opening in self._opening.values() if peer in (opening.dialled, opening.name)]:
            del self._opening[opening.stream.fd]
            self._close(opening.stream)
        if link.stream is not None:
            self._drop(peer, link.stream)
        del self._links[peer]

    def _close(self, stream: Stream) -> None:
        if self._watched.pop(stream.fd, None) is not None:
            self._epoll.unregister(stream.fd)
        stream.close()

    def _fail_to_dial(self, peer: str, link: Link, error: StackdError) -> None:
        link.dialling = False
        self._retry(peer, link, error)

    def _retry(self, peer: str, link: Link, error: StackdError) -> None:
        """Say why there is no stream, once, and dial after a while. That it isn't elsewhere either is nothing to tell."""
        delay = min(self._limits.longest_retry_seconds, self._limits.first_retry_seconds * 2.0 ** min(link.attempts, 16))
        link.attempts += 1
        link.next_dial = self._clock() + max(self._least_wait_seconds(peer), delay * (0.5 + self._chance.random() / 2))
        trouble = f"{error.message} [{error.code}]"
        if trouble != link.trouble and link.place in ("", link.address):
            link.trouble = trouble
            log.warning("no connection peer=%s address=%s code=%s reason=%s", peer, link.address, error.code, error.message)

    def _refuse(self, why: str) -> None:
        if why != self._last_refusal:
            self._last_refusal = why
            log.warning("turned a connection away reason=%s", why)
