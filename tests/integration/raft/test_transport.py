"""Members over loopback with mutual TLS: ordered, exactly once, one stream per pair; strangers and garbage get nowhere."""

from __future__ import annotations

import dataclasses
import datetime
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from stackd.base.errors import StackdError
from stackd.base.records import encode
from stackd.raft.address import listen
from stackd.raft.credentials import Credentials, common_name
from stackd.raft.peers import MAX_MESSAGE_BYTES, Connected, Disconnected, Hello, PeerEvent, Received
from stackd.raft.transport import TlsPeers, TransportLimits

from certificates import Authority, tls_context
from node import free_port

WAIT_SECONDS = 10.0
QUICK = TransportLimits(opening_seconds=1.0, first_retry_seconds=0.01, longest_retry_seconds=0.05, higher_waits_seconds=0.1)


@dataclass
class Member:
    """A member whose events are kept."""

    name: str
    peers: TlsPeers
    address: str
    events: list[PeerEvent] = field(default_factory=list)

    def messages(self) -> list[bytes]:
        return [event.message for event in self.events if isinstance(event, Received)]

    def connections(self) -> int:
        return sum(isinstance(event, Connected) for event in self.events)

    def is_connected(self) -> bool:
        changes = [event for event in self.events if not isinstance(event, Received)]
        return bool(changes) and isinstance(changes[-1], Connected)


