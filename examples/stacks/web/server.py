"""Greets whoever knows the password; /health answers everybody."""

import base64
import configparser
import hmac
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SETTINGS = configparser.ConfigParser()
SETTINGS.read("/srv/settings.ini")
PASSWORD = Path("/run/secrets/password").read_text().strip()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            self.answer(200, "ok")
        elif self.knows_password():
            self.answer(200, SETTINGS["web"]["greeting"])
        else:
            self.answer(401, "who are you?", ("WWW-Authenticate", "Basic"))

    def knows_password(self):
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        try:
            given = base64.b64decode(token).decode().partition(":")[2]
        except ValueError:
            return False
        return kind == "Basic" and hmac.compare_digest(given.encode(), PASSWORD.encode())

    def answer(self, status, text, *headers):
        body = f"{text}\n".encode()
        self.send_response(status)
        for name, value in (("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer(("", 80), Handler).serve_forever()
