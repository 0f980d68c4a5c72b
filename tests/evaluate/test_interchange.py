"""Results of other tools as systems: their judgement is kept, the statistics are ours."""

import json

import numpy as np
import pytest

from tamis.errors import DataError, EvidenceError
from tamis.evaluate import from_guidellm, levels
from tamis.evaluate.evidence import find
from tamis.evaluate.gate import judge
from tamis.evaluate.interchange import bring_in
from tamis.evaluate.measure import absolute, attained
from tamis.evaluate.policy import load_policy
from tamis.run import Run

DATE = "2026-11-24T10-00-00.000001"


def sample(doc, right, *, filter="strict-match", said=None, metric="exact_match", **more):
    """A line as lm-eval 0.4.13 logs it (evaluator.py, evaluation_tracker.py), generation."""
    said = said or ("so it is 8" if right else "so it is 9")
    return {
        "doc_id": doc,
        "doc": {"question": f"q{doc}"},
        "target": "8",
        "arguments": {"gen_args_0": {"arg_0": f"Question: q{doc}", "arg_1": {"until": ["\n"], "do_sample": False}}},
        "resps": [[said]],
        "filtered_resps": [said.split()[-1]],
        "filter": filter,
        "metrics": [metric],
        "doc_hash": f"{doc:064x}",
        "prompt_hash": f"{doc + 1:064x}",
        "target_hash": "8" * 64,
        metric: float(right),
        **more,
    }


def choice(doc, chosen, target=1):
    """The same for a multiple-choice task: likelihoods of each continuation, as strings."""
    scores = [[str(-1.0 if i == chosen else -3.0), "False"] for i in range(3)]
    arguments = {f"gen_args_{i}": {"arg_0": f"q{doc}", "arg_1": f" choice {i}"} for i in range(3)}
    return sample(doc, chosen == target, metric="acc") | {
        "target": str(target),
        "arguments": arguments,
        "resps": [[s] for s in scores],
        "filtered_resps": scores,
    }


@pytest.fixture
def logged(tmp_path):
    def write(folder, rows, task="gsm8k", results=None):
        (tmp_path / folder).mkdir(exist_ok=True)
        file = tmp_path / folder / f"samples_{task}_{DATE}.jsonl"
        file.write_text("".join(json.dumps(r) + "\n" for r in rows))
        if results:
            (tmp_path / folder / f"results_{DATE}.json").write_text(json.dumps(results))
        return file

    return write


GATE = """
evidence: {candidate: theirs, baseline: base}
requires: {same: [eval_set, prompt, extractor, decoding], checks: [complete]}
gates:
  - {id: no-loss, metric: accuracy, require: "delta.lower > -0.05"}
  - {id: own, metric: "regex:it is", require: "lower >= 0.9"}
"""


def ruled(run, text, tmp_path):
    (tmp_path / "policy.yaml").write_text(text)
    return judge(run, load_policy(tmp_path / "policy.yaml"))


def test_two_sample_files_get_a_paired_gate(logged, tmp_path):
    base = logged("a", [sample(i, i % 5 > 0) for i in range(300)])
    theirs = logged("b", [sample(i, i % 5 > 0 or i == 5) for i in reversed(range(300))])
    run = Run(tmp_path / "run")
    bring_in(run, {"base": [base], "theirs": [theirs]})

    found = ruled(run, GATE, tmp_path)

    row = found["arms"]["imported"]["gates"][0]
    assert found["verdict"] == "PASS", found
    assert (row["method"], row["n"]) == ("tango", 300)
    assert row["value"] == pytest.approx(1 / 300)
    assert find(run, "imported", "base").answers["answer"][0] == "9"


def test_other_documents_cannot_be_paired(logged, tmp_path):
    base = logged("a", [sample(i, 1) for i in range(30)])
    theirs = logged("b", [sample(i, 1, doc_hash=f"{i + 7:064x}") for i in range(30)])

    with pytest.raises(DataError, match="different items"):
        bring_in(Run(tmp_path / "run"), {"base": [base], "theirs": [theirs]})


