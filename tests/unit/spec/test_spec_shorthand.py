"""The short forms: durations, sizes, CPUs, commands, ports, images, names."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from stackd.base.errors import StackdError
from stackd.spec import ports, shorthand
from stackd.spec.document import PortDocument
from stackd.spec.mounts import mount_target, short_mount


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0), ("0s", 0), ("1ns", 1), ("1us", 1000), ("1µs", 1000), ("1ms", 10**6), ("10s", 10**10), ("1m30s", 9 * 10**10),
        ("1.5h", 5400 * 10**9), (".5s", 5 * 10**8), ("1.s", 10**9), ("+3s", 3 * 10**9), ("1h1m1s", 3661 * 10**9), ("0.1ns", 0),
    ],
)  # fmt: skip
def test_a_duration_is_a_sum_of_numbers_with_units(text: str, nanoseconds: int) -> None:
    assert shorthand.duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("64", 64), ("64b", 64), ("1k", 1024), ("1KB", 1024), ("1kib", 1024), ("64M", 2**26),
        ("1.5g", 3 * 2**29), ("2 GB", 2 * 1024**3), ("1t", 1024**4), ("1P", 1024**5),
    ],
)  # fmt: skip
def test_a_size_is_in_powers_of_1024(text: str, size: int) -> None:
    assert shorthand.byte_size(text) == size


@pytest.mark.parametrize(
    ("text", "nanos"),
    [("1", 10**9), ("0.5", 5 * 10**8), (".25", 25 * 10**7), ("0.000000001", 1), ("2.", 2 * 10**9), ("1/2", 5 * 10**8)],
)
def test_cpus_are_exact(text: str, nanos: int) -> None:
    assert shorthand.nano_cpus(text) == nanos


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()), ("  ", ()), ("a b\tc\nd", ("a", "b", "c", "d")), ("a 'b c' \"d e\"", ("a", "b c", "d e")),
        ("a\\ b", ("a b",)), ("'a'\"b\"c", ("abc",)), ("''", ("",)), ('"a\\"b"', ('a"b',)), ("'a\\b'", ("a\\b",)),
        ('"a\\n"', ("an",)),
        ("a # comment", ("a",)), ("a#b", ("a#b",)), ("a # x\nb", ("a", "b")), ("a '#' b", ("a", "#", "b")),
        ("--x='1 2'", ("--x=1 2",)),
    ],
)  # fmt: skip
def test_a_command_is_split_as_the_official_client_does(text: str, words: tuple[str, ...]) -> None:
    assert shorthand.command(text) == words


def a_port(target: int, published: int = 0, protocol: str = "tcp", host_ip: str = "") -> PortDocument:
    return PortDocument(mode="ingress", target=target, published=published, protocol=protocol, host_ip=host_ip)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [a_port(80)]),
        ("8080:80", [a_port(80, 8080)]),
        ("53:53/UDP", [a_port(53, 53, "udp")]),
        ("127.0.0.1:8080:80", [a_port(80, 8080, host_ip="127.0.0.1")]),
        ("127.0.0.1::80", [a_port(80, host_ip="127.0.0.1")]),
        ("[::1]:8080:80", [a_port(80, 8080, host_ip="::1")]),
        ("0.0.0.0:8080:80", [a_port(80, 8080)]),
        ("80-81", [a_port(80), a_port(81)]),
        ("9000-9001:80-81", [a_port(80, 9000), a_port(81, 9001)]),
        ("9000-9001:80", [a_port(80, 9000), a_port(80, 9001)]),
    ],
)
def test_a_short_port_is_one_port_or_a_range(text: str, expected: list[PortDocument]) -> None:
    assert list(ports.ports(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "nginx", "nginx:1.25", "team/app", "registry.example.com:5000/team/app:1.4", "localhost/app", "a__b/c-d.e",
        "app@sha256:" + "0" * 64, "app:1@sha256:" + "a" * 64, "sha256:" + "0" * 64, "Registry.example.com/app",
    ],
)  # fmt: skip
def test_image_references_are_recognised(text: str) -> None:
    assert shorthand.image(text) == text


@pytest.mark.parametrize(
    ("parse", "texts"),
    [
        (shorthand.duration, ["", "10", "s", "-1s", "1 s", "1d", "1h 30m", "1e3s", "99999999999h", "1" * 60 + "s", "٣s"]),
        (shorthand.byte_size, ["", "M", "-1", "1X", "1.M", "1..5M", "99999999P", "1" * 60, "1MM", "٣M"]),
        (shorthand.nano_cpus, ["", ".", "-1", "1/0", "1e2", "0.0000000001", "1" * 60, "half", "٣"]),
        (shorthand.command, ["'", '"a', "a\\", "'a\"", '"\\']),
        (ports.ports, ["", ":", "a", "0", "65536", "80:", "81-80", "80:90-91", "1.2.3:80:80", "80/x", "80:80:80:80"]),
        (shorthand.image, ["", "A", "a b", "a:", ":a", "a@", "a@sha256:12", "a//b", "/a", "a/", "-a", "a" * 600]),
        (shorthand.signal, ["", "SIG", "TREM", "0", "65", "SIGRTMIN+16", "-9"]),
        (shorthand.stack_name, ["", "A", "-a", "_a", "a b", "a.b", "a" * 64, "ä"]),
        (shorthand.service_name, ["", "-a", "a-", "a.b", "a b", "ä"]),
        (shorthand.object_name, ["", "-a", "a/b", "a b"]),
        (shorthand.hostname, ["", "-a", "a b", "a" * 64]),
        (short_mount, ["", ":/a", "a1:", "aa:bb:cc:dd", "a:b:c:d:e:f:g:h"]),
        (mount_target, ["", "a", "a:b", "/", "/..", "C:\\a", "\\\\x"]),
    ],
)  # fmt: skip
def test_everything_else_is_refused_with_a_sentence(parse: Callable[[str], object], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(StackdError) as caught:
            parse(text)
        assert caught.value.code.startswith("spec."), text
        assert caught.value.message


@pytest.mark.parametrize(
    "parse",
    [
        shorthand.duration, shorthand.byte_size, shorthand.nano_cpus, shorthand.image, shorthand.stack_name, ports.ports,
        shorthand.service_name, shorthand.object_name, shorthand.hostname, shorthand.signal, shorthand.restart, mount_target,
    ],
)  # fmt: skip
@pytest.mark.parametrize("text", ["a" * 60_000 + "!", "1" * 60_000 + "!", "a-" * 30_000 + "!", "1.1." * 15_000, "a:" * 30_000])
def test_a_long_text_is_refused_without_much_thought(parse: Callable[[str], object], text: str) -> None:
    start = time.process_time()
    with pytest.raises(StackdError):
        parse(text)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("text", ["SIGTERM", "TERM", "sigterm", "15", "SIGRTMIN+3", "RTMAX-1", "SIGRTMIN"])
def test_signals_have_names_and_numbers(text: str) -> None:
    assert shorthand.signal(text) == text