class Network:
    """Members on the loopback, all polled by this thread."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.members: list[Member] = []

    def member(
        self,
        name: str,
        *,
        credentials: Credentials | None = None,
        hello: Hello | None = None,
        limits: TransportLimits = QUICK,
        port: int = 0,
        elsewhere: Sequence[str] = (),
    ) -> Member:
        listener = listen("127.0.0.1", port)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        hello = hello or Hello(node=name, cluster="cluster1")
        credentials = credentials or self.authority.credentials(name)
        peers = TlsPeers(hello, listener, credentials, elsewhere=elsewhere, limits=limits, chance=random.Random(1))
        self.members.append(Member(name, peers, address))
        return self.members[-1]

    def introduce(self) -> None:
        """Everybody is to be connected with everybody."""
        addresses = {member.name: member.address for member in self.members}
        for member in self.members:
            member.peers.set_peers(addresses)

    def pair(self) -> tuple[Member, Member]:
        """Two connected members."""
        one, two = self.member("a"), self.member("b")
        self.introduce()
        self.until(lambda: one.is_connected() and two.is_connected())
        return one, two

    def until(self, condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, [(member.name, member.peers.troubles()) for member in self.members]
            for member in self.members:
                member.events += member.peers.poll(0.002)

    def restart(self, member: Member) -> Member:
        """The same member as a new process."""
        member.peers.close()
        self.members.remove(member)
        return self.member(member.name, port=int(member.address.rpartition(":")[2]))


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path)
    try:
        yield network
    finally:
        for member in network.members:
            member.peers.close()


def test_messages_arrive_in_order_and_once_in_both_directions(network: Network) -> None:
    one, two = network.pair()
    chance = random.Random(1)
    there = [chance.randbytes(chance.choice([0, 1, 50, 70_000, 300_000])) for _ in range(60)]
    back = [b"%d" % number for number in range(2000)]
    for message in there:
        one.peers.send("b", message)
    for message in back:
        two.peers.send("a", message)
    network.until(lambda: len(two.messages()) == len(there) and len(one.messages()) == len(back))
    assert two.messages() == there
    assert one.messages() == back
    assert (one.connections(), two.connections()) == (1, 1)


def test_five_members_have_one_stream_between_each_two(network: Network) -> None:
    members = [network.member(name) for name in "abcde"]
    network.introduce()
    network.until(lambda: all(member.connections() == 4 for member in members))
    for member in members:
        for other in members:
            member.peers.send(other.name, member.name.encode())
    network.until(lambda: all(len(member.messages()) == 4 for member in members))
    assert [member.connections() for member in members] == [4] * 5
    hellos = {event.peer: event.hello for event in members[0].events if isinstance(event, Connected)}
    assert hellos == {name: Hello(node=name, cluster="cluster1") for name in "bcde"}


@pytest.mark.parametrize("restarted", [0, 1], ids=["the one that dials", "the one that listens"])
def test_after_a_restart_the_old_stream_ends_before_the_new_one_begins(network: Network, restarted: int) -> None:
    pair = network.pair()
    stays, goes = pair[1 - restarted], pair[restarted]
    goes.peers.send(stays.name, b"before")
    network.until(lambda: stays.messages() == [b"before"])
    again = network.restart(goes)
    stays.peers.send(goes.name, b"into the void")
    again.peers.set_peers({member.name: member.address for member in network.members})
    network.until(lambda: again.is_connected() and stays.connections() == 2)
    stays.peers.send(goes.name, b"after")
    again.peers.send(stays.name, b"after")
    network.until(lambda: len(stays.messages()) == 2 and len(again.messages()) == 1)
    assert [type(event) for event in stays.events] == [Connected, Received, Disconnected, Connected, Received]
    assert again.messages() == [b"after"]


def test_what_waits_for_a_lost_stream_is_dropped(network: Network) -> None:
    one, two = network.pair()
    for _ in range(40):
        one.peers.send("b", bytes(200_000))
    again = network.restart(two)
    again.peers.set_peers({"a": one.address})
    network.until(lambda: one.connections() == 2 and again.is_connected())
    one.peers.send("b", b"new")
    network.until(lambda: again.messages() == [b"new"])


def test_a_member_that_is_no_peer_any_more_is_cut_off_once_and_heard_if_it_comes_again(network: Network) -> None:
    one, two = network.pair()
    two.peers.set_peers({})
    network.until(lambda: one.connections() == 2 and two.connections() == 2)
    assert [type(event) for event in two.events] == [Connected, Disconnected, Connected]
    one.peers.set_peers({})
    network.until(lambda: not one.is_connected() and not two.is_connected())


@pytest.mark.parametrize("knows", [0, 1], ids=["the lower id knows", "the higher id knows"])
def test_a_member_that_the_other_does_not_know_reaches_it(network: Network, knows: int) -> None:
    pair = network.member("a"), network.member("b")
    pair[knows].peers.set_peers({pair[1 - knows].name: pair[1 - knows].address})
    network.until(lambda: all(member.is_connected() for member in pair))
    for member, other in (pair, pair[::-1]):
        member.peers.send(other.name, b"hello")
    network.until(lambda: all(member.messages() == [b"hello"] for member in pair))
    pair[1 - knows].peers.set_peers({pair[knows].name: pair[knows].address})
    pair[knows].peers.send(pair[1 - knows].name, b"again")
    network.until(lambda: len(pair[1 - knows].messages()) == 2)
    assert [member.connections() for member in pair] == [1, 1]


def test_members_none_of_whom_is_where_it_was_find_each_other_at_the_addresses_that_they_are_told(network: Network) -> None:
    ports = {name: free_port() for name in "abc"}
    places = [f"127.0.0.1:{port}" for port in ports.values()]
    members = [network.member(name, port=port, elsewhere=places) for name, port in ports.items()]
    for member in members:
        member.peers.set_peers({name: f"127.0.0.1:{9 + number}" for number, name in enumerate(ports)})
    network.until(lambda: all(member.connections() == 2 for member in members))
    assert not any(member.peers.troubles() for member in members)
    for member in members:
        member.peers.set_peers({name: f"127.0.0.1:{port}" for name, port in ports.items()})
    network.until(lambda: all(member.connections() > 2 and member.is_connected() for member in members))


def test_of_two_streams_the_one_that_the_lower_id_dialled_stays(network: Network) -> None:
    eager = dataclasses.replace(QUICK, higher_waits_seconds=0.0)
    for _ in range(5):
        pair = network.member("a", limits=eager), network.member("b", limits=eager)
        network.introduce()
        network.until(lambda pair=pair: all(member.is_connected() for member in pair))  # type: ignore[misc]
        end = time.monotonic() + 0.2
        network.until(lambda end=end: time.monotonic() > end)  # type: ignore[misc]
        for member, other in (pair, pair[::-1]):
            member.peers.send(other.name, b"hello")
        network.until(lambda pair=pair: all(member.messages() == [b"hello"] for member in pair))  # type: ignore[misc]
        for member in pair:
            assert member.is_connected()
            assert member.connections() <= 2
            member.peers.close()
        network.members.clear()


def test_those_who_stay_are_not_disturbed_by_a_change_of_peers(network: Network) -> None:
    one, two = network.pair()
    three = network.member("c")
    network.introduce()
    network.until(lambda: all(member.connections() == 2 for member in network.members))
    assert three.is_connected()
    one.peers.set_peers({"b": two.address})
    one.peers.send("b", b"hello")
    network.until(lambda: two.messages() == [b"hello"] and not any(m.connections() > 2 for m in network.members))
    assert Disconnected("b") not in one.events
    assert Disconnected("c") in one.events


def refused(network: Network, stranger: Member) -> tuple[str, str]:
    """Why neither side takes the other: a member that dials `stranger`, and one that it dials."""
    lower, higher = network.member("a"), network.member("z")
    network.introduce()
    network.until(lambda: stranger.name in lower.peers.troubles() and bool(higher.peers.last_refusal))
    assert not any(event.peer == stranger.name for member in (lower, higher) for event in member.events)
    return lower.peers.troubles()[stranger.name], higher.peers.last_refusal


def test_a_certificate_of_another_authority_is_refused(network: Network, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = network.member("m", credentials=Authority(tmp_path / "other").credentials("m"))
    dialling, dialled = refused(network, stranger)
    assert "[raft.peer.untrusted]" in dialling
    assert "certificate" in dialled or "alert" in dialled


def test_an_expired_certificate_is_refused(network: Network) -> None:
    expired = network.authority.credentials("m", valid=datetime.timedelta(minutes=-1))
    dialling, dialled = refused(network, network.member("m", credentials=expired))
    assert "expired [raft.peer.untrusted]" in dialling
    assert "expired" in dialled


def test_the_certificate_of_another_node_is_refused(network: Network) -> None:
    dialling, dialled = refused(network, network.member("m", credentials=network.authority.credentials("n")))
    assert "node n answers at the address of m [raft.peer.wrong_node]" in dialling
    assert "its certificate is that of n" in dialled


def test_a_hello_that_contradicts_the_certificate_is_refused(network: Network) -> None:
    dialling, dialled = refused(network, network.member("m", hello=Hello(node="q", cluster="cluster1")))
    assert "[raft.peer.wrong_node]" in dialling
    assert "says it is node q" in dialled


def test_a_node_of_another_cluster_is_refused(network: Network) -> None:
    dialling, dialled = refused(network, network.member("m", hello=Hello(node="m", cluster="cluster2")))
    assert "[raft.peer.other_cluster]" in dialling
    assert "cluster2" in dialled


def test_another_version_of_the_protocol_is_refused(network: Network) -> None:
    dialling, dialled = refused(network, network.member("m", hello=Hello(node="m", cluster="cluster1", protocol=2)))
    assert "[raft.peer.protocol]" in dialling
    assert "version 2" in dialled


def test_a_context_that_does_not_demand_certificates_is_never_used(network: Network) -> None:
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    lax.check_hostname = False
    lax.verify_mode = ssl.CERT_NONE
    credentials = Credentials(to_dial=lambda: lax, to_accept=lambda: lax, name_of=common_name)
    member = network.member("a", credentials=credentials)
    member.peers.set_peers({"b": "127.0.0.1:9"})
    with pytest.raises(ValueError, match="demand a certificate"):
        member.peers.poll(0.1)


class Raw:
    """A program that has the certificate of "a" and speaks TLS, but as it likes."""

    def __init__(self, network: Network, member: Member) -> None:
        authority = network.authority
        certificate, key = authority.issue("a")
        context = tls_context(ssl.PROTOCOL_TLS_CLIENT, authority.certificate, certificate, key)
        host, _, port = member.address.rpartition(":")
        connection = socket.create_connection((host, int(port)), timeout=WAIT_SECONDS)
        done = threading.Event()
        thread = threading.Thread(target=self._answer, args=(network, done))
        self.tls = context.wrap_socket(connection, do_handshake_on_connect=False)
        thread.start()
        try:
            self.tls.do_handshake()
        finally:
            done.set()
            thread.join()

    @staticmethod
    def _answer(network: Network, done: threading.Event) -> None:
        while not done.is_set():
            for member in network.members:
                member.events += member.peers.poll(0.002)

    def frame(self, payload: bytes) -> None:
        self.tls.sendall(len(payload).to_bytes(4) + payload)

    def vanish(self) -> None:
        """Be gone without a farewell, as a machine that lost its power."""
        self.tls.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        self.tls.close()


TCP_REPAIR = 19
"""From linux/tcp.h: a socket that is closed in this mode sends nothing."""

HELLO = encode(Hello(node="a", cluster="cluster1"))


@pytest.mark.parametrize(
    ("greeting", "why"),
    [
        (b"\xff\xff\xff\xff", "frame of 4294967295 bytes"),
        (b"\x00\x00\x20\x00", "frame of 8192 bytes"),
        (b"\0\0\0\1x", "no hello"),
    ],
    ids=["huge", "larger than a hello", "no hello"],
)
def test_a_bad_greeting_is_cut_off_before_anything_is_read(network: Network, greeting: bytes, why: str) -> None:
    member = network.member("b")
    member.peers.set_peers({"a": "127.0.0.1:9"})
    raw = Raw(network, member)
    raw.tls.sendall(greeting)
    network.until(lambda: why in member.peers.last_refusal)
    assert member.events == []
    raw.tls.close()


def test_an_oversized_frame_ends_the_stream_after_what_was_whole(network: Network) -> None:
    member = network.member("b")
    member.peers.set_peers({"a": "127.0.0.1:9"})
    raw = Raw(network, member)
    raw.frame(HELLO)
    raw.frame(b"whole")
    raw.tls.sendall((MAX_MESSAGE_BYTES + 1).to_bytes(4) + b"x")
    network.until(lambda: Disconnected("a") in member.events)
    assert member.messages() in ([b"whole"], [])
    assert "[raft.peer.garbage]" in member.peers.troubles()["a"]
    raw.tls.close()


@pytest.mark.needs("root")
def test_a_connection_whose_other_end_vanished_does_not_stay(network: Network) -> None:
    member = network.member("b")
    member.peers.set_peers({"a": "127.0.0.1:9"})
    raw = Raw(network, member)
    raw.frame(HELLO)
    network.until(member.is_connected)
    raw.vanish()
    network.until(lambda: not member.is_connected())
    assert member.connections() == 1


def test_a_message_of_the_largest_size_passes(network: Network) -> None:
    one, two = network.pair()
    message = random.Random(1).randbytes(MAX_MESSAGE_BYTES)
    one.peers.send("b", message)
    network.until(lambda: two.messages() == [message])


def test_what_is_no_tls_at_all_is_turned_away(network: Network) -> None:
    member = network.member("b")
    host, _, port = member.address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        network.until(lambda: "no TLS" in member.peers.last_refusal)


def test_strangers_that_say_nothing_are_closed_after_a_while_and_are_never_many(network: Network) -> None:
    member = network.member("b", limits=TransportLimits(opening_seconds=0.3, strangers=3))
    host, _, port = member.address.rpartition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(8)]

    def closed() -> int:
        count = 0
        for connection in silent:
            connection.setblocking(False)
            try:
                count += connection.recv(1) == b""
            except ConnectionError:
                count += 1
            except BlockingIOError:
                pass
        return count

    network.until(lambda: closed() >= 5, 0.3)
    network.until(lambda: closed() == 8)
    for connection in silent:
        connection.close()


def test_a_peer_that_does_not_read_is_disconnected_when_too_much_waits(network: Network) -> None:
    slow = TransportLimits(queued_bytes=1_000_000, first_retry_seconds=5.0)
    one, two = network.member("a", limits=slow), network.member("b", limits=slow)
    network.introduce()
    network.until(lambda: one.is_connected() and two.is_connected())
    sent = 0
    while not one.peers.troubles():
        one.peers.send("b", bytes(100_000))
        sent += 1
        assert sent < 1000
    assert "[raft.peer.slow]" in one.peers.troubles()["b"]
    assert [type(event) for event in one.peers.poll(0.0)] == [Disconnected]
    one.peers.send("b", b"dropped")


def test_a_silent_address_and_a_silent_name_hold_nobody_up(network: Network) -> None:
    one, two = network.member("a"), network.member("b")
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(0)
    host, port = silent.getsockname()
    waiting = [socket.socket() for _ in range(4)]
    for connection in waiting:  # the queue of the listener is full: further connects get no answer
        connection.setblocking(False)
        connection.connect_ex((host, port))
    one.peers.set_peers({"b": two.address, "c": f"{host}:{port}", "d": "nobody.invalid:1", "e": "no port"})
    two.peers.set_peers({"a": one.address})
    start = time.monotonic()
    longest = 0.0
    while not one.is_connected() or time.monotonic() - start < 1.5:
        before = time.monotonic()
        one.events += one.peers.poll(0.01)
        longest = max(longest, time.monotonic() - before)
        two.events += two.peers.poll(0.01)
    assert one.connections() == 1
    assert longest < 0.5
    network.until(lambda: set(one.peers.troubles()) == {"c", "d", "e"})
    for connection in (silent, *waiting):
        connection.close()


def test_a_name_is_looked_up(network: Network) -> None:
    one, two = network.member("a"), network.member("b")
    one.peers.set_peers({"b": two.address.replace("127.0.0.1", "localhost")})
    two.peers.set_peers({"a": one.address})
    network.until(lambda: one.is_connected() and two.is_connected())


def test_certificates_rotate_without_a_stream_being_cut(network: Network) -> None:
    issued = [network.authority.credentials("a")]
    asked = []

    def present() -> ssl.SSLContext:
        asked.append(len(issued))
        return issued[-1].to_dial()

    rotating = Credentials(to_dial=present, to_accept=present, name_of=common_name)
    one, two = network.member("a", credentials=rotating), network.member("b")
    network.introduce()
    network.until(lambda: one.is_connected() and two.is_connected())
    issued.append(network.authority.credentials("a"))
    one.peers.send("b", b"still")
    network.until(lambda: two.messages() == [b"still"])
    assert (one.connections(), asked) == (1, [1])
    again = network.restart(two)
    again.peers.set_peers({"a": one.address})
    network.until(lambda: one.connections() == 2)
    assert asked[-1] == 2


def test_poll_waits_until_woken_or_until_its_time_is_over(network: Network) -> None:
    member = network.member("a")
    start = time.monotonic()
    assert member.peers.poll(0.05) == []
    assert time.monotonic() - start >= 0.05
    timer = threading.Timer(0.05, member.peers.wake)
    timer.start()
    assert member.peers.poll(None) == []
    timer.join()
    member.peers.wake()
    assert member.peers.poll(None) == []
    member.peers.close()
    member.peers.wake()


def test_a_rest_leaves_what_arrives_to_the_next_poll_and_ends_when_woken(network: Network) -> None:
    one, two = network.pair()
    two.peers.send("a", b"later")
    start = time.monotonic()
    while one.peers.rest(0.05) and time.monotonic() - start < 0.05:
        pass  # woken before: the first time it returns at once
    assert time.monotonic() - start >= 0.05
    assert list(one.peers.poll(0.0)) == [Received("b", b"later")]
    timer = threading.Timer(0.05, one.peers.wake)
    timer.start()
    assert one.peers.rest(WAIT_SECONDS)
    assert time.monotonic() - start < WAIT_SECONDS
    timer.join()


def test_nobody_rests_while_a_stream_is_being_opened_or_is_lost(network: Network) -> None:
    one, two = network.pair()
    assert one.peers.rest(0.0)
    stranger = socket.create_connection(("127.0.0.1", int(one.address.rpartition(":")[2])))
    assert one.peers.rest(WAIT_SECONDS)  # until it comes
    one.peers.poll(0.0)
    assert not one.peers.rest(WAIT_SECONDS)
    stranger.close()
    network.until(lambda: one.peers.rest(0.0))
    two.peers.close()
    network.members.remove(two)
    network.until(lambda: not one.is_connected())
    assert not one.peers.rest(WAIT_SECONDS)


def test_a_context_that_cannot_be_made_is_a_trouble_and_not_the_end(network: Network) -> None:
    def none() -> ssl.SSLContext:
        raise StackdError("security.certificate.missing", "there is no certificate")

    working = network.authority.credentials("a")
    ready: list[bool] = []
    credentials = Credentials(
        to_dial=lambda: working.to_dial() if ready else none(), to_accept=working.to_accept, name_of=common_name
    )
    one, two = network.member("a", credentials=credentials), network.member("b")
    network.introduce()
    network.until(lambda: "no certificate" in one.peers.troubles().get("b", ""))
    ready.append(True)
    network.until(lambda: one.is_connected() and two.is_connected())
    assert one.peers.troubles() == {}
