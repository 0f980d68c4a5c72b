"""The training stage: the same adapter however often it is killed, and honest about what it did."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis.errors import DataError, RecipeError, StageFailed
from tamis.run import Run
from tamis.schema import TOKENS, read_json
from tests.train.making_rows import files, log_lines, python, recipe, row, stopped_at, table

torch = pytest.importorskip("torch")

from tamis.train import stage as stage_module  # noqa: E402
from tamis.train.sft import latest_checkpoint, step_of  # noqa: E402
from tamis.train.stage import forecast_arm, train_arm  # noqa: E402


@pytest.fixture(scope="module")
def undisturbed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run that the others are compared with."""
    run = Run(tmp_path_factory.mktemp("undisturbed"))
    train_arm(run, recipe(tiny_model), "main", table(18), quiet=True)
    return run


def adapter(run: Run) -> dict[str, bytes]:
    return files(run.train("main") / "adapter")


def test_training_twice_gives_the_same_bytes(undisturbed: Run, tiny_model: Path, tmp_path: Path) -> None:
    train_arm(Run(tmp_path), recipe(tiny_model), "main", table(18), quiet=True)

    assert adapter(Run(tmp_path)) == adapter(undisturbed)


def test_another_seed_gives_another_adapter(undisturbed: Run, tiny_model: Path, tmp_path: Path) -> None:
    other = recipe(tiny_model).model_copy(update={"seed": 8})

    train_arm(Run(tmp_path), other, "main", table(18), quiet=True)

    assert adapter(Run(tmp_path))["adapter_model.safetensors"] != adapter(undisturbed)["adapter_model.safetensors"]


CHILD = """
    import json, os, signal, sys
    from pathlib import Path
    from tamis.run import Run
    from tests.train.making_rows import recipe, table
    import tamis.train.sft as sft
    from tamis.train.stage import train_arm

    model, folder, when, at = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    if when == "saving":  # in the middle of writing a checkpoint: files there, the mark of wholeness missing
        sft._to_disk = die
    if when == "exporting":
        sft._settle_config = die
    train = sft.train

    def watched(*args, on_step, **kwargs):
        def step(done, steps, note):
            if when == "step" and done == at:
                die()
            on_step(done, steps, note)
        return train(*args, on_step=step, **kwargs)

    sft.train = watched
    asked = json.loads(sys.argv[5]) if len(sys.argv) > 5 else {}
    train_arm(Run(folder), recipe(model, **asked), "main", table(18), quiet=True)
"""


