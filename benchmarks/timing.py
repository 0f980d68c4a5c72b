"""What a client adds to the times of a server: one request after the other, to servers with delays to order.

    python benchmarks/timing.py        # a quiet machine; needs guidellm

A bare socket says what the server does; `tamis.endpoint` is what evaluation measures latencies with. GuideLLM as the
client is in tests/evaluate/test_load.py (`-m slow -k two_milliseconds -s` prints its medians).
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tamis.endpoint import Endpoint, Session

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
ASKED = [{"role": "user", "content": "where is my order?"}]
TTFT_MS, ITL_MS, TOKENS = 60, 10, 12
REQUESTS = 60
PORT = 18_441


def bare(url: str) -> tuple[float, float]:
    """Median time to the first token and between tokens, in milliseconds, by a blocking socket."""
    parts = urlsplit(url)
    body = {"model": "m", "messages": ASKED, "max_tokens": TOKENS, "temperature": 0, "stream": True}
    data = json.dumps(body | {"stream_options": {"include_usage": True}}).encode()
    head = f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    request = head.encode() + f"Content-Length: {len(data)}\r\n\r\n".encode() + data
    first, each = [], []
    with socket.create_connection((parts.hostname, parts.port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(REQUESTS + 5):
            sent, times, got = time.perf_counter(), [], b""
            link.sendall(request)
            while not got.endswith(b"0\r\n\r\n"):
                new = link.recv(65_536)
                times += [time.perf_counter()] * (b'"content"' in new)
                got += new
            first.append(1e3 * (times[0] - sent))
            each.append(1e3 * (times[-1] - times[0]) / (TOKENS - 1))
    return statistics.median(first[5:]), statistics.median(each[5:])


def ours(url: str) -> tuple[float, float]:
    """The same by Tamis's client."""
    with Session(Endpoint(url, "m", concurrency=1)) as session:
        done = session.complete([ASKED] * (REQUESTS + 5), max_tokens=TOKENS)[5:]
    first = statistics.median(1e3 * ((d.first_s or 0) - d.sent_s) for d in done)
    return first, statistics.median(1e3 * ((d.last_s or 0) - (d.first_s or 0)) / (TOKENS - 1) for d in done)


@contextlib.contextmanager
def mocked(start: list[str], port: int) -> Iterator[str]:
    """GuideLLM's mock server, started by `python START...`."""
    command = [sys.executable, *start, "mock-server", "--host", "127.0.0.1", "--port", str(port), "--model", "m"]
    command += ["--ttft-ms", str(TTFT_MS), "--itl-ms", str(ITL_MS), "--output-tokens", str(TOKENS)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).read()
                    break
                time.sleep(0.3)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def main() -> None:
    from tests.evaluate.loaded_server import serving

    servers = {
        "ours (tests/evaluate/loaded_server.py)": serving(ttft_ms=TTFT_MS, itl_ms=ITL_MS, tokens=TOKENS),
        "GuideLLM's mock server": mocked(["-m", "guidellm"], PORT),
        "the same, answers written beforehand": mocked([str(ROOT / "tests/evaluate/mock_guidellm.py")], PORT + 1),
    }
    print("| server | bare socket | tamis.endpoint |\n|---|---|---|")
    for name, server in servers.items():
        with server as url:
            found = [bare(url), ours(url)]
        print(f"| {name} | " + " | ".join(f"{first:.2f}, {each:.2f}" for first, each in found) + " |", flush=True)


if __name__ == "__main__":
    main()
