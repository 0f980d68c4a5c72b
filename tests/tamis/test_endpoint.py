"""The client against a server on loopback that misbehaves in every way we could think of."""

import contextlib
import http.server
import json
import statistics
import threading
import time
import types

import pytest

from tamis import endpoint as wire
from tamis.endpoint import Endpoint, Session
from tamis.errors import UserError

ASKED = [{"role": "user", "content": "where is my order?"}]


def event(text=None, finish=None, usage=None):
    choices = [] if usage else [{"delta": {"content": text} if text is not None else {}, "finish_reason": finish}]
    return f"data: {json.dumps({'choices': choices, 'usage': usage})}\n\n".encode()


class Server(http.server.ThreadingHTTPServer):
    """Answers by `script`: a function of (handler, number of the request)."""

    daemon_threads = True
    script = None

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.seen.append((dict(self.headers), body, self.path))
            number = len(self.server.seen)
            self.server.in_flight += 1
            self.server.most_in_flight = max(self.server.most_in_flight, self.server.in_flight)
        self.counted = True
        try:
            self.server.script(self, number)
        finally:
            self.leave()

    def leave(self):
        """No longer in flight. A script that counts says so before its last byte: the client may ask again at once."""
        with self.server.lock:
            self.server.in_flight -= self.counted
            self.counted = False

    def status(self, code, text="", **headers):
        self.send_response(code)
        for name, value in {"content_type": "application/json", "content_length": len(text), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(text.encode())

    def stream(self, *parts, end=True):
        """Bytes are sent, numbers are waited for (seconds)."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for part in parts:
            if isinstance(part, bytes):
                self.wfile.write(part)
                self.wfile.flush()
            else:
                time.sleep(part)
        if end:
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(wire, "FIRST_WAIT_S", 0.01)


def ask(server, count=1, **settings):
    address = f"http://127.0.0.1:{server.server_port}/v1"
    with Session(Endpoint(address, "small", **{"timeout_s": 5, **settings})) as session:
        return session.complete([ASKED] * count, max_tokens=8, seed=3)


USAGE = event(usage={"prompt_tokens": 11, "completion_tokens": 2})


def test_a_stream_is_put_together_and_counted(server):
    server.script = lambda h, n: h.stream(event("track"), event(" order"), event(finish="stop"), USAGE)

    (done,) = ask(server)

    assert (done.text, done.finish, done.error) == ("track order", "stop", None)
    assert (done.prompt_tokens, done.output_tokens, done.tries) == (11, 2, 1)
    headers, body, path = server.seen[0]
    assert path == "/v1/chat/completions"
    assert (body["temperature"], body["max_tokens"], body["seed"], body["model"]) == (0, 8, 3, "small")
    assert body["messages"] == ASKED
    assert "Authorization" not in headers


def test_times_are_those_of_content_not_of_the_first_event(server):
    role = event("")  # servers open with an empty delta that carries the role
    server.script = lambda h, n: h.stream(role, 0.05, event("a"), 0.1, event("b"), event(finish="stop"), 0.05)
    done = ask(server, 12, concurrency=1)

    first = statistics.median(d.first_s - d.sent_s for d in done)
    between = statistics.median(d.last_s - d.first_s for d in done)
    assert 0.05 <= first < 0.08
    assert between == pytest.approx(0.1, abs=0.02)


def test_the_time_that_parsing_takes_is_not_the_servers(server, monkeypatch):
    def slow(data):
        time.sleep(0.06)
        return json.loads(data)

    monkeypatch.setattr(wire, "json", types.SimpleNamespace(loads=slow, dumps=json.dumps))
    server.script = lambda h, n: h.stream(0.05, event("a"), 0.3, event("b"), event(finish="stop"))

    done = ask(server, 3, concurrency=1)

    assert statistics.median(d.first_s - d.sent_s for d in done) == pytest.approx(0.05, abs=0.02)
    assert statistics.median(d.last_s - d.first_s for d in done) == pytest.approx(0.3, abs=0.02)


def test_a_server_that_does_not_stream_is_understood(server):
    answer = json.dumps({"choices": [{"message": {"content": "refund"}, "finish_reason": "stop"}], "usage": None})
    server.script = lambda h, n: h.status(200, answer)

    (done,) = ask(server)

    assert (done.text, done.output_tokens) == ("refund", None)


def test_busy_and_broken_servers_are_asked_again_and_the_tries_counted(server):
    def script(handler, number):
        if number == 1:
            handler.status(429, "slow down", retry_after=0)
        elif number == 2:
            handler.status(503, "")
        elif number == 3:
            handler.close_connection = True
            handler.connection.close()
        else:
            handler.stream(event("fine"), event(finish="stop"))

    server.script = script

    (done,) = ask(server)

    assert (done.text, done.tries) == ("fine", 4)


def test_waiting_for_retries_counts_into_the_time(server):
    server.script = lambda h, n: (
        h.status(429, "", retry_after=0.2) if n == 1 else h.stream(event("x"), event(finish="stop"))
    )

    (done,) = ask(server)

    assert done.last_s - done.sent_s >= 0.2


def test_a_stream_cut_in_the_middle_is_no_answer(server):
    server.script = lambda h, n: h.stream(event("trac"), end=False)

    (done,) = ask(server, retries=1)

    assert (done.text, done.finish, done.tries) == (None, "error", 2)
    assert "cut before its end" in done.error


@pytest.mark.parametrize(
    ("code", "says"),
    [(401, "wrong key in TAMIS_TEST_KEY"), (404, "no model 'small'"), (400, "HTTP 400: context too long")],
)
def test_a_refusal_is_not_repeated_and_says_what_to_mend(server, monkeypatch, code, says):
    monkeypatch.setenv("TAMIS_TEST_KEY", "sk-very-secret")
    text = json.dumps({"error": {"message": "context too long"}}) if code == 400 else ""
    server.script = lambda h, n: h.status(code, text)

    (done,) = ask(server, key_env="TAMIS_TEST_KEY")

    assert done.tries == len(server.seen) == 1
    assert says in done.error
    assert "very-secret" not in repr(done)
    assert server.seen[0][0]["Authorization"] == "Bearer sk-very-secret"


def test_html_instead_of_json_is_an_error(server):
    server.script = lambda h, n: h.status(200, "<html>login</html>", content_type="text/html")

    (done,) = ask(server)

    assert "not a chat completion but text/html" in done.error


def test_an_error_inside_the_stream_is_an_error(server):
    server.script = lambda h, n: h.stream(event("a"), b'data: {"error": {"message": "out of memory"}}\n\n')

    (done,) = ask(server, retries=0)

    assert "out of memory" in done.error


def test_silence_is_given_up(server):
    server.script = lambda h, n: h.stream(event("a"), 1.0)

    (done,) = ask(server, timeout_s=0.2, retries=0)

    assert "no answer within 0.2 s" in done.error


def test_an_endless_answer_is_cut(server, monkeypatch):
    monkeypatch.setattr(wire, "MAX_ANSWER_CHARS", 1000)

    def script(handler, number):
        with contextlib.suppress(OSError):
            handler.stream(*[event("x" * 100)] * 200)

    server.script = script

    (done,) = ask(server)

    assert (len(done.text), done.finish) == (1000, "length")


def test_answers_come_in_the_order_of_the_questions_and_no_more_at_once_than_allowed(server):
    def script(handler, number):
        asked = server.seen[number - 1][1]["messages"][0]["content"]
        time.sleep(0.02 * (number % 3))
        handler.leave()
        handler.stream(event(asked), event(finish="stop"))

    server.script = script
    address = f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
    questions = [[{"role": "user", "content": f"q{i}"}] for i in range(20)]
    with Session(Endpoint(address, "small", concurrency=3)) as session:
        done = session.complete(questions, max_tokens=4)

    assert [d.text for d in done if d.error is None] == [f"q{i}" for i in range(20)]
    assert 1 < server.most_in_flight <= 3


def test_an_unset_key_is_named_before_anything_is_sent(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)

    with pytest.raises(UserError, match="NO_SUCH_KEY is not set"):
        Session(Endpoint("http://127.0.0.1:9", "m", key_env="NO_SUCH_KEY"))


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("https://api.openai.com/v1", False),
        ("http://10.0.0.5:8000/v1", False),
        ("http://127.0.0.1.evil.example/v1", False),
    ],
)
def test_only_loopback_needs_no_consent(url, local):
    target = Endpoint(url, "m")

    assert target.local is local
    wire.require_consent(target, 10, True)
    if not local:
        with pytest.raises(UserError, match="10 rows would go to"):
            wire.require_consent(target, 10, False)
