"""`tamis monitor` against a live server: the released model passes, whatever else is said to be what it is."""

import json
import random
import re
import shlex
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tamis.evaluate import serving
from tests.tamis.calling import tamis
from tests.tamis.live_server import INTENTS, live

WORDS = """
please the order that came on Monday with blue garden chairs was late and my sister in Leeds wanted them for
her birthday so can you look at what happened because nobody from your shop wrote or called me about this
wooden table lamp kettle kitchen window before summer holidays when we leave again next week thank you very
much for help today since morning I have waited near door while neighbours asked if delivery van would ever
find our small street
""".split()  # noqa: SIM905 (prose is easier to read)
VIETNAMESE = [f"Tôi muốn hỏi về đơn hàng số {n} của tôi, bao giờ thì giao đến nhà" for n in range(60)]


def prompts(n, seed):
    rng = random.Random(seed)
    return [" ".join([*rng.choices(WORDS, k=9), rng.choice([*INTENTS]), *rng.choices(WORDS, k=3)]) for _ in range(n)]


def lines(file, rows):
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def intent(prompt):
    return next(i for word, i in INTENTS.items() if word in prompt)


@pytest.fixture(scope="module")
def server():
    with live() as made:
        yield made


@pytest.fixture(scope="module")
def released(tmp_path_factory, server):
    """A run whose system is the server's model, evaluated and passed by the command line."""
    folder = tmp_path_factory.mktemp("released")
    for name, n, seed in (("rows", 150, 1), ("items", 100, 2)):
        lines(folder / f"{name}.jsonl", [{"text": p, "intent": intent(p)} for p in prompts(n, seed)])
    gates = [
        {"id": "floor", "metric": "accuracy", "require": "lower >= 0.9"},
        {"id": "speed", "metric": "latency.e2e.p50", "require": "upper <= 2 s"},
        {"id": "fluent", "metric": "perplexity", "require": "upper <= 9"},
    ]
    evidence = {"candidate": "api", "baseline": "api"}
    (folder / "policy.yaml").write_text(yaml.safe_dump({"version": 1, "evidence": evidence, "gates": gates[:2]}))
    (folder / "strict.yaml").write_text(yaml.safe_dump({"version": 1, "evidence": evidence, "gates": gates}))
    recipe = {
        "name": "shop",
        "data": {"path": "rows.jsonl"},
        "eval": {"path": "items.jsonl"},
        "embedder": "lsa",
        "curate": {"deduplicate": {"near": None, "semantic": None}},
        "gate": "policy.yaml",
        "evaluate": {
            "task": {"kind": "classify"},
            "systems": [{"name": "api", "endpoint": server.url, "model": "shop"}],
            "latency": {"requests": 12, "warmup": 1},
        },
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = tamis("evaluate", str(folder / "recipe.yaml"), "--run", str(folder / "run"), "--quiet")
    assert done.code == 0, done.err
    assert tamis("gate", str(folder / "run")).code == 0
    return folder


@pytest.fixture
def run(released, server, tmp_path):
    """A copy of the run for each test, and the server as it was at release."""
    server.model, server.delay_s, server.right, server.cut = "shop", 0.015, True, False
    server.figures, server.failed, server.lengths, server.renamed_after = [100, 0, 0, 0, 0], 0, 0, None
    shutil.copytree(released / "run", tmp_path / "run")
    return tmp_path / "run"


def check(run, server, *more):
    done = tamis("monitor", str(run), "--endpoint", server.url, "--slower", "3", "--quiet", "--json", *more)
    assert done.out.count("\n") == 1, (done.out, done.err)
    found = json.loads(done.out)
    assert found["exit_code"] == done.code
    return found, {row["id"]: row for row in found["rows"]}


def test_the_released_model_passes_and_every_check_is_kept(run, server, tmp_path):
    log = lines(tmp_path / "log.jsonl", [{"prompt": p, "finish_reason": "stop"} for p in prompts(80, 3)])
    found, rows = check(run, server, "--log", log, "--metrics", server.page)
    assert (found["verdict"], found["model"], found["agreement"]) == ("PASS", "shop", 1.0)
    assert {"floor", "same-quality", "same-form", "same-length", "errors", "prompts", "languages", "cut"} <= rows.keys()
    assert "same-speed" in str(found["notes"])
    again, rows = check(run, server)
    assert again["verdict"] == "PASS"
    assert rows["same-speed"]["require"] == "ratio.upper <= 3"  # now there is a reference
    assert again["trend"]["verdicts"] == ["PASS", "PASS"]
    assert again["trend"]["accuracy"] == {"values": [1.0, 1.0], "direction": None, "p": None}
    assert len(again["trend"]["drift"]["values"]) == 1
    assert again["measured"]["accuracy"] == again["release"]["measured"]["accuracy"] == 1.0
    kept = [json.loads(line) for line in (run / "monitor" / "checks.jsonl").read_text().splitlines()]
    assert [k["check"] for k in kept] == [found["check"], again["check"]]
    assert tamis("gate", str(run), "--replay").code == 0  # the release's own evidence is untouched


def test_another_model_in_its_place_fails_and_the_way_back_is_named(run, server):
    server.right = False
    found, rows = check(run, server)
    assert found["verdict"] == "FAIL"
    assert (rows["same-quality"]["verdict"], rows["floor"]["verdict"]) == ("FAIL", "FAIL")
    assert rows["same-form"]["verdict"] == "PASS"
    assert found["agreement"] == 0
    assert found["next"][0].startswith(f"roll back: serve {run}/arms/main/train/adapter again")


def test_answers_that_are_cut_are_seen(run, server):
    server.cut = True
    found, rows = check(run, server)
    assert (found["verdict"], rows["same-length"]["verdict"]) == ("FAIL", "FAIL")
    assert rows["same-quality"]["verdict"] == "PASS"


def test_a_slowed_server_is_caught_by_the_clock_of_the_first_check(run, server):
    assert check(run, server)[0]["verdict"] == "PASS"
    server.delay_s = 0.08
    found, rows = check(run, server)
    assert [i for i, r in rows.items() if r["verdict"] != "PASS"] == ["same-speed"]
    assert found["verdict"] == "FAIL"
    assert "the model is not at fault" in found["next"][0]


def test_the_servers_own_page_tells_slow_and_failing(run, server):
    assert check(run, server, "--metrics", server.page)[0]["server"]["p50_s"] == [0.0, 0.05]
    server.figures = [100, 0, 0, 50, 0]  # since the first check: all between 0.5 and 1 s
    found, rows = check(run, server, "--metrics", server.page)
    assert found["server"]["served"] == 50
    assert found["server"]["p95_s"] == [0.5, 1.0]
    assert (rows["server pace"]["verdict"], rows["server errors"]["verdict"]) == ("FAIL", "PASS")
    assert rows["server cut"]["verdict"] == "PASS"
    server.figures, server.lengths = [100, 0, 0, 80, 0], 30
    found, rows = check(run, server, "--metrics", server.page)
    assert (rows["server cut"]["verdict"], "raise max_tokens" in str(found["next"])) == ("FAIL", True)
    server.failed = 40
    _, rows = check(run, server, "--metrics", server.page)
    assert rows["server errors"]["verdict"] == "FAIL"
    server.figures, server.failed, server.lengths = (
        [90, 0, 0, 0, 0],
        0,
        0,
    )  # it was started anew: all that it says counts
    found, _ = check(run, server, "--metrics", server.page)
    assert (found["server"]["served"], found["server"]["p50_s"]) == (90, [0.0, 0.05])
    assert "3 requests wait" not in str(found["next"])


def test_a_dead_endpoint_is_invalid_and_no_pass(run, server):
    with live() as gone:
        pass
    found, rows = check(run, gone)
    assert (found["verdict"], found["exit_code"]) == ("INVALID", 4)
    assert "does not answer" in rows["canary"]["said"]
    found, _ = check(run, server, "--metrics", gone.page)
    assert found["verdict"] == "INVALID"


def test_a_model_name_that_changes_is_said_and_one_that_is_gone_is_invalid(run, server):
    assert check(run, server)[0]["model"] == "shop"
    server.model = "shop-2"
    found, _ = check(run, server)
    assert (found["verdict"], found["model"]) == ("PASS", "shop-2")
    assert any("at the last check it was shop" in note for note in found["notes"])
    found, rows = check(run, server, "--model", "shop")
    assert found["verdict"] == "INVALID"
    assert "it serves shop-2" in rows["canary"]["said"]


def test_a_model_that_is_exchanged_during_the_check_is_invalid(run, server):
    server.renamed_after = 50
    found, rows = check(run, server, "--model", "shop")
    assert (found["verdict"], "stopped answering" in rows["canary"]["said"]) == ("INVALID", True)
    server.model, server.renamed_after, server.shown = "shop", None, ["shop", "another"]
    found, rows = check(run, server)
    assert (found["verdict"], "stopped serving shop" in rows["canary"]["said"]) == ("INVALID", True)


def test_answers_to_another_evaluation_set_are_invalid(run, server):
    file = run / "curate" / "eval.parquet"
    pq.write_table(pq.read_table(file).slice(0, 99), file)
    found, rows = check(run, server)
    assert (found["verdict"], rows["canary"]["verdict"]) == ("INVALID", "INVALID")
    assert "did not answer the same items" in rows["canary"]["said"]


def test_a_log_that_changed_is_flagged_and_its_prompts_are_written(run, server, tmp_path):
    log = lines(tmp_path / "log.jsonl", [{"messages": [{"role": "user", "content": p}]} for p in VIETNAMESE])
    found, rows = check(run, server, "--log", log)
    assert found["verdict"] == "FAIL"
    assert {i for i, r in rows.items() if r["verdict"] != "PASS"} == {"prompts", "clusters", "languages"}
    assert found["drift"]["languages"]["recent"] == {"vi": 1.0}
    written = [json.loads(line) for line in Path(found["drift"]["prompts"]).read_text(encoding="utf-8").splitlines()]
    assert {row["prompt"] for row in written} <= set(VIETNAMESE)
    filled = lines(
        Path(found["drift"]["prompts"]), [row | {"completion": "refund", "label": "refund"} for row in written]
    )
    assert tamis("grow", str(run), filled, "--quiet").code == 0  # what the last line says to type
    assert found["next"] == [
        f"retrain: answer the prompts in {found['drift']['prompts']}, then tamis grow {run} {found['drift']['prompts']}"
    ]


def test_logs_that_say_nothing_are_not_passed(run, server, tmp_path):
    found, rows = check(run, server, "--log", lines(tmp_path / "empty.jsonl", []))
    assert (found["verdict"], rows["log"]["verdict"]) == ("INVALID", "INVALID")
    assert rows["same-quality"]["verdict"] == "PASS"  # the rest of the check was done
    few = lines(tmp_path / "few.jsonl", [{"prompt": p} for p in prompts(5, 3)])
    assert check(run, server, "--log", few)[0]["verdict"] == "INCONCLUSIVE"
    lines(tmp_path / "other.jsonl", [{"latency": 3}])
    for file, said in (("absent.jsonl", "cannot be read"), ("other.jsonl", "no line of the log holds a prompt")):
        done = tamis("monitor", str(run), "--endpoint", server.url, "--log", str(tmp_path / file))
        assert (done.code, said in done.err) == (2, True), done.err


def test_a_gate_that_no_endpoint_can_show_is_named_and_not_judged(run, server, released):
    found, rows = check(run, server, "--policy", str(released / "strict.yaml"))
    assert found["verdict"] == "PASS"
    assert "fluent" not in rows
    assert any(note.startswith("not judged: fluent (perplexity)") for note in found["notes"])


def test_an_older_run_folder_is_checked_as_far_as_it_goes(run, server, tmp_path):
    (run / "verdict.json").unlink()  # never judged; then the recipe's policy, and a system that must be named
    done = tamis("monitor", str(run), "--endpoint", server.url)
    assert (done.code, "there is no complete evaluation of 'tuned'" in done.err) == (4, True)
    shutil.rmtree(run / "curate" / "records")  # a folder that came without its rows: no log can be compared
    log = lines(tmp_path / "log.jsonl", [{"prompt": p} for p in prompts(80, 3)])
    _, rows = check(run, server, "--system", "api", "--log", log)
    assert rows["log"]["verdict"] == "INVALID"
    assert rows["same-quality"]["verdict"] == "PASS"
    (run / "curate" / "eval.parquet").unlink()
    done = tamis("monitor", str(run), "--endpoint", server.url, "--system", "api")
    assert done.code == 2
    (tmp_path / "none").mkdir()
    assert tamis("monitor", str(tmp_path / "none"), "--endpoint", server.url).code == 2


def test_people_read_what_did_not_pass_first_and_what_to_do(run, server):
    server.right = False
    done = tamis("monitor", str(run), "--endpoint", server.url, "--quiet")
    told = done.out.splitlines()
    assert told[0] == f"FAIL  (exit code 1, shop at {server.url})"
    assert told[1] == "  0.0% of the items answered as main / api did at release"
    assert "FAIL" in told[2]
    assert told[-1].startswith("next: roll back")
    assert len(told) <= 10


@pytest.fixture
def guide():
    """Every command of the deployment guide."""
    page = Path(__file__).parents[2] / "docs" / "guides" / "deploy.md"
    return re.findall(r"^\$ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_what_no_test_types_of_the_guide_starts_a_program_that_is_not_here(guide):
    ours = {c for c in guide if c.startswith("tamis ") or c.endswith("serve.sh transformers")}
    assert set(guide) - ours == {
        "sh deploy/shop/serve.sh",
        "sh deploy/shop-adapter/serve.sh",
        "cd deploy/shop && ollama create shop -f Modelfile",
    }


def test_the_guides_checks_are_typed_against_a_page_of_vllms_names(run, server, guide, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    run.rename("runs/shop")
    lines(tmp_path / "prompts.jsonl", [{"prompt": p, "finish_reason": "stop"} for p in prompts(80, 3)])
    # the others are typed where their server is: test_monitor_served.py
    typed = [
        c.removeprefix("tamis ") for c in guide if c.startswith("tamis monitor runs/shop ") and "--model ." not in c
    ]
    assert len(typed) == 4
    for line in typed:
        there = re.sub(r"http://127\.0\.0\.1:\d+(/v1|/metrics)", lambda m: server.url[: -len("/v1")] + m[1], line)
        done = tamis(*shlex.split(there), "--slower", "5")
        assert done.code == 0, (line, done)


def test_numbers_that_go_one_way_are_said_before_any_check_fails(run, server):
    file = run / "monitor" / "checks.jsonl"
    check(run, server)
    (line,) = file.read_text().splitlines()
    past = [json.loads(line) for _ in range(6)]
    for n, one in enumerate(past):
        one["measured"] = {"accuracy": 1.0, "latency.e2e.p50": 3.0 + n}
    del past[0]["measured"], past[0]["trend"]  # a line of an older version
    file.write_text("".join(json.dumps(one) + "\n" for one in past))
    found, _ = check(run, server)
    assert (found["trend"]["checks"], found["trend"]["accuracy"]["direction"]) == (7, "steady")
    assert found["trend"]["latency.e2e.p50"]["direction"] == "rising"
    assert any(note.startswith("latency.e2e.p50 is rising over the last 6 checks") for note in found["notes"])
    assert found["verdict"] == "PASS"


def test_a_percentile_is_its_bucket_and_pages_of_other_makers_are_refused():
    buckets = {0.1: 10.0, 0.5: 94.0, 1.0: 99.0, float("inf"): 100.0}
    assert serving.percentile(buckets, 0.5) == (0.1, 0.5)
    assert serving.percentile(buckets, 0.95) == (0.5, 1.0)
    assert serving.percentile(buckets, 1.0) == (1.0, float("inf"))
    assert serving.percentile({}, 0.5) is None
    two = 'vllm:request_success_total{model_name="a",finished_reason="stop"} 3\n'
    two += 'vllm:request_success_total{model_name="b",finished_reason="stop"} 5 1700000000000\n'
    assert serving.page(serving.parse(two), "b").finished == {"stop": 5.0}
    assert serving.page(serving.parse(two), "unknown").served == 8.0
    with pytest.raises(ValueError, match="text format"):
        serving.parse("<html>")
