"""A proxy on loopback before a real server: passes everything on, after a delay that can be changed."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator

import httpx


class Proxy(http.server.ThreadingHTTPServer):
    """Attributes:
    upstream: address of the real server, without a path.
    delay_s: before every request for an answer.
    """

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.upstream, self.delay_s = upstream, 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Passing(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        self.pass_on(b"")

    def do_POST(self) -> None:
        time.sleep(self.server.delay_s)
        self.pass_on(self.rfile.read(int(self.headers["content-length"])))

    def pass_on(self, body: bytes) -> None:
        kept = {k: v for k, v in self.headers.items() if k.lower() in ("content-type", "accept", "authorization")}
        try:
            got = httpx.request(self.command, self.server.upstream + self.path, content=body, headers=kept, timeout=60)
        except httpx.HTTPError:
            self.send_error(502)
            return
        self.send_response(got.status_code)
        self.send_header("content-type", got.headers.get("content-type", "application/json"))
        self.send_header("content-length", str(len(got.content)))
        self.end_headers()
        self.wfile.write(got.content)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """A proxy that is up."""
    with Proxy(upstream) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
