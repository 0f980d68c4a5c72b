"""What a server does by the wire: its times as a blocking socket sees them, without any client of a model."""

from __future__ import annotations

import json
import socket
import time
from urllib.parse import urlsplit

Times = list[tuple[float, float]]  # of requests: milliseconds to the first token, and between tokens


class Bare:
    """A connection to an endpoint (its address up to `/v1`) that asks one thing for some tokens."""

    def __init__(self, url: str, messages: list[dict[str, str]], tokens: int):
        parts = urlsplit(url)
        body = {"model": "m", "messages": messages, "max_tokens": tokens, "temperature": 0, "stream": True}
        data = json.dumps(body | {"stream_options": {"include_usage": True}}).encode()
        head = f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        self.request, self.tokens = head.encode() + data, tokens
        self.link = socket.create_connection((parts.hostname, parts.port))
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, count: int) -> Times:
        """Ask so many times, one after the other."""
        found = []
        for _ in range(count):
            sent, times, got = time.perf_counter(), [], b""
            self.link.sendall(self.request)
            while not got.endswith(b"0\r\n\r\n"):
                new = self.link.recv(65_536)
                times += [time.perf_counter()] * (b'"content"' in new)
                got += new
            found.append((1e3 * (times[0] - sent), 1e3 * (times[-1] - times[0]) / (self.tokens - 1)))
        return found