def test_a_limited_or_half_written_file_is_incomplete(logged, tmp_path):
    results = {
        "n-samples": {"gsm8k": {"original": 1319, "effective": 300}},
        "model_name": "m",
        "chat_template_sha": "t",
    }
    files = [logged(f, [sample(i, 1) for i in range(299)], results=results) for f in ("a", "b")]
    run = Run(tmp_path / "run")
    bring_in(run, {"base": files[:1], "theirs": files[1:]})

    found = ruled(run, GATE, tmp_path)

    assert found["exit_code"] == 4
    assert "299 of 300" in found["arms"]["imported"]["requires"][0]
    assert find(run, "imported", "base").about["template_sha256"] == "t"


def test_several_filters_must_be_told_apart(logged, tmp_path):
    both = [sample(i, i % 2, filter=f) for i in range(20) for f in ("strict-match", "flexible-extract")]
    file = logged("a", both)

    with pytest.raises(DataError, match="several ways") as caught:
        bring_in(Run(tmp_path / "run"), {"base": [file]})
    assert "flexible-extract, strict-match" in str(caught.value.hint)
    bring_in(Run(tmp_path / "run"), {"base": [file]}, filter="strict-match")
    assert len(find(Run(tmp_path / "run"), "imported", "base").answers) == 20


def test_a_file_that_was_appended_to_is_refused(logged, tmp_path):
    rows = [sample(i, 1) for i in range(20)]

    with pytest.raises(DataError, match="logged twice"):
        bring_in(Run(tmp_path / "run"), {"base": [logged("a", rows + rows[:1])]})


def test_multiple_choice_takes_the_harness_judgement_and_the_text_of_the_choice(logged, tmp_path):
    run = Run(tmp_path / "run")
    bring_in(run, {"base": [logged("a", [choice(i, i % 3) for i in range(30)], task="arc_easy")]})
    answers = find(run, "imported", "base").answers

    assert answers["answer"][:3] == ["choice 0", "choice 1", "choice 2"]
    assert set(answers["expected"]) == {"choice 1"}
    assert answers["correct"][:3] == [False, True, False]
    assert set(answers["label"]) == {"arc_easy"}


def test_what_could_not_be_read_out_is_not_parsed(logged, tmp_path):
    run = Run(tmp_path / "run")
    bring_in(run, {"base": [logged("a", [sample(0, 0, filtered_resps=["[invalid]"]), sample(1, 1)])]})

    assert find(run, "imported", "base").answers["parsed"] == [False, True]


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "cannot be read"), ("{", "cannot be read"), ('{"a": 1}\n', "neither samples"), ("[1]\n", "neither samples")],
)
def test_another_file_is_refused(tmp_path, text, says):
    (tmp_path / "x.jsonl").write_text(text)

    with pytest.raises(DataError, match=says):
        bring_in(Run(tmp_path / "run"), {"base": [tmp_path / "x.jsonl"]})


def test_a_metric_that_is_no_right_or_wrong_is_refused(logged, tmp_path):
    with pytest.raises(DataError, match="right or wrong"):
        bring_in(Run(tmp_path / "run"), {"base": [logged("a", [sample(0, 0.5)])]})


# --------------------------------------------------------------------------------------------------- GuideLLM


def request(place, due, sent, first, last, tokens=9, **status):
    times = {
        "targeted_start": due,
        "request_start": sent,
        "first_token_iteration": first,
        "last_token_iteration": last,
        "request_end": last,
        "resolve_end": last,
    }
    return {
        "request_id": f"r{place}",
        "info": {"timings": times},
        "prompt_tokens": 20,
        "output_tokens": tokens,
        **status,
    }


def benchmark(strategy, successful, errored=(), incomplete=(), made=None):
    groups = {"successful": list(successful), "errored": list(errored), "incomplete": list(incomplete)}
    times = {"request_start_time": 1e9, "measure_start_time": 1e9 + 1, "measure_end_time": 1e9 + 1000}
    counts = made or {k: len(v) for k, v in groups.items()}
    return {
        "config": {"strategy": strategy},
        "scheduler_metrics": {**times, "requests_made": counts},
        "requests": groups,
    }


