"""An endpoint as a system: from a server on loopback to evidence."""

import http.server
import json
import threading

import pyarrow.parquet as pq
import pytest

from tamis.evaluate.compare import compare
from tamis.evaluate.stage import evaluate_arm
from tamis.recipe import Recipe, SystemSpec
from tamis.run import Run
from tamis.schema import read_json


class Desk(http.server.BaseHTTPRequestHandler):
    """Answers "return item" to everything, and fails on every eighth item for good."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked = body["messages"][-1]["content"]
        assert asked.startswith("Message: ")
        if " 7" in asked:
            self.send_response(400)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for choice in ({"delta": {"content": "return item"}}, {"delta": {}, "finish_reason": "stop"}):
            self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
        usage = {"prompt_tokens": 20, "completion_tokens": 3}
        self.wfile.write(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def address():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Desk) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def test_an_endpoint_is_asked_like_a_model_and_its_failures_are_wrong_answers(tmp_path, eval_table, address):
    recipe = Recipe.check(
        {
            "name": "x",
            "data": {"path": "x"},
            "evaluate": {
                "task": {"kind": "classify", "template": "Message: {prompt}\nIntent:"},
                "latency": {"requests": 80, "warmup": 2},
            },
        }
    )
    spec = SystemSpec(name="api", endpoint=address, model="m", input_per_million=1.0, output_per_million=4.0)
    run = Run(tmp_path / "run")

    told = evaluate_arm(run, recipe, "main", eval_table(24), None, [spec], quiet=True)

    assert told["systems"]["api"]["errors"] == 1
    samples = pq.read_table(run.evaluate("main", "api") / "samples.parquet").to_pylist()
    failed = [s for s in samples if s["error"]]
    assert [(s["correct"], s["parsed"], s["finish"], s["output"]) for s in failed] == [(False, False, "error", None)]
    made = compare(run, recipe)["systems"][0]
    assert made["metrics"]["accuracy"]["value"] == pytest.approx(6 / 24)
    assert made["metrics"]["error_rate"]["value"] == pytest.approx(1 / 24)
    assert made["metrics"]["latency.e2e.p95"]["value"] > 0
    assert made["requests"]["failed"] in (3, 4)  # 80 requests over 24 items ask the failing one 3 or 4 times
    assert "perplexity" not in made["metrics"]
    assert "cost.usd_per_1k" not in made["metrics"]  # a failed request reported no tokens, so the price is unknown
    about = read_json(run.evaluate("main", "api") / "metrics.json")
    assert about["uses_arm"] is False
