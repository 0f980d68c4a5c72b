"""A chat endpoint on loopback with delays and faults to order, in a process of its own: `serving(ttft_ms=40, ...)`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator

COARSE_S = 0.002  # asyncio wakes up to a millisecond late; what is left is waited for in small steps


@dataclasses.dataclass
class Orders:
    """What the server shall do.

    Attributes:
        ttft_ms, itl_ms: until the first token, and between tokens.
        tokens: per answer.
        stall_at, stall_s: from the request of this number on, nothing is begun for so long.
        fail_every, busy_every, drop_every: every so manieth request gets a 400, a 429 (then `retry-after: 0`), or its
            connection cut in the middle of the answer. 0: none.
        key: what the Authorization header must hold.
        model: what the body must name.
        path: where the endpoint is.
    """

    ttft_ms: float = 20
    itl_ms: float = 4
    tokens: int = 6
    stall_at: int = 0
    stall_s: float = 0
    fail_every: int = 0
    busy_every: int = 0
    drop_every: int = 0
    key: str | None = None
    model: str = "m"
    path: str = "/v1/chat/completions"


class Server:
    def __init__(self, orders: Orders):
        self.orders, self.seen, self.stalled_until = orders, 0, 0.0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self.request(reader, writer):
                pass
        writer.close()

    async def request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head.split("\r\n")[1:])}
        body = json.loads(await reader.readexactly(int(fields["content-length"])))
        arrived = time.perf_counter()
        self.seen += 1
        orders, number = self.orders, self.seen
        if head.split()[1] != orders.path or body["model"] != orders.model:
            return self.refuse(writer, 404)
        if orders.key is not None and fields.get("authorization") != f"Bearer {orders.key}":
            return self.refuse(writer, 401)
        if orders.fail_every and number % orders.fail_every == 0:
            return self.refuse(writer, 400)
        if orders.busy_every and number % orders.busy_every == 0:
            return self.refuse(writer, 429)
        if number == orders.stall_at:
            self.stalled_until = arrived + orders.stall_s
        wait = orders.ttft_ms / 1e3 + max(0.0, self.stalled_until - arrived)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        cut = orders.drop_every and number % orders.drop_every == 0
        for place in range(orders.tokens):
            # from the arrival, so that the server's own delays do not add up
            due = arrived + wait + place * orders.itl_ms / 1e3
            await asyncio.sleep(max(0.0, due - time.perf_counter() - COARSE_S))
            while time.perf_counter() < due:
                await asyncio.sleep(0)
            if cut and place == orders.tokens // 2:
                writer.transport.abort()
                return False
            self.event(writer, {"choices": [{"delta": {"content": "a " if place else "so "}}]})
        usage = {"prompt_tokens": 5, "completion_tokens": orders.tokens}
        self.event(writer, {"choices": [{"delta": {}, "finish_reason": "stop"}]})
        self.event(writer, {"choices": [], "usage": usage})
        data = b"data: [DONE]\n\n"
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n")
        return True

    def refuse(self, writer: asyncio.StreamWriter, status: int) -> bool:
        text = json.dumps({"error": {"message": f"status {status} to order"}}).encode()
        head = f"HTTP/1.1 {status} No\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n"
        writer.write(head.encode() + b"retry-after: 0\r\n\r\n" + text)
        return True

    def event(self, writer: asyncio.StreamWriter, value: dict) -> None:
        data = f"data: {json.dumps(value)}\n\n".encode()
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def serve(orders: Orders) -> None:
    server = await asyncio.start_server(Server(orders).connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextlib.contextmanager
def serving(**orders: object) -> Iterator[str]:
    """The server's address, up to `/v1`."""
    command = [sys.executable, __file__, json.dumps(dataclasses.asdict(Orders(**orders)))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline().strip()
            yield f"http://127.0.0.1:{port}{Orders(**orders).path.removesuffix('/chat/completions')}"
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(serve(Orders(**json.loads(sys.argv[1]))))
