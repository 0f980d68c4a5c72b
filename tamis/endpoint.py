"""A client for OpenAI-compatible chat endpoints: vLLM, `transformers serve`, llama.cpp, commercial ones.

Streams by default, since the time to the first content is a metric; retries what may pass (429, 5xx, a broken
connection), waits as long as the server asks, and gives up with a reason. The key comes from the environment and is
never written anywhere, not into errors either.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import ipaddress
import json
import os
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from tamis.errors import EvidenceError, StageFailed, UserError

RETRIES = 4
FIRST_WAIT_S = 0.5  # doubles with every retry: 0.5, 1, 2, 4
LONGEST_WAIT_S = 30.0
MAX_ANSWER_CHARS = 200_000  # an endless stream must end somewhere


@dataclasses.dataclass(frozen=True)
class Completion:
    """What came back for one request; `error` says why nothing usable did.

    Attributes:
        text: the whole answer; None where the request failed.
        finish: `stop`, `length`, or whatever the server said; `error` where it failed.
        sent_s, first_s, last_s: `time.perf_counter` when the request was first sent (whoever asks waits through the
            retries too), at the first and at the last chunk with content.
        prompt_tokens, output_tokens: by the server's own count; None where it gave none.
        tries: how often it was sent.
        down: the failure is the endpoint's, not this request's: nobody there, busy beyond patience, wrong key or model.
    """

    text: str | None
    finish: str
    sent_s: float
    first_s: float | None = None
    last_s: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    tries: int = 1
    error: str | None = None
    down: bool = False


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where to ask, and how.

    Attributes:
        url: the base address, with or without `/chat/completions` at the end.
        model: the name the server knows the model by.
        key_env: environment variable that holds the key; None for servers without one.
        concurrency: requests in flight at once.
        timeout_s: silence after which a request is given up.
    """

    url: str
    model: str
    key_env: str | None = None
    concurrency: int = 4
    timeout_s: float = 120.0
    retries: int = RETRIES

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or self.url

    @property
    def local(self) -> bool:
        """Whether requests stay on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def target(self) -> str:
        """The address requests go to."""
        base = self.url.rstrip("/")
        return base if base.endswith("/chat/completions") else f"{base}/chat/completions"


def require_consent(endpoint: Endpoint, rows: int, allowed: bool) -> None:
    """Stop before data leaves the machine unless the recipe says it may.

    Raises:
        UserError: with the number of rows and the host.
    """
    if not endpoint.local and not allowed:
        raise UserError(
            f"{rows:,} rows would go to {endpoint.host}",
            where="evaluate.external",
            why="nothing leaves this machine without consent",
            hint="set evaluate.external: true in the recipe",
        )


def unanswered(endpoint: Endpoint, name: str, why: str) -> StageFailed:
    """What to raise where an endpoint answers no request."""
    return StageFailed(
        f"{name!r} does not answer",
        where=endpoint.target,
        why=why,
        hint="mend the cause and run the same command; what was answered is kept",
    )


def models_of(endpoint: Endpoint, *, timeout_s: float = 10.0) -> list[str] | None:
    """Names of the models that a server says it serves; None where it has no such page.

    Raises:
        EvidenceError: nobody answers, or the key is refused.
        UserError: no address, or the key's environment variable is not set.
    """
    url = endpoint.target.removesuffix("/chat/completions") + "/models"
    try:
        answer = httpx.get(url, headers=_headers(endpoint), timeout=timeout_s, trust_env=not endpoint.local)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise UserError("this is no address", where=endpoint.url, why=str(error), hint="http://HOST:PORT/v1") from None
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        raise EvidenceError("the endpoint does not answer", where=url, why=why, hint="start the server") from None
    if answer.status_code in (401, 403):
        raise EvidenceError("the endpoint refuses the key", where=url, why=f"HTTP {answer.status_code}")
    try:
        return [str(entry["id"]) for entry in answer.json()["data"]] if answer.status_code == 200 else None
    except (ValueError, KeyError, TypeError):
        return None


class Session:
    """Open connections to an endpoint, kept between calls: a timed request shall not pay for a handshake.

    Use it as a context manager, outside of any event loop.

    Raises:
        UserError: the key's environment variable is not set.
    """

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint
        self._headers = _headers(endpoint)
        self._loop = asyncio.Runner()
        self._http: httpx.AsyncClient | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. More than once is fine."""
        if self._http is not None:
            self._loop.run(self._http.aclose())
            self._http = None
        self._loop.close()

    def complete(
        self, conversations: Sequence[list[dict[str, str]]], *, max_tokens: int, seed: int | None = None
    ) -> list[Completion]:
        """Ask for an answer to each conversation, `concurrency` at a time; answers in the order of the conversations.

        Decoding is greedy (temperature 0). A request that fails for good is a `Completion` with an error.
        """
        return self._loop.run(self._all([_body(self.endpoint, m, max_tokens, seed) for m in conversations]))

    async def _all(self, bodies: Sequence[dict[str, Any]]) -> list[Completion]:
        http = self._http = self._http or _client(self.endpoint, self._headers)
        limit = asyncio.Semaphore(self.endpoint.concurrency)

        async def one(body: dict[str, Any]) -> Completion:
            async with limit:
                return await _with_retries(http, self.endpoint, body)

        return list(await asyncio.gather(*(one(body) for body in bodies)))


