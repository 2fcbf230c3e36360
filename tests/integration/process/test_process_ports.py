"""Published ports of process tasks, reached by real requests, and the node's network behind them."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from stackd.agent.executor.base import TaskContext
from stackd.base.errors import TaskFault
from stackd.spec.stack import Port

from process_host import Bench, a_task, drive, no_traces, output_of, sh, traces, until

pytestmark = pytest.mark.needs("root", "net")


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def a_server(published: int, host_ip: str = "", target: int = 80) -> TaskContext:
    """A web server on port 80 of its own that serves its working directory."""
    port = Port(target=target, published=published, host_ip=host_ip)
    return a_task("python3", "-m", "http.server", str(target), ports=(port,))


def answers(port: int, host: str = "127.0.0.1") -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def address_of_this_host() -> str:
    """An address other machines would use; none has to be reachable for this."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def test_a_published_port_leads_to_the_tasks_own_port(tmp_path: Path) -> None:
    port = a_free_port()

    async def script(bench: Bench) -> None:
        with no_traces(tmp_path):
            task = await bench.running(a_server(port))
            await until(lambda: answers(port), "the task answers on localhost")
            assert answers(port, address_of_this_host())
            await task.stop()
            assert not answers(port)
            await task.remove()

    drive(tmp_path, script)


def test_two_tasks_may_listen_on_the_same_port_of_their_own(tmp_path: Path) -> None:
    first, second = a_free_port(), a_free_port()

    async def script(bench: Bench) -> None:
        await bench.running(a_server(first))
        await bench.running(a_server(second))
        await until(lambda: answers(first) and answers(second), "both answer")

    drive(tmp_path, script)


def test_a_port_of_a_host_address_is_published_there_only(tmp_path: Path) -> None:
    port = a_free_port()

    async def script(bench: Bench) -> None:
        await bench.running(a_server(port, host_ip="127.0.0.1"))
        await until(lambda: answers(port), "the task answers on localhost")
        if address_of_this_host() != "127.0.0.1":
            assert not answers(port, address_of_this_host())

    drive(tmp_path, script)


def test_a_task_reaches_another_task_through_the_host(tmp_path: Path) -> None:
    port = a_free_port()

    async def script(bench: Bench) -> None:
        await bench.running(a_server(port))
        await until(lambda: answers(port), "the task answers on localhost")
        fetch = f"import urllib.request as r; print(r.urlopen('http://{address_of_this_host()}:{port}/', timeout=5).status)"
        _, output = await bench.ended(a_task("python3", "-c", fetch))
        assert output == "200"

    drive(tmp_path, script)


def test_a_task_can_not_reach_the_hosts_loopback(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        async def script(bench: Bench) -> None:
            _, output = await bench.ended(
                sh(f"python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 2)'")
            )
            assert "ConnectionRefusedError" in output

        drive(tmp_path, script)


def test_udp_is_published_too(tmp_path: Path) -> None:
    port = a_free_port()
    echo = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 53)); print('up', flush=True)\n"
    echo += "while True:\n    data, who = s.recvfrom(99)\n    s.sendto(data, who)\n"

    async def script(bench: Bench) -> None:
        task = await bench.running(a_task("python3", "-c", echo, ports=(Port(target=53, published=port, protocol="udp"),)))
        while "up" not in await output_of(task):
            await asyncio.sleep(0.02)
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(b"hello", ("127.0.0.1", port))
            assert client.recv(99) == b"hello"

    drive(tmp_path, script)


def test_a_port_that_the_host_listens_on_is_a_fault_that_names_it(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        port = listener.getsockname()[1]

        async def script(bench: Bench) -> None:
            task = bench.controller(a_server(port))
            await task.prepare()
            with pytest.raises(TaskFault) as fault:
                await task.start()
            assert fault.value.code == "agent.process.port_in_use"
            assert fault.value.message.startswith(f"port {port}/tcp is already in use on this host (by ")
            assert f"process {os.getpid()})" in fault.value.message

        drive(tmp_path, script)


def test_an_address_that_is_not_this_hosts_is_a_fault_that_says_so(tmp_path: Path) -> None:
    async def script(bench: Bench) -> None:
        task = bench.controller(a_server(a_free_port(), host_ip="203.0.113.7"))
        await task.prepare()
        with pytest.raises(TaskFault, match=r"can't be used on 203\.0\.113\.7: cannot assign requested address"):
            await task.start()

    drive(tmp_path, script)


def test_a_port_is_free_again_as_soon_as_its_task_has_stopped(tmp_path: Path) -> None:
    """A stop-first update prepares the successor while its predecessor still has the port."""
    port = a_free_port()

    async def script(bench: Bench) -> None:
        old = await bench.running(a_server(port))
        new = bench.controller(a_server(port))
        await new.prepare()
        with pytest.raises(TaskFault, match="already in use"):
            await new.start()
        await old.stop()
        await new.start()
        await until(lambda: answers(port), "the successor answers")

    drive(tmp_path, script)


def test_flushed_rules_are_loaded_again_with_the_next_change(tmp_path: Path) -> None:
    first, second = a_free_port(), a_free_port()

    async def script(bench: Bench) -> None:
        await bench.running(a_server(first))
        (bridge,) = traces(tmp_path)["links"]
        await asyncio.to_thread(subprocess.run, ["nft", "delete", "table", "ip", bridge], check=True)
        await bench.running(a_server(second))
        await until(lambda: answers(first) and answers(second), "both answer")

    drive(tmp_path, script)


@pytest.mark.skipif(not shutil.which("iptables", path="/usr/sbin:/sbin:/usr/bin"), reason="no iptables")
def test_a_host_that_drops_what_it_forwards_lets_our_bridge_through(tmp_path: Path) -> None:
    """Docker sets this policy. In a network namespace that stands for the host, or other tests would feel it."""
    inner = Path(__file__).with_name("forward_drop.py")
    done = subprocess.run(
        ["unshare", "--net", sys.executable, str(inner), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
