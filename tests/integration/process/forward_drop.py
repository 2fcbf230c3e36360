"""Run by a test in a network namespace of its own: is a published port reached although FORWARD drops everything?

The client is in a third namespace, so that its packets are really forwarded. Ends with 0 if it is reached.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from stackd.spec.stack import Port

from process_host import Bench, a_task, drive

FETCH = """
import sys, time, urllib.request
for _ in range(100):
    try:
        sys.exit(urllib.request.urlopen("http://10.99.0.1:8080/", timeout=2).status != 200)
    except OSError as error:
        time.sleep(0.05)
sys.exit(str(error))
"""


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def main(state_dir: Path) -> None:
    with subprocess.Popen(["unshare", "--net", "sleep", "60"]) as client:
        try:
            run("ip", "link", "set", "lo", "up")
            run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", str(client.pid))
            run("ip", "addr", "add", "10.99.0.1/24", "dev", "lan")
            run("ip", "link", "set", "lan", "up")
            inside = ("nsenter", f"--net=/proc/{client.pid}/ns/net")
            run(*inside, "ip", "addr", "add", "10.99.0.2/24", "dev", "eth0")
            run(*inside, "ip", "link", "set", "eth0", "up")
            run("iptables", "-P", "FORWARD", "DROP")
            run("iptables", "-N", "DOCKER-USER")
            run("iptables", "-A", "FORWARD", "-j", "DOCKER-USER")

            async def script(bench: Bench) -> None:
                server = a_task("python3", "-m", "http.server", "80", ports=(Port(target=80, published=8080),))
                await bench.running(server)
                run(*inside, sys.executable, "-c", FETCH)

            drive(state_dir, script)
            rules = subprocess.run(["iptables", "-S"], capture_output=True, text=True, check=True).stdout
            assert "stackd" not in rules, rules
        finally:
            client.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
