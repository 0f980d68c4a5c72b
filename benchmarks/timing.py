"""What a client adds to the times of a server: one request after the other, to servers with delays to order.

    python benchmarks/timing.py        # a quiet machine; needs guidellm

A bare socket says what the server does; `tamis.endpoint` is what evaluation measures latencies with. The two take
turns, so that both meet the same server. GuideLLM as the client is in tests/evaluate/test_load.py (`-m slow -k
two_milliseconds -s` prints its medians).
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tamis.endpoint import Endpoint, Session

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.evaluate.bare_socket import Bare, Times  # noqa: E402
from tests.evaluate.loaded_server import serving  # noqa: E402

ASKED = [{"role": "user", "content": "where is my order?"}]
TTFT_MS, ITL_MS, TOKENS = 60, 10, 12
REQUESTS, TURN, WARMUP = 200, 20, 5  # of each client, at a time, and before
PORT = 18_441


def ours(session: Session, count: int) -> Times:
    """The same by Tamis's client."""
    done = session.complete([ASKED] * count, max_tokens=TOKENS)
    assert all(d.first_s is not None and d.last_s is not None for d in done)
    return [
        (1e3 * ((d.first_s or 0) - d.sent_s), 1e3 * ((d.last_s or 0) - (d.first_s or 0)) / (TOKENS - 1)) for d in done
    ]


def medians(times: Times) -> tuple[float, float]:
    first, each = zip(*times, strict=True)
    return statistics.median(first), statistics.median(each)


def told(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.2f}, {pair[1]:.2f}"


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
    servers = {
        "ours (tests/evaluate/loaded_server.py)": serving(ttft_ms=TTFT_MS, itl_ms=ITL_MS, tokens=TOKENS),
        "GuideLLM's mock server": mocked(["-m", "guidellm"], PORT),
        "the same, answers written beforehand": mocked([str(ROOT / "tests/evaluate/mock_guidellm.py")], PORT + 1),
    }
    print(
        "| server | bare socket | tamis.endpoint | it adds | median absolute error against the delays |\n"
        "|---|---|---|---|---|"
    )
    for name, server in servers.items():
        seen: Times = []
        found: Times = []
        with server as url, Session(Endpoint(url, "m", concurrency=1)) as session:
            bare = Bare(url, ASKED, TOKENS)
            bare.ask(WARMUP)
            ours(session, WARMUP)
            for _ in range(REQUESTS // TURN):
                seen += bare.ask(TURN)
                found += ours(session, TURN)
        wire, client = medians(seen), medians(found)
        added = (client[0] - wire[0], client[1] - wire[1])
        error = medians([(abs(first - TTFT_MS), abs(each - ITL_MS)) for first, each in found])
        print(f"| {name} | {told(wire)} | {told(client)} | {told(added)} | {told(error)} |", flush=True)


if __name__ == "__main__":
    main()
