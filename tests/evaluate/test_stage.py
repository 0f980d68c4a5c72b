"""The whole stage on a tiny model: files, skipping, and being killed in the middle."""

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tamis import schema
from tamis.errors import RecipeError, StageFailed, UserError
from tamis.evaluate.compare import compare
from tamis.evaluate.stage import evaluate_arm
from tamis.recipe import Recipe, SystemSpec
from tamis.run import Run
from tamis.schema import read_json

HERE = str(Path(__file__).parent)


def recipe_of(model="none", **evaluate):
    task = {"kind": "classify", "template": "Message: {prompt}\nIntent:", "max_tokens": 24}
    return Recipe.check(
        {
            "name": "x",
            "data": {"path": "x"},
            "model": str(model),
            "train": {"method": "lora", "quantisation": "none"},
            "evaluate": {"task": task, "batch": 8, "latency": {"requests": 6, "warmup": 1}, **evaluate},
        }
    )


def test_baselines_are_evaluated_without_torch(tmp_path, eval_table, train_table):
    for name, table in (("eval", eval_table(48)), ("train", train_table(40))):
        schema.write_parquet(tmp_path / f"{name}.parquet", table)
    code = f"""
        import sys, pyarrow.parquet as pq
        from pathlib import Path
        sys.path.insert(0, {HERE!r})
        from test_stage import recipe_of
        from tamis.evaluate.stage import evaluate_arm
        from tamis.run import Run
        read = lambda n: pq.read_table(Path({str(tmp_path)!r}) / (n + ".parquet"))
        run, names = Run(Path({str(tmp_path)!r}) / "run"), ["majority", "nearest", "linear"]
        recipe = recipe_of().model_copy(update={{"embedder": "lsa"}})  # auto may choose a sentence encoder
        evaluate_arm(run, recipe, "main", read("eval"), read("train"), names, quiet=True)
        print("torch" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
    run = Run(tmp_path / "run")

    assert run.systems("main") == ["linear", "majority", "nearest"]
    linear = read_json(run.evaluate("main", "linear") / "metrics.json")
    majority = read_json(run.evaluate("main", "majority") / "metrics.json")
    assert majority["metrics"]["accuracy"]["value"] == 0.25
    assert linear["metrics"]["accuracy"]["value"] > 0.25
    assert linear["metrics"]["latency.e2e.p50"]["n"] == 6
    assert linear["uses_arm"] is True


def test_files_have_the_agreed_schemas_and_one_row_per_item(tmp_path, tiny_model, eval_table, train_table):
    run = Run(tmp_path / "run")
    evaluate_arm(run, recipe_of(tiny_model), "main", eval_table(), train_table(), ["base", "base-best"], quiet=True)

    for system in ("base", "base-best"):
        folder = run.evaluate("main", system)
        samples, requests = (pq.read_table(folder / f) for f in ("samples.parquet", "requests.parquet"))
        assert samples.schema.equals(schema.SAMPLES)
        assert requests.schema.equals(schema.REQUESTS)
        assert samples.column("id").to_pylist() == eval_table().column("id").to_pylist()
        assert requests.num_rows == 7
        assert requests.column("warmup").to_pylist().count(True) == 1
        lines = (folder / "samples.jsonl").read_text().splitlines()
        assert len({json.loads(line)["id"] for line in lines}) == len(lines) == 24
    base = read_json(run.evaluate("main", "base") / "metrics.json")
    assert base["metrics"]["perplexity"]["value"] > 1
    assert base["metrics"]["load.throughput"]["value"] > 0
    assert base["environment"]["engine"].startswith("transformers")
    assert base["environment"]["hardware"]
    assert len(base["model_sha256"]) == 64


def test_what_is_complete_is_not_touched_and_needs_no_torch(tmp_path, tiny_model, eval_table, monkeypatch):
    run, recipe = Run(tmp_path / "run"), recipe_of(tiny_model)
    first = evaluate_arm(run, recipe, "main", eval_table(), None, ["base"], quiet=True)
    before = (run.evaluate("main", "base") / "samples.parquet").stat().st_mtime_ns
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it would fail from here on

    second = evaluate_arm(run, recipe, "main", eval_table(), None, ["base"], quiet=True)

    assert first["systems"]["base"]["skipped"] is False
    assert second["systems"]["base"]["skipped"] is True
    assert (run.evaluate("main", "base") / "samples.parquet").stat().st_mtime_ns == before


def test_a_changed_template_is_evaluated_again_and_a_changed_price_is_not(tmp_path, eval_table, train_table):
    run = Run(tmp_path / "run")

    def skipped(recipe):
        told = evaluate_arm(run, recipe, "main", eval_table(), train_table(), ["majority"], quiet=True)
        return told["systems"]["majority"]["skipped"]

    assert not skipped(recipe_of())
    assert skipped(recipe_of(price={"machine_hour": 2.0}))
    assert not skipped(recipe_of(task={"kind": "classify", "template": "Other: {prompt}", "max_tokens": 24}))


KILLED = """
    import os, sys
    from pathlib import Path
    sys.path.insert(0, {here!r})
    import pyarrow.parquet as pq
    from test_stage import recipe_of
    from tamis.evaluate import journal
    from tamis.evaluate.stage import evaluate_arm
    from tamis.run import Run
    append = journal.Journal.append
    def and_then_die(self, batch, rows, seconds):
        append(self, batch, rows, seconds)
        if batch == 1:
            with self.file.open("ab") as file:
                file.write(b'{{"id": "half a li')
            os.kill(os.getpid(), 9)
    journal.Journal.append = and_then_die
    items = pq.read_table(Path({folder!r}) / "eval.parquet")
    evaluate_arm(Run(Path({folder!r}) / "killed"), recipe_of({model!r}), "main", items, None, ["base"], quiet=True)
