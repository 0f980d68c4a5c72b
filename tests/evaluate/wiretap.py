"""A wire between client and server that notes when what passed: the times that a client's own are held against.

`tapped(port, delay_ms=40)` gives the address to ask and a list of what was seen, one entry per request; the first piece
of each answer is held back for the delay. It runs in a process of its own; `time.perf_counter` is one clock for all
processes of a machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator

SAID = re.compile(rb'"content": ?"[^"]')  # a piece of an answer, not the empty one that names the role
COARSE_S = 0.002


class Tap:
    def __init__(self, port: int, delay_s: float):
        self.port, self.delay_s = port, delay_s

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        seen: dict[str, float] = {}
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self.up(reader, back, seen), self.down(there, writer, seen))

    async def up(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, seen: dict[str, float]) -> None:
        while data := await reader.read(65536):
            if "arrived" not in seen:
                seen["arrived"] = time.perf_counter()
            back.write(data)
        back.close()

    async def down(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: dict[str, float]) -> None:
        while data := await there.read(65536):
            if SAID.search(data):
                if "first" not in seen:
                    due = time.perf_counter() + self.delay_s
                    await asyncio.sleep(max(0.0, self.delay_s - COARSE_S))
                    while time.perf_counter() < due:
                        await asyncio.sleep(0)
                seen["last"] = time.perf_counter()
                seen.setdefault("first", seen["last"])
            writer.write(data)
            if b"[DONE]" in data or data.endswith(b"0\r\n\r\n"):
                if "first" in seen:
                    print(json.dumps(seen), flush=True)
                seen.clear()
        writer.close()


async def serve(port: int, delay_ms: float) -> None:
    server = await asyncio.start_server(Tap(port, delay_ms / 1e3).connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextlib.contextmanager
def tapped(port: int, delay_ms: float = 0.0) -> Iterator[tuple[str, list[dict[str, float]]]]:
    """The address up to `/v1`, and {arrived, first, last} of each answered request so far, in seconds."""
    seen: list[dict[str, float]] = []
    command = [sys.executable, __file__, str(port), str(delay_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
            noting = threading.Thread(target=_note, args=(process.stdout, seen), daemon=True)
            noting.start()
            yield address, seen
        finally:
            process.kill()
            noting.join(5)


def _note(lines: Iterable[str], seen: list[dict[str, float]]) -> None:
    for line in lines:
        seen += [json.loads(line)]


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
