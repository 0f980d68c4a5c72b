"""A chat server on loopback that finds an intent by its keyword, with a page of models and one of vLLM's figures."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator

INTENTS = {"cancel": "cancel order", "parcel": "track order", "refund": "refund"}
EDGES = ("0.05", "0.1", "0.5", "1.0", "+Inf")


class Live(http.server.ThreadingHTTPServer):
    """What it does can be changed while it serves.

    Attributes:
        model: the name it serves under, and the only one it answers to.
        delay_s: before every answer.
        right: share of the intents that it finds: 1, or 0 for another model in its place.
        cut: end every answer as if at the token limit.
        renamed_after: answers until it is served under another name.
        shown: names on the page of models, one for each time that it is asked for; then `model`.
        figures: requests so far by the bucket of EDGES they fall into, those that failed, and `lengths` of them cut.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Desk)
        self.model, self.delay_s, self.right, self.cut = "shop", 0.015, True, False
        self.renamed_after: int | None = None
        self.shown: list[str] = []
        self.figures, self.failed, self.lengths = [100, 0, 0, 0, 0], 0, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/metrics"

    def metrics(self) -> str:
        """The page, as vLLM writes it."""
        names = f'engine="0",model_name="{self.model}"'
        lines = [
            "# HELP vllm:num_requests_waiting Number of requests waiting.",
            "# TYPE vllm:num_requests_waiting gauge",
        ]
        lines += [f"vllm:num_requests_waiting{{{names}}} 3.0", f"vllm:num_requests_running{{{names}}} 2.0"]
        for place, edge in enumerate(EDGES):
            below = sum(self.figures[: place + 1])
            lines.append(f'vllm:e2e_request_latency_seconds_bucket{{{names},le="{edge}"}} {float(below)}')
        lines.append(
            f'vllm:request_success_total{{{names},finished_reason="stop"}} {float(sum(self.figures) - self.lengths)}'
        )
        lines.append(f'vllm:request_success_total{{{names},finished_reason="length"}} {float(self.lengths)}')
        lines.append(f'vllm:request_success_total{{{names},finished_reason="abort"}} {float(self.failed)}')
        return "\n".join(lines) + "\n"


class Desk(http.server.BaseHTTPRequestHandler):
    server: Live

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            name = self.server.shown.pop(0) if self.server.shown else self.server.model
            self.reply(json.dumps({"object": "list", "data": [{"id": name, "object": "model"}]}))
        elif self.path == "/metrics":
            self.reply(self.server.metrics(), "text/plain; version=0.0.4")
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.renamed_after is not None:
            self.server.renamed_after -= 1
            if self.server.renamed_after < 0:
                self.server.model = "another"
        if body["model"] != self.server.model:
            self.send_error(404)
            return
        time.sleep(self.server.delay_s)
        asked = body["messages"][-1]["content"]
        said = next((i for word, i in INTENTS.items() if word in asked), "none")
        if not self.server.right:
            said = "refund" if said != "refund" else "track order"
        message = {"message": {"content": said}, "finish_reason": "length" if self.server.cut else "stop"}
        self.reply(json.dumps({"choices": [message], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}))

    def reply(self, text: str, kind: str = "application/json") -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def live() -> Iterator[Live]:
    """A server that is up."""
    with Live() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
