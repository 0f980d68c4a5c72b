"""A server on loopback that answers as a chat model does."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any


class Desk(http.server.BaseHTTPRequestHandler):
    """Answers POST requests; what it says to a body is for a subclass."""

    def do_POST(self) -> None:
        self.reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def reply(self, body: dict[str, Any]) -> None:
        raise NotImplementedError

    def say(self, content: str, **more: Any) -> None:
        """A chat completion."""
        made = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}], **more}
        data = json.dumps(made).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def opened(kind: type[Desk], **state: Any) -> Iterator[Any]:
    """The server, with some state on it and its address as `url`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        vars(server).update(state, url=f"http://127.0.0.1:{server.server_port}/v1")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