"""


def test_killed_in_the_middle_it_goes_on_to_the_answers_of_an_undisturbed_run(tmp_path, tiny_model, eval_table):
    schema.write_parquet(tmp_path / "eval.parquet", eval_table())
    code = KILLED.format(here=HERE, folder=str(tmp_path), model=str(tiny_model))
    died = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    runs = [Run(tmp_path / name) for name in ("killed", "straight")]
    journal = runs[0].evaluate("main", "base") / "samples.jsonl"
    assert len(journal.read_bytes().splitlines()) == 17  # two batches of eight and half a line
    assert not (journal.parent / "stage.json").exists()

    for run in runs:
        evaluate_arm(run, recipe_of(tiny_model), "main", eval_table(), None, ["base"], quiet=True)

    tables = [pq.read_table(run.evaluate("main", "base") / "samples.parquet") for run in runs]
    metrics = [read_json(run.evaluate("main", "base") / "metrics.json")["metrics"] for run in runs]
    assert tables[0].equals(tables[1])
    assert metrics[0]["accuracy"] == metrics[1]["accuracy"]
    assert metrics[0]["perplexity"] == metrics[1]["perplexity"]
    assert journal.read_bytes().count(b"\n") == 24


def test_a_model_that_tamis_did_not_train_needs_only_an_evaluation_file(tmp_path, tiny_model, eval_table):
    run = Run(tmp_path / "run")
    spec = SystemSpec(name="theirs", model=str(tiny_model))
    evaluate_arm(run, recipe_of("no/such-model"), "main", eval_table(), None, [spec], quiet=True)

    made = compare(run, recipe_of())
    assert [s["system"] for s in made["systems"]] == ["theirs"]
    assert made["systems"][0]["metrics"]["perplexity"]["n"] == 24


@pytest.mark.parametrize(
    ("systems", "says"),
    [(["tuned"], "no adapter"), (["merged"], "merged model"), (["linear"], "needs training rows")],
)
def test_a_system_that_cannot_be_made_says_what_is_missing(tmp_path, tiny_model, eval_table, systems, says):
    with pytest.raises(RecipeError, match=says) as caught:
        evaluate_arm(Run(tmp_path), recipe_of(tiny_model), "main", eval_table(), None, systems, quiet=True)
    assert caught.value.hint


def test_rows_do_not_leave_the_machine_without_consent(tmp_path, eval_table):
    spec = SystemSpec(name="api", endpoint="https://api.example.com/v1", model="m")

    with pytest.raises(UserError, match=r"24 rows would go to api\.example\.com"):
        evaluate_arm(Run(tmp_path), recipe_of(), "main", eval_table(), None, [spec], quiet=True)


def test_an_endpoint_that_is_down_fails_the_stage_and_leaves_no_verdict(tmp_path, eval_table, monkeypatch):
    monkeypatch.setattr("tamis.endpoint.FIRST_WAIT_S", 0.01)
    spec = SystemSpec(name="api", endpoint="http://127.0.0.1:9/v1", model="m")
    started = time.monotonic()

    with pytest.raises(StageFailed, match="'api' does not answer"):
        evaluate_arm(Run(tmp_path), recipe_of(), "main", eval_table(), None, [spec], quiet=True)
    assert time.monotonic() - started < 30
    assert Run(tmp_path).systems("main") == []