@pytest.mark.parametrize(
    ("when", "at", "resumes_at"),
    [
        ("step", 5, 4),
        ("saving", 0, None),
        pytest.param("step", 1, None, marks=pytest.mark.slow),  # before the first checkpoint
        pytest.param("exporting", 0, 8, marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_anywhere_ends_with_the_same_bytes(
    undisturbed: Run, tiny_model: Path, tmp_path: Path, when: str, at: int, resumes_at: int | None
) -> None:
    run = Run(tmp_path)
    died = python(CHILD, tiny_model, run.path, when, at)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not (run.train("main") / "stage.json").exists()
    checkpoint = latest_checkpoint(run.train("main") / "checkpoints")
    assert (step_of(checkpoint) if checkpoint else None) == resumes_at
    slow = [{**line, "seconds": 100.0} for line in log_lines(run)]
    (run.train("main") / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in slow))

    summary = train_arm(run, recipe(tiny_model), "main", table(18), quiet=True)

    assert summary["skipped"] is False
    assert summary["seconds"] // 100 == (resumes_at or 0)  # of the steps that were not repeated, and its own
    assert adapter(run) == adapter(undisturbed)
    kept = ("step", "loss", "lr", "grad_norm", "tokens")
    assert [[line[k] for k in kept] for line in log_lines(run)] == [
        [line[k] for k in kept] for line in log_lines(undisturbed)
    ]


@pytest.mark.parametrize("how", ["stopped", pytest.param("killed", marks=pytest.mark.slow)])
@pytest.mark.parametrize("optim", ["adamw_torch", "paged_adamw_8bit"])
def test_resume_is_exact_with_dropout_and_either_optimizer(
    tiny_model: Path, tmp_path: Path, optim: str, how: str
) -> None:
    """Broken off at step 5, and both once more at step 9: the checkpoint of step 8 holds the whole state."""
    asked = {"dropout": 0.1, "optim": optim, "r": 64}
    whole, broken = Run(tmp_path / "whole"), Run(tmp_path / "broken")

    for run, at in ((broken, 5), (broken, 9), (whole, 9)):
        if how == "stopped":
            stopped_at(at, run, recipe(tiny_model, **asked), table(18))
        else:
            died = python(CHILD, tiny_model, run.path, "step", at, json.dumps(asked))
            assert died.returncode == -signal.SIGKILL, died.stderr

    states = [state(run.train("main") / "checkpoints" / "checkpoint-8") for run in (broken, whole)]
    for name in ("weights", "optimizer", "schedule", "random numbers"):
        assert same(states[0][name], states[1][name]), name
    assert {t.dtype for t in states[0]["weights"].values()} == {torch.float32}
    # its moments are held in 8 bits, also on a CPU
    assert ("torch.uint8" in str(kinds(states[0]["optimizer"]["state"]))) is (optim == "paged_adamw_8bit")
    for run in (broken, whole):
        train_arm(run, recipe(tiny_model, **asked), "main", table(18), quiet=True)
    assert adapter(broken) == adapter(whole)
    assert [line["loss"] for line in log_lines(broken)] == [line["loss"] for line in log_lines(whole)]


def state(checkpoint: Path) -> dict[str, Any]:
    """All that a training goes on from. The order of the data is drawn from the random numbers and the step."""
    from safetensors.torch import load_file

    def load(name: str) -> Any:
        return torch.load(checkpoint / name, weights_only=False)

    return {
        "weights": load_file(checkpoint / "adapter_model.safetensors"),
        "optimizer": load("optimizer.pt"),
        "schedule": load("scheduler.pt"),
        "random numbers": load("rng_state.pth"),
    }


def kinds(value: Any) -> Any:
    """The types of the numbers in a nested state."""
    return {key: kinds(v) for key, v in value.items()} if isinstance(value, dict) else getattr(value, "dtype", None)


def same(one: Any, other: Any) -> bool:
    """Whether two nested states are equal to the bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if hasattr(one, "tobytes"):  # numpy's generator
        return bool(one.tobytes() == other.tobytes())
    if torch.is_tensor(one):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other)


def test_a_resumed_run_keeps_the_plan_it_began_with(
    undisturbed: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path)
    stopped_at(5, run, recipe(tiny_model), table(18))
    make = stage_module.make_plan
    monkeypatch.setattr(  # less memory is free the second time, say
        stage_module, "make_plan", lambda *a, **k: dataclasses.replace(make(*a, **k), micro_batch=1, packing=False)
    )

    train_arm(run, recipe(tiny_model), "main", table(18), quiet=True)

    assert adapter(run) == adapter(undisturbed)


def test_training_uses_the_threads_of_its_plan(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run resumed where there are fewer cores would round its sums otherwise."""
    make, before = stage_module.make_plan, torch.get_num_threads()
    monkeypatch.setattr(stage_module, "make_plan", lambda *a, **k: dataclasses.replace(make(*a, **k), threads=3))
    try:
        train_arm(Run(tmp_path), recipe(tiny_model, epochs=1), "main", table(4), quiet=True)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_how_often_checkpoints_are_written_changes_nothing(undisturbed: Run, tiny_model: Path, tmp_path: Path) -> None:
    train_arm(Run(tmp_path), recipe(tiny_model, save_steps=1), "main", table(18), quiet=True)

    assert adapter(Run(tmp_path)) == adapter(undisturbed)


def test_a_complete_arm_is_skipped_without_importing_torch(undisturbed: Run, tiny_model: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from tamis.run import Run
        from tests.train.making_rows import recipe, table
        from tamis.train.stage import train_arm
        summary = train_arm(Run(Path(sys.argv[2])), recipe(Path(sys.argv[1])), "main", table(18), quiet=True)
        assert summary["skipped"] is True
        assert not {"torch", "transformers", "trl"} & set(sys.modules), "heavy imports"
    """

    done = python(code, tiny_model, undisturbed.path)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("changed", ["rows", "lr", "seed", "template", "model"])
def test_whatever_can_change_the_adapter_makes_the_stage_run_again(
    tiny_model: Path, other_model: Path, tmp_path: Path, changed: str
) -> None:
    run, first = Run(tmp_path), recipe(tiny_model, epochs=1)
    train_arm(run, first, "main", table(4), quiet=True)
    rows, asked = table(4), first
    if changed == "rows":
        rows = table(5)
    if changed == "lr":
        asked = recipe(tiny_model, epochs=1, lr=2e-3)
    if changed == "seed":
        asked = first.model_copy(update={"seed": 8})
    if changed == "template":
        task = first.evaluate.task.model_copy(update={"template": "Say: {prompt}"})
        asked = first.model_copy(update={"evaluate": first.evaluate.model_copy(update={"task": task})})
    if changed == "model":
        asked = recipe(other_model, epochs=1)

    assert train_arm(run, asked, "main", rows, quiet=True)["skipped"] is False


def test_the_folder_holds_what_the_contract_says(undisturbed: Run) -> None:
    folder = undisturbed.train("main")

    assert sorted(p.name for p in folder.iterdir()) == [
        "adapter",
        "log.jsonl",
        "plan.json",
        "stage.json",
        "tokens.parquet",
    ]
    tokens = pq.read_table(folder / "tokens.parquet")
    summary = read_json(folder / "stage.json")
    assert tokens.schema.names == TOKENS.names
    assert tokens.num_rows == summary["rows"] == 18
    assert sum(tokens["trained"].to_pylist()) == summary["trained_tokens"]
    assert summary["tokens"] == 2 * sum(tokens["tokens"].to_pylist())  # two epochs
    assert summary["steps"] == len(log_lines(undisturbed)) == 10
    assert {"seconds", "final_loss", "peak_mb", "base_sha256"} <= set(summary)
    assert all(choice["why"] for choice in read_json(folder / "plan.json")["choices"])


def test_the_adapter_names_its_base_by_hash_and_no_place_on_this_machine(undisturbed: Run, tiny_model: Path) -> None:
    from tamis.models import weights_sha256

    identity = read_json(undisturbed.train("main") / "adapter" / "tamis.json")

    assert identity["base_sha256"] == weights_sha256(tiny_model)
    assert identity["stop_token_ids"] == [2]
    for name, content in adapter(undisturbed).items():
        assert str(tiny_model).encode() not in content, name


def test_the_adapters_configuration_is_in_one_order(undisturbed: Run) -> None:
    """PEFT writes a set, in an order that changes from process to process."""
    config = json.loads(adapter(undisturbed)["adapter_config.json"])

    assert config["target_modules"] == sorted(config["target_modules"])
    assert list(config) == sorted(config)


def answers(model: Path, folder: Path, quantisation: Any) -> tuple[Any, Any, Any]:
    """Logits of the base, of what was tuned, and of the base again with the adapter switched off."""
    from tamis.models import load_adapter, load_model

    ids = torch.tensor([[1, 40, 41, 42]])
    base = load_model(str(model), quantisation)
    with torch.no_grad():
        before = base(ids).logits.clone()
        tuned = load_adapter(base, folder)
        after = tuned(ids).logits.clone()
        with tuned.disable_adapter():
            again = tuned(ids).logits.clone()
    return before, after, again


def test_the_adapter_is_fp32_and_changes_what_the_base_says(undisturbed: Run, tiny_model: Path) -> None:
    from safetensors.torch import load_file

    folder = undisturbed.train("main") / "adapter"

    before, after, again = answers(tiny_model, folder, "nf4")

    assert {t.dtype for t in load_file(folder / "adapter_model.safetensors").values()} == {torch.float32}
    assert (after - before).abs().max() > 0.01
    assert torch.equal(again, before)


def test_loss_falls(undisturbed: Run) -> None:
    losses = [line["loss"] for line in log_lines(undisturbed)]

    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("method", "quantisation"), [("qlora", "fp4"), ("qlora", "int8"), ("lora", "none"), ("full", "none")]
)
def test_every_method_trains_saves_and_loads(tiny_model: Path, tmp_path: Path, method: str, quantisation: str) -> None:
    from tamis.models import quantisation_of

    asked = recipe(tiny_model, method=method, quantisation=quantisation, epochs=1, batch=2)

    summary = train_arm(Run(tmp_path), asked, "main", table(6), quiet=True)

    before, after, again = answers(tiny_model, Run(tmp_path).train("main") / "adapter", quantisation_of(asked.train))
    assert summary["quantisation"] == quantisation
    assert not torch.equal(after, before)
    assert torch.equal(again, before)


def test_full_tuning_resumes_to_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    asked = recipe(tiny_model, method="full", quantisation="none")
    whole, broken = Run(tmp_path / "whole"), Run(tmp_path / "broken")
    train_arm(whole, asked, "main", table(18), quiet=True)

    stopped_at(5, broken, asked, table(18))
    train_arm(broken, asked, "main", table(18), quiet=True)

    assert adapter(broken) == adapter(whole)


@pytest.mark.usefixtures("exact_arithmetic")
def test_one_large_batch_trains_like_many_small_ones(tiny_model: Path, tmp_path: Path) -> None:
    losses, make = [], stage_module.make_plan
    for micro in (4, 1):
        run = Run(tmp_path / str(micro))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                stage_module, "make_plan", lambda *a, m=micro, **k: dataclasses.replace(make(*a, **k), micro_batch=m)
            )
            train_arm(run, recipe(tiny_model), "main", table(12), quiet=True)
        losses.append([line["loss"] for line in log_lines(run)])

    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_rows_without_an_answer_are_counted_and_the_others_trained(tiny_model: Path, tmp_path: Path) -> None:
    rows = pa.concat_tables([table(6), pa.Table.from_pylist([row(6, "no answer", None)], table(1).schema)])

    summary = train_arm(Run(tmp_path), recipe(tiny_model, epochs=1), "main", rows, quiet=True)

    fates = pq.read_table(Run(tmp_path).train("main") / "tokens.parquet")["dropped"].to_pylist()
    assert (summary["rows"], summary["dropped"]) == (6, 1)
    assert fates == [None] * 6 + ["no_answer"]


def test_a_limit_that_cuts_rows_warns_with_the_length_that_would_not(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    longest = forecast_arm(recipe(tiny_model), table(6)).plan.max_length

    train_arm(Run(tmp_path), recipe(tiny_model, epochs=1, max_length=longest - 1), "main", table(6), quiet=True)

    assert f"{longest} would keep them whole" in caplog.text


def test_nothing_to_train_on_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    rows = pa.Table.from_pylist([row(0, "no answer", None)], table(1).schema)

    with pytest.raises(DataError, match="no row can be trained on"):
        train_arm(Run(tmp_path), recipe(tiny_model), "main", rows, quiet=True)


def test_a_loss_that_is_no_number_stops_and_names_the_rows(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="no longer a number") as caught:
        train_arm(Run(tmp_path), recipe(tiny_model, lr=1e30), "main", table(18), quiet=True)

    assert "-0000-0" in str(caught.value.where)


def test_target_modules_that_do_not_exist_are_a_recipe_error(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="LoRA cannot be put"):
        train_arm(Run(tmp_path), recipe(tiny_model, target_modules=["nope"]), "main", table(4), quiet=True)


def test_training_writes_nothing_to_stdout(tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train_arm(Run(tmp_path), recipe(tiny_model, epochs=1), "main", table(4), quiet=True)

    assert capfd.readouterr().out == ""


def test_after_a_loss_that_is_no_number_training_goes_on_from_the_last_good_checkpoint(
    undisturbed: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tamis.train import sft

    run, loss, calls = Run(tmp_path), sft.labelled_loss, iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr(sft, "labelled_loss", lambda *a: loss(*a) * (float("nan") if next(calls) == 5 else 1))
        with pytest.raises(StageFailed, match="no longer a number") as caught:
            train_arm(run, recipe(tiny_model), "main", table(18), quiet=True)
    assert "step" in str(caught.value.where)
    assert latest_checkpoint(run.train("main") / "checkpoints") is not None

    train_arm(run, recipe(tiny_model), "main", table(18), quiet=True)

    assert adapter(run) == adapter(undisturbed)


def test_a_template_that_renders_no_row_is_named_as_the_reason(tiny_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "chat_template.jinja").write_text("{{ raise_exception('not today') }}")

    with pytest.raises(DataError, match="no row can be trained on") as caught:
        train_arm(Run(tmp_path / "run"), recipe(model), "main", table(4), quiet=True)

    assert "template" in str(caught.value.why)


def test_rows_longer_than_the_context_are_cut_to_it_counted_and_trained(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = ["a long answer " * 60, "short", "short too", "short as well"]
    rows = pa.Table.from_pylist([row(i, "why", answer) for i, answer in enumerate(answers)], table(1).schema)

    summary = train_arm(Run(tmp_path), recipe(tiny_model, epochs=1), "main", rows, quiet=True)

    fates = pq.read_table(Run(tmp_path).train("main") / "tokens.parquet").to_pylist()
    assert read_json(Run(tmp_path).train("main") / "plan.json")["max_length"] == 256  # what the model reads
    assert (summary["truncated"], fates[0]["tokens"] - fates[0]["truncated"]) == (1, 256)
    assert f"{fates[0]['tokens']} would keep them whole" in caplog.text


def test_a_label_that_answers_have_no_room_for_is_said_before_training(tiny_model: Path, tmp_path: Path) -> None:
    long = table(4, labels=["refund", "a label of far too many words for so short an answer"])
    needed = max(trained_tokens(tiny_model, long))
    alone = recipe(tiny_model, epochs=1)
    evaluated = alone.changed({"eval": {"path": "items.jsonl"}})

    (warning,) = forecast_arm(alone, long).plan.warnings
    assert f"set evaluate.task.max_tokens: {needed}" in warning
    for work in (forecast_arm, lambda r, rows: train_arm(Run(tmp_path), r, "main", rows, quiet=True)):
        with pytest.raises(RecipeError, match="'a label of far too many words") as caught:
            work(evaluated, long)
        assert f"set evaluate.task.max_tokens: {needed}" in str(caught.value.hint)
    assert not (Run(tmp_path).train("main") / "log.jsonl").exists()
    assert forecast_arm(evaluated.changed({"evaluate.task.max_tokens": needed}), long).plan.warnings == ()


def trained_tokens(model: Path, rows: pa.Table) -> list[int]:
    from tamis.train.stage import labels_of_arm

    return [labelled.trained for labelled in labels_of_arm(recipe(model), rows)[1]]


def test_a_base_that_is_not_causal_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration

    from tests.conftest import build_tokenizer

    sizes = {"vocab_size": 512, "hidden_size": 32, "intermediate_size": 64}
    bert = BertForMaskedLM(BertConfig(num_hidden_layers=1, num_attention_heads=2, **sizes))
    t5 = T5ForConditionalGeneration(T5Config(vocab_size=512, d_model=32, d_ff=64, num_layers=1, num_heads=2, d_kv=16))
    for name, model in (("bert", bert), ("t5", t5)):
        model.save_pretrained(tmp_path / name)
        build_tokenizer(tmp_path / name)
        with pytest.raises(RecipeError, match="causal language model"):
            train_arm(Run(tmp_path / "run"), recipe(tmp_path / name, epochs=1), "main", table(4), quiet=True)


@pytest.mark.parametrize("wrong", ["misspelt", "half downloaded", "an adapter"])
def test_a_base_that_cannot_be_one_stops_before_anything_is_written(
    undisturbed: Run, tiny_model: Path, tmp_path: Path, wrong: str
) -> None:
    base = tmp_path / "SmolLM2-135M-Instuct"
    if wrong == "half downloaded":
        shutil.copytree(tiny_model, base)
        (base / "model.safetensors").rename(base / "model-00001-of-00002.safetensors")
        index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
        (base / "model.safetensors.index.json").write_text(json.dumps(index))
    if wrong == "an adapter":
        shutil.copytree(undisturbed.train("main") / "adapter", base)
    told = {"misspelt": "no", "half downloaded": "only half there", "an adapter": "this is an adapter"}

    with pytest.raises(RecipeError, match=told[wrong]):
        train_arm(Run(tmp_path / "run"), recipe(base), "main", table(4), quiet=True)

    assert not (tmp_path / "run").exists()


def test_weights_that_end_early_are_said_to_be_unreadable(tiny_model: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    whole = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(RecipeError, match="does not load"):
        train_arm(Run(tmp_path / "run"), recipe(base), "main", table(4), quiet=True)


FULL = """
    import os, subprocess, sys
    from pathlib import Path
    from tamis.errors import StageFailed
    from tamis.run import Run
    from tests.train.making_rows import recipe, table
    from tamis.train.sft import latest_checkpoint
    from tamis.train.stage import train_arm

    model, disk = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        train_arm(Run(disk), recipe(model, save_steps=1), "main", table(18), quiet=True)
    except StageFailed as error:
        print(error)
    print("checkpoint", latest_checkpoint(Run(disk).train("main") / "checkpoints"))
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    train_arm(Run(disk), recipe(model), "main", table(18), quiet=True)
    subprocess.run(["cp", "-r", Run(disk).train("main") / "adapter", sys.argv[3]], check=True)
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_while_saving_leaves_the_checkpoint_before_whole(
    undisturbed: Run, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    private = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=500k none "$0" && exec "$@"', tmp_path / "disk"]
    if not shutil.which("unshare") or subprocess.run([*private, "true"], check=False).returncode:
        pytest.skip("no disk of our own can be mounted here")

    done = python(FULL, tiny_model, tmp_path / "disk", tmp_path / "adapter", before=private)

    assert done.returncode == 0, done.stderr
    assert "the disk is full" in done.stdout
    assert "checkpoint-" in done.stdout
    assert files(tmp_path / "adapter") == adapter(undisturbed)