def report(*benchmarks):
    return {"metadata": {"version": 2, "guidellm_version": "0.8.1"}, "config": {}, "benchmarks": list(benchmarks)}


def poisson(rate, count, *, late=0.0, slow=0.0, seed=1, **more):
    due = 1e9 + 1 + np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))
    rows = [
        request(i, d, d + late, d + late + 0.1, d + late + 0.3 + slow * (i % 10 == 0))
        for i, d in enumerate(due.tolist())
    ]
    return benchmark({"type_": "poisson", "rate": rate}, rows, **more)


@pytest.fixture
def loaded(tmp_path):
    def write(*benchmarks, hardware=None, system="theirs"):
        file = tmp_path / f"{system}.json"
        file.write_text(json.dumps(report(*benchmarks)))
        bring_in(Run(tmp_path / "run"), {system: [file]}, hardware=hardware)
        return find(Run(tmp_path / "run"), "imported", system)

    return write


LOAD = """
evidence: {candidate: theirs}
requires: {same: [], checks: [load_valid]}
gates:
  - {id: ttft, metric: latency.ttft.p95, at: {arrival: poisson, rate: 4}, require: "upper <= 110 ms"}
  - {id: slo, metric: load.attainment, at: {rate: 4}, slo: {e2e: 400 ms}, require: "lower >= 0.8"}
  - {id: flow, metric: load.throughput, at: {rate: 4}, require: "lower >= 3 rps"}
"""


def test_a_gate_is_about_the_load_it_names(loaded, tmp_path):
    loaded(poisson(4, 400, slow=0.2), poisson(16, 400, slow=2.0, seed=2))

    rows = {r["id"]: r for r in ruled(Run(tmp_path / "run"), LOAD, tmp_path)["arms"]["imported"]["gates"]}

    assert [rows[i]["verdict"] for i in ("ttft", "slo", "flow")] == ["PASS"] * 3, rows
    assert rows["slo"]["value"] == pytest.approx(0.9)
    assert rows["flow"]["value"] == pytest.approx(4, rel=0.15)
    other = LOAD.replace("rate: 4", "rate: 16")
    found = ruled(Run(tmp_path / "run"), other, tmp_path)["arms"]["imported"]["gates"]
    assert found[2]["value"] == pytest.approx(16, rel=0.15)
    unmeasured = ruled(Run(tmp_path / "run"), LOAD.replace("rate: 4", "rate: 5"), tmp_path)
    assert unmeasured["exit_code"] == 4


def test_a_client_that_is_late_makes_the_level_invalid_and_its_lag_counts_as_waiting(loaded, tmp_path):
    evidence = loaded(poisson(4, 400, late=0.2))
    (level,) = levels.levels_of(evidence)

    assert absolute(level, "latency.ttft.p50").value == pytest.approx(300)
    found = ruled(Run(tmp_path / "run"), LOAD, tmp_path)
    assert found["exit_code"] == 4
    assert "client was late" in found["arms"]["imported"]["gates"][0]["note"]


def test_a_load_that_was_not_offered_is_invalid(loaded, tmp_path):
    bench = poisson(2, 400)
    bench["config"]["strategy"]["rate"] = 4
    loaded(bench)

    found = ruled(Run(tmp_path / "run"), LOAD, tmp_path)
    assert "requests a second were offered, not 4" in found["arms"]["imported"]["gates"][0]["note"]


def test_failures_are_infinite_and_what_was_cut_off_is_nothing_unless_it_hangs():
    start = 1e9 + 5
    good = [request(i, start + i, start + i, start + i + 0.1, start + i + 0.5) for i in range(90)]
    bad = [request(100 + i, start + i, start + i, None, None) for i in range(5)]
    cut = [
        request(200, start, 1e9 + 99.8, None, None)
        | {"info": {"timings": {"request_start": 1e9 + 99.8, "resolve_end": 1e9 + 100}}}
    ]
    hung = [
        request(300, start, start, None, None)
        | {"info": {"timings": {"request_start": start, "resolve_end": 1e9 + 100}}}
    ]
    bench = benchmark({"type_": "concurrent", "streams": 4}, good, bad, cut + hung)
    ((load, table),) = from_guidellm.levels(report(bench), "x")

    assert load == {"arrival": "closed", "rate": None, "concurrency": 4}
    status = dict(zip(table["id"].to_pylist(), table["status"].to_pylist(), strict=True))
    assert list(status.values()).count("error") == 6
    assert "r200" not in status
    assert status["r300"] == "error"


