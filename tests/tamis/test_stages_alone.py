"""`tamis train` and `tamis evaluate` one after the other, and evaluation of what Tamis did not train."""

import json
import resource
import shutil
import subprocess
import sys

import pytest
import yaml

from tamis.errors import UserError
from tests.tamis.calling import called as tamis

INTENTS = ("cancel order", "track order", "refund")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("alone")
    words = ["one", "two", "three", "four"]
    rows = [{"text": f"{intent} number {w} please", "intent": intent} for intent in INTENTS for w in words]
    items = [{"text": f"{intent} for {w}", "intent": intent} for intent in INTENTS for w in ("Mai", "Lan")]
    for name, table in (("rows", rows), ("items", items)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in table))
    recipe = {
        "name": "alone",
        "data": {"path": "rows.jsonl"},
        "eval": {"path": "items.jsonl"},
        "embedder": "lsa",
        "curate": {"select": {"size": 6}},
        "model": str(tiny_model),
        "train": {"epochs": 1, "r": 4},
        "evaluate": {
            "task": {"kind": "classify"},
            "systems": ["base", "tuned"],
            "latency": {"requests": 0},
            "price": {"machine_hour": 1.0},
        },
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    done = tamis("train", folder / "recipe.yaml", "--run", folder / "run", "--quiet")
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_dry_run_writes_nothing_and_tells_what_it_would_do(folder):
    done = tamis("run", folder / "recipe.yaml", "--run", folder / "dry", "--dry-run", "--json")
    assert not (folder / "dry").exists()
    told = json.loads(done.stdout)
    assert told["curated"] is False
    assert told["train"]["main"]["rows"] == 6
    assert told["train"]["main"]["seconds"] > 0
    assert (told["items"], told["requests"]) == (6, 12)
    assert told["money"] > 0
    assert {c["name"] for c in told["train"]["main"]["choices"]} >= {"r", "lr", "batch", "packing"}


def test_training_stops_before_evaluation(folder, trained):
    assert "adapter" in trained
    assert (folder / "run" / "arms" / "main" / "train" / "adapter" / "adapter_config.json").is_file()
    assert not (folder / "run" / "comparison.json").exists()


def test_a_dry_run_of_a_curated_run_uses_the_chosen_rows(folder, trained):
    told = json.loads(tamis("train", folder / "run", "--dry-run", "--json").stdout)
    assert told["curated"] is True
    plan = json.loads((folder / "run" / "arms" / "main" / "train" / "plan.json").read_text())
    assert told["train"]["main"]["steps"] == plan["steps"]


def test_evaluation_goes_on_and_then_everything_is_done(folder, trained):
    told = json.loads(tamis("evaluate", folder / "recipe.yaml", "--run", folder / "run", "--quiet", "--json").stdout)
    assert {s["system"] for s in told["comparison"]["systems"]} == {"base", "tuned"}
    # a run folder is enough: it holds its recipe
    again = json.loads(tamis("run", folder / "run", "--quiet", "--json").stdout)
    assert again["skipped"] is True


def test_a_second_run_says_so_and_imports_neither_torch_nor_evaluate(folder, trained):
    """The real command in a process of its own; Python itself says what it imports."""
    tamis("run", folder / "run", "--quiet")
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in stage_files(folder / "run")}
    used = resource.getrusage(resource.RUSAGE_CHILDREN)

    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tamis.cli", "run", str(folder / "run"), "--quiet"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line}
    assert done.stdout.startswith("nothing changed, nothing done\n")
    assert "tamis.loop" in imported
    assert {"torch", "transformers", "evaluate", "sentence_transformers", "sklearn", "daft"} & imported == set()
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in stage_files(folder / "run")} == before
    # Processor time, for a busy machine changes the time on the wall. Measured: 1 s.
    assert after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime < 5


def stage_files(run):
    """Everything that stages wrote, and conclusions did not."""
    return [p for part in ("curate", "arms") for p in (run / part).rglob("*") if p.is_file()]


def test_an_adapter_that_tamis_did_not_train_needs_only_an_evaluation_file(folder, trained, tiny_model):
    recipe = {
        "name": "foreign",
        "eval": {"path": "items.jsonl"},
        "model": str(tiny_model),
        "evaluate": {
            "task": {"kind": "classify"},
            "systems": [
                "base",
                {"name": "theirs", "adapter": str(folder / "run" / "arms" / "main" / "train" / "adapter")},
            ],
            "latency": {"requests": 0},
        },
    }
    file = folder / "foreign.yaml"
    file.write_text(yaml.safe_dump(recipe))
    told = json.loads(tamis("evaluate", file, "--run", folder / "foreign", "--quiet", "--json").stdout)
    assert told["funnel"] is None
    assert {s["system"] for s in told["comparison"]["systems"]} == {"base", "theirs"}
    assert json.loads(tamis("evaluate", folder / "foreign", "--quiet", "--json").stdout)["skipped"] is True


def test_a_recipe_without_data_or_evaluation_file_is_refused(folder):
    (folder / "none.yaml").write_text("name: none\n")
    with pytest.raises(UserError, match="'data' is missing"):
        tamis("run", folder / "none.yaml")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no run") as caught:
        tamis("run", tmp_path)
    assert caught.value.why == "it is empty"


@pytest.mark.parametrize("command", ["run", "train", "evaluate"])
def test_a_folder_with_a_recipe_is_no_run_and_stays_as_it_is(tmp_path, command):
    """A project's folder: `tamis init` wrote there, no run did."""
    (tmp_path / "recipe.yaml").write_text("name: mine\ndata: {path: rows.jsonl}  # a comment\n")

    with pytest.raises(UserError, match="holds no run") as caught:
        tamis(command, tmp_path)

    assert caught.value.why == "it holds recipe.yaml, which no run wrote"
    assert caught.value.hint == f"tamis run {tmp_path / 'recipe.yaml'}"
    assert [p.name for p in tmp_path.iterdir()] == ["recipe.yaml"]


def test_a_folder_of_runs_names_them(folder, trained, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "one").symlink_to(folder / "run")
    with pytest.raises(UserError, match="holds no run") as caught:
        tamis("run", tmp_path / "runs")
    assert caught.value.why == "it holds the runs one"
    assert caught.value.hint == f"tamis run {tmp_path / 'runs' / 'one'}"


def test_a_run_is_not_written_over_a_recipe_of_the_users(folder, tmp_path):
    mine = tmp_path / "recipe.yaml"
    mine.write_text((folder / "recipe.yaml").read_text() + "# mine\n")
    with pytest.raises(UserError, match="would write over"):
        tamis("run", folder / "recipe.yaml", "--run", tmp_path)
    assert mine.read_text().endswith("# mine\n")


def test_a_run_copied_without_its_hidden_files_goes_on(folder, trained, tmp_path):
    tamis("run", folder / "run", "--quiet")
    shutil.copytree(folder / "run", tmp_path / "copy", ignore=shutil.ignore_patterns(".*"))
    done = json.loads(tamis("run", tmp_path / "copy", "--quiet", "--json").stdout)
    assert done["funnel"]["skipped"] is True
    assert done["arms"]["main"]["skipped"] is True
    # elsewhere fewer runs have looked at the items, which the comparison says: once
    assert json.loads(tamis("run", tmp_path / "copy", "--quiet", "--json").stdout)["skipped"] is True