def key_of(endpoint: Endpoint) -> str | None:
    """The key from the environment; None for an endpoint without one.

    Raises:
        UserError: its variable is not set.
    """
    if endpoint.key_env is None:
        return None
    key = os.environ.get(endpoint.key_env, "").strip()
    if not key:
        raise UserError(
            f"the environment variable {endpoint.key_env} is not set",
            where=endpoint.host,
            why="it holds the key of the endpoint",
            hint=f"export {endpoint.key_env}=...",
        )
    return key


def _headers(endpoint: Endpoint) -> dict[str, str]:
    key = key_of(endpoint)
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _client(endpoint: Endpoint, headers: dict[str, str]) -> httpx.AsyncClient:
    # trust_env would send loopback requests through a proxy, and timings would be the proxy's
    timeout = httpx.Timeout(endpoint.timeout_s, connect=10.0)
    limits = httpx.Limits(max_connections=endpoint.concurrency)
    return httpx.AsyncClient(headers=headers, timeout=timeout, limits=limits, trust_env=not endpoint.local)


def _body(endpoint: Endpoint, messages: list[dict[str, str]], max_tokens: int, seed: int | None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return body if seed is None else {**body, "seed": seed}


class _Refused(Exception):
    """A try that failed. `again` says whether another may succeed, `down` whether any request would have failed."""

    def __init__(self, why: str, *, again: bool, down: bool | None = None, wait_s: float | None = None):
        super().__init__(why)
        self.why, self.again, self.down, self.wait_s = why, again, again if down is None else down, wait_s


async def _with_retries(client: httpx.AsyncClient, endpoint: Endpoint, body: dict[str, Any]) -> Completion:
    started = time.perf_counter()
    sent: list[float] = []

    async def trace(event: str, info: dict[str, Any]) -> None:
        # what the client does to build a request, and its connection, is not the endpoint's time
        if event.endswith("send_request_body.started"):
            sent.append(time.perf_counter())
        elif event.endswith(("connect_tcp.complete", "start_tls.complete")):
            _note_arrivals(info["return_value"])

    for attempt in range(1, endpoint.retries + 2):
        try:
            done = await _stream(client, endpoint, body, trace)
            return dataclasses.replace(done, sent_s=sent[0] if sent else started, tries=attempt)
        except _Refused as refused:
            last = refused
        except httpx.TimeoutException:
            last = _Refused(f"no answer within {endpoint.timeout_s:g} s", again=True)
        except httpx.HTTPError as error:
            last = _Refused(f"{type(error).__name__}: {error or 'the connection broke'}", again=True)
        if not last.again or attempt > endpoint.retries:
            break
        await asyncio.sleep(_wait(attempt, last.wait_s))
    return Completion(None, "error", started, tries=attempt, error=last.why, down=last.down)


# When the task at hand last got bytes from its connection. Parsing them takes the client up to a millisecond.
_arrived: contextvars.ContextVar[float] = contextvars.ContextVar("arrived", default=0.0)


def _note_arrivals(stream: Any) -> None:
    """Let a connection (httpcore's `AsyncNetworkStream`, from its trace) write down when it gets something."""
    read = stream.read

    async def noted(max_bytes: int, timeout: float | None = None) -> bytes:
        data: bytes = await read(max_bytes, timeout)
        _arrived.set(time.perf_counter())
        return data

    stream.read = noted


def _wait(attempt: int, asked: float | None) -> float:
    """What the server asked for, else a doubling wait; a little chance keeps retries of many requests apart."""
    wait = asked if asked is not None else FIRST_WAIT_S * 2 ** (attempt - 1)
    return min(wait, LONGEST_WAIT_S) * (1 + random.Random(time.perf_counter_ns()).random() / 4)


async def _stream(client: httpx.AsyncClient, endpoint: Endpoint, body: dict[str, Any], trace: Any) -> Completion:
    sent = time.perf_counter()
    _arrived.set(0.0)
    async with client.stream("POST", endpoint.target, json=body, extensions={"trace": trace}) as response:
        if response.status_code != 200:
            raise _refusal(response, (await response.aread())[:500], endpoint)
        if "text/event-stream" not in (kind := response.headers.get("content-type", "")):
            return _plain(await response.aread(), kind, sent)
        return await _read(_events(response), sent)


def _refusal(response: httpx.Response, text: bytes, endpoint: Endpoint) -> _Refused:
    status = response.status_code
    said = _message(text)
    again = status in (408, 409, 425, 429) or status >= 500
    wait: float | None = None
    with contextlib.suppress(KeyError, ValueError):
        wait = float(response.headers["retry-after"])
    hints = {
        401: "wrong key" + (f" in {endpoint.key_env}" if endpoint.key_env else ": set key_env"),
        403: "the key may not do this",
        404: f"no model {endpoint.model!r}, or a wrong address",
    }
    why = f"HTTP {status}" + (f" ({hints[status]})" if status in hints else "") + (f": {said}" if said else "")
    return _Refused(why, again=again, down=again or status in hints, wait_s=wait)


def _message(text: bytes) -> str:
    """The server's own words, one short line."""
    try:
        value = json.loads(text)
        error = value.get("error", value) if isinstance(value, dict) else value
        said = error.get("message", error) if isinstance(error, dict) else error
    except ValueError:
        said = text.decode("utf-8", "replace")
    return " ".join(str(said).split())[:200]


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each server-sent event, up to `[DONE]`."""
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue  # comments and blank lines keep the connection open
        data = line[5:].strip()
        if data == "[DONE]":
            yield {"done": True}
            return
        try:
            event = json.loads(data)
        except ValueError:
            raise _Refused("the stream holds something that is not JSON", again=False) from None
        if not isinstance(event, dict):
            raise _Refused("the stream holds something that is not an object", again=False)
        if event.get("error"):
            raise _Refused(f"the server broke off: {_message(json.dumps(event).encode())}", again=True)
        yield event


async def _read(events: AsyncIterator[dict[str, Any]], sent: float) -> Completion:
    parts: list[str] = []
    first = last = None
    finish: str | None = None
    done, size = False, 0
    usage: dict[str, Any] = {}
    async for event in events:
        done = done or bool(event.get("done"))
        usage = event.get("usage") or usage
        for choice in event.get("choices") or []:
            text = (choice.get("delta") or {}).get("content")
            finish = choice.get("finish_reason") or finish
            if text:
                last = _arrived.get() or time.perf_counter()
                first = first if first is not None else last
                parts.append(text)
                size += len(text)
        if size > MAX_ANSWER_CHARS:
            finish, done = "length", True
            break
    if finish is None and not done:
        raise _Refused("the stream was cut before its end", again=True)
    now = time.perf_counter()
    return Completion(
        "".join(parts)[:MAX_ANSWER_CHARS],
        finish or "stop",
        sent,
        first if first is not None else now,  # an empty answer is complete when its end is known
        last if last is not None else now,
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
    )


def _plain(data: bytes, kind: str, sent: float) -> Completion:
    """An answer in one piece, from a server that does not stream."""
    now = time.perf_counter()
    try:
        value = json.loads(data)
        choice = value["choices"][0]
        text = choice["message"]["content"] or ""
    except (ValueError, KeyError, IndexError, TypeError):
        raise _Refused(f"the answer is not a chat completion but {kind or 'untyped'}", again=False, down=True) from None
    usage = value.get("usage") or {}
    finish = choice.get("finish_reason") or "stop"
    return Completion(text, finish, sent, now, now, usage.get("prompt_tokens"), usage.get("completion_tokens"))
