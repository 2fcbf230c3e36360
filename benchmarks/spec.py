"""What checking stack files costs: `make bench NAME=spec`. Prints one JSON object per figure; needs no daemon.

The loader runs in this process, as in a daemon that follows a source; `validate_200_stacks_s` is the whole command on a
directory, start of the interpreter included, as a CI job runs it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from stackd.spec.files import DictFiles
from stackd.spec.load import load_stack
from stackd.spec.surroundings import Surroundings

from benchmarks.figures import figure

SERVICES = 2000
STACKS = 200
REPEATS = 30

_SERVICE = """\
  {name}:
    image: registry.example.com/team/{name}:1.4
    environment:
      LEVEL: info
      WORKERS: "4"
    deploy:
      replicas: 2
"""

_DETAILS = """\
  {name}:
    image: registry.example.com/team/{name}:${{TAG:-1.4}}
    command: serve --name "{name}" --workers 4
    environment:
      LEVEL: info
      DATABASE: postgres://db.example.com/{name}
    volumes:
      - data:/var/lib/{name}
    healthcheck:
      test: ["CMD", "curl", "-f", "http://localhost/"]
      interval: 10s
    deploy:
      replicas: 2
      update_config: {{parallelism: 1, delay: 5s, failure_action: rollback}}
      restart_policy: {{condition: on-failure, max_attempts: 3}}
      resources:
        limits: {{cpus: "0.5", memory: 256M}}
      placement:
        constraints: [node.role == worker, node.labels.disk == ssd]
    labels:
      team: {name}
"""


def a_large_file() -> str:
    return "services:\n" + "".join(_SERVICE.format(name=f"service-{number}") for number in range(SERVICES))


def a_usual_file() -> str:
    """About 5 KB with most keys that people use."""
    return "services:\n" + "".join(_DETAILS.format(name=f"web{number}") for number in range(7)) + "volumes:\n  data: {}\n"


def load(text: str) -> None:
    load_stack(text.encode(), Surroundings("stack.yaml", "bench", DictFiles({}), {}))


def whole_command() -> float:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(STACKS):
            path = Path(folder, f"stack-{number}", "stack.yaml")
            path.parent.mkdir()
            path.write_text(a_usual_file())
        start = time.perf_counter()
        command = [sys.executable, "-m", "stackd.cli", "validate", "-f", folder]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
    if ended.returncode:
        raise SystemExit(ended.stdout + ended.stderr)
    return seconds


def main(arguments: Sequence[str] = ()) -> int:
    large, usual = a_large_file(), a_usual_file()
    load(usual)  # imports and caches
    cpu = []
    for _ in range(3):
        start = time.process_time()
        load(large)
        cpu.append(time.process_time() - start)
    figure("validate_2000_services_cpu_s", min(cpu), "s", kib=len(large) / 1024)
    milliseconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        load(usual)
        milliseconds.append((time.perf_counter() - start) * 1000)
    figure("validate_5kb_ms", statistics.median(milliseconds), "ms", bytes=len(usual))
    figure("validate_200_stacks_s", min(whole_command() for _ in range(3)), "s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