def test_warmup_is_marked_and_left_out():
    rows = [request(i, 1e9 + 0.1 * i, 1e9 + 0.1 * i, 1e9 + 0.1 * i + 0.01, 1e9 + 0.1 * i + 0.02) for i in range(30)]
    ((_, table),) = from_guidellm.levels(report(benchmark({"type_": "synchronous"}, rows)), "x")

    assert table["warmup"].to_pylist().count(True) == 10


def test_a_burst_before_guidellms_clock_started_is_no_offered_load():
    """Seen in a report of 0.8.1 against its own mock server: `targeted_start` is -0.87, -0.83, ..."""
    bench = poisson(4, 100)
    for place, row in enumerate(bench["requests"]["successful"][:9]):
        row["info"]["timings"]["targeted_start"] = -0.9 + place / 10
    ((_, table),) = from_guidellm.levels(report(bench), "x")

    assert table["warmup"].to_pylist().count(True) == 9
    assert min(table["scheduled_s"].to_pylist()) >= 0


def test_a_report_that_keeps_a_sample_is_refused():
    bench = poisson(4, 30, made={"successful": 400, "errored": 0, "incomplete": 0})

    with pytest.raises(EvidenceError, match="keeps 30 of 400"):
        from_guidellm.levels(report(bench), "x")


def test_an_slo_counts_failures_as_not_within(loaded):
    bench = poisson(4, 90, errored=[request(900 + i, 1e9 + 5 + i, 1e9 + 5 + i, None, None) for i in range(10)])
    (level,) = levels.levels_of(loaded(bench))

    assert attained(level, {"ttft": 150.0}).value == 0.9
    assert attained(level, {"ttft": 99.0}).value == 0.0
    assert attained(level, {"ttft": 150.0, "tpot": 26.0}).value == 0.9  # 200 ms for 8 further tokens
    assert attained(level, {"ttft": 150.0, "tpot": 24.0}).value == 0.0


def test_clocks_are_compared_only_where_the_hardware_is_named(loaded, tmp_path):
    gate = """
evidence: {candidate: theirs, baseline: base}
requires: {same: [], checks: []}
gates: [{id: a, metric: latency.ttft.p50, at: {rate: 4}, require: "ratio.upper <= 1.2"}]
"""
    for hardware, code in ((None, 4), ("one H100", 0)):
        loaded(poisson(4, 400), hardware=hardware, system="base")
        loaded(poisson(4, 400), hardware=hardware)
        assert ruled(Run(tmp_path / "run"), gate, tmp_path)["exit_code"] == code


def test_the_command_line_imports_compares_and_gates(logged, tmp_path, monkeypatch, capsys):
    import sys

    from tamis import cli

    base = logged("a", [sample(i, i % 5 > 0) for i in range(300)])
    theirs = logged("b", [sample(i, True) for i in range(300)])
    (tmp_path / "load.json").write_text(json.dumps(report(poisson(4, 100))))

    def tamis(*arguments):
        monkeypatch.setattr(sys, "argv", ["tamis", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as left:
            return int(left.code or 0)
        return 0

    run = tmp_path / "run"
    assert tamis("import", f"base={base}", f"theirs={theirs}", f"theirs={tmp_path / 'load.json'}", "--run", run) == 0
    assert "theirs: 300 items, 1 loads" in capsys.readouterr().out
    (tmp_path / "policy.yaml").write_text(GATE)
    assert tamis("gate", run, "--policy", tmp_path / "policy.yaml") == 0
    comparison = json.loads((run / "comparison.json").read_text())
    assert comparison["pairs"][0]["delta"]["value"] == pytest.approx(0.2)
    assert (run / "report" / "report.html").is_file()
    assert tamis("import", "nonsense", "--run", run) == 2
