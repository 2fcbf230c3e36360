"""Stack files for the tests of whole nodes. Their commands exist in the test image as well as on any host with Python."""

from __future__ import annotations

_SERVER = """
import os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["GREETING"].encode())
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
HTTPServer(("", 80), Hello).serve_forever()
"""


def web(port: int, greeting: str, name: str = "hello", target: int = 80) -> str:
    """One web server; the service is `NAME_web`."""
    program = "".join(f"        {line}\n" for line in _SERVER.replace('("", 80)', f'("", {target})').splitlines())
    return f"""\
name: {name}
services:
  web:
    image: python:3-alpine
    environment:
      GREETING: {greeting}
    command:
      - python3
      - -c
      - |
{program}
    ports:
      - "{port}:{target}"
    deploy:
      restart_policy: {{delay: 100ms}}
      update_config: {{monitor: 200ms}}
"""


def workers(
    release: str = "1", *, name: str = "work", replicas: int = 3, update: str = "monitor: 200ms", extra: str = ""
) -> str:
    """Tasks that run until they are told otherwise; the service is `NAME_job`. `extra` goes to the end of the file.

    SIGTERM ends a task with 0, SIGUSR1 with 7. A release called `bad` exits with 3 at once."""
    return f"""\
name: {name}
services:
  job:
    image: python:3-alpine
    environment:
      RELEASE: "{release}"
    command:
      - sh
      - -c
      - |
        trap 'exit 0' TERM
        trap 'exit 7' USR1
        echo "release $$RELEASE"
        [ "$$RELEASE" = bad ] && exit 3
        while :; do sleep 3600 & wait; done
    deploy:
      replicas: {replicas}
      restart_policy: {{delay: 100ms}}
      update_config: {{{update}}}
      rollback_config: {{monitor: 200ms, parallelism: 0}}
{extra}"""
