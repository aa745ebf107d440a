"""The page on which pictures are rated, on loopback: for whoever was told its address, and nobody's web page.

    GET  /TOKEN/         the page             the token is new with every server
    GET  /TOKEN/asked    what is asked        pictures are in it, so nothing else has an address
    POST /TOKEN/answer   {"pair": ..., "answer": left | right | tie | both_bad | undo}, then as /asked, and `late`

Whatever else is asked for is not there. No path or name from the browser reaches the file system. The Host header
must name this machine, or a page elsewhere could ask through a name that it makes lead here (DNS rebinding).
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import socket
import sys
import threading
import time
import webbrowser
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lorasweep.core.errors import InputError, Problem
from lorasweep.results.preference import ANSWERS
from lorasweep.results.rate.session import UNDO, Session
from lorasweep.results.report.page import assets, templates

HOST = "127.0.0.1"
OWN_NAMES = (HOST, "localhost")
LARGEST_BYTES = 1000  # of an answer
GRACE_S = 8.0  # after the last answer, to undo it
PATIENCE_S = 30.0  # with a browser that says nothing


class RatingServer(ThreadingHTTPServer):
    """The page, on loopback; `port` 0 takes a free one."""

    daemon_threads = True

    def __init__(self, session: Session, port: int = 0) -> None:
        """Listen; nothing is answered before `serve`.

        Raises:
            InputError: the port is taken.
        """
        self.session = session
        self.token = secrets.token_urlsafe(16)
        parts = assets("page.css", "rate.css", script="rate.js")
        self.page = templates().get_template("rate.html.j2").render(parts).encode()
        self.policy = (
            "default-src 'none'; img-src data:; style-src 'unsafe-inline'; connect-src 'self'; "
            f"script-src 'sha256-{parts['script_digest']}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self.touched = time.monotonic()  # by anybody with the token
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            problem = Problem("--port", f"{port} is taken", "leave it out to get a free one")
            raise InputError(problem, subject="rate") from error

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def serve(self) -> None:
        """Serve until nothing more is asked, and nobody undoes that for `GRACE_S`; or until interrupted."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="rate", daemon=True)
        thread.start()
        try:
            while time.monotonic() - self.touched < GRACE_S or not self.session.why_over():
                time.sleep(0.5)
        finally:
            self.shutdown()
            self.server_close()


def serve(session: Session, *, port: int = 0, open_browser: bool = True) -> None:
    """Serve the page, and say where it is, until nothing more is asked or Ctrl-C."""
    server = RatingServer(session, port)
    print(f"rate  {server.url}  (Ctrl-C stops it; every answer is kept)", file=sys.stderr)
    if "SSH_CONNECTION" in os.environ:
        here, port = socket.gethostname(), server.server_port
        print(f"on the machine with the browser, first:  ssh -L {port}:{HOST}:{port} {here}", file=sys.stderr)
    elif open_browser:
        webbrowser.open(server.url)
    with suppress(KeyboardInterrupt):
        server.serve()


class _Handler(BaseHTTPRequestHandler):
    server: RatingServer
    server_version, sys_version = "lorasweep", ""
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        if self._is_for("/"):
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)
        elif self._is_for("/asked"):
            self._send_asked()
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        if not self._is_for("/answer"):
            return self._refuse(HTTPStatus.NOT_FOUND)
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return self._refuse(HTTPStatus.LENGTH_REQUIRED)
        if len(length) > len(str(LARGEST_BYTES)) or int(length) > LARGEST_BYTES:
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            told = json.loads(self.rfile.read(int(length)))
            pair, answer = told["pair"], told["answer"]
        except (ValueError, TypeError, KeyError, RecursionError):
            pair = answer = None
        if not isinstance(pair, str) or answer not in (*ANSWERS, UNDO):
            return self._refuse(HTTPStatus.BAD_REQUEST)
        self._send_asked(late=not self.server.session.take(pair, answer))

    def _is_for(self, path: str) -> bool:
        """Tell whether this machine was asked, by somebody who knows the token, for one of our paths."""
        named = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        known = hmac.compare_digest(self.path.encode(), f"/{self.server.token}{path}".encode())
        return named in OWN_NAMES and known

    def _send_asked(self, *, late: bool = False) -> None:
        self.server.touched = time.monotonic()
        told = self.server.session.asked() | {"late": late}
        self._send(HTTPStatus.OK, "application/json", json.dumps(told).encode())

    def _refuse(self, why: HTTPStatus) -> None:
        self._send(why, "text/plain; charset=utf-8", why.phrase.encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": self.server.policy,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        with suppress(ConnectionError):  # the page was closed, or never read an answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the token is in every address."""
