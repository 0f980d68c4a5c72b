"""Exports: they answer like what was evaluated, or there is none."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tamis.errors import EvidenceError, RecipeError, UserError
from tamis.run import Run, file_sha256
from tamis.schema import read_json, write_json
from tests.train.making_rows import files, python, recipe, table

torch = pytest.importorskip("torch")

from tamis.models import load_adapter, load_model, resolve, weights_sha256  # noqa: E402
from tamis.train import export as export_module  # noqa: E402
from tamis.train.export import export_arm  # noqa: E402
from tamis.train.labels import Row  # noqa: E402
from tamis.train.merge import merge  # noqa: E402
from tamis.train.parity import answer_logprobs, compare, drawn  # noqa: E402
from tamis.train.stage import train_arm  # noqa: E402

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def trained(model: Path, folder: Path, **train: Any) -> tuple[Run, Any]:
    """A run with one trained arm, tuned far enough for its answers to be its own."""
    asked = recipe(model, **{"epochs": 3, "lr": 5e-3} | train)
    run = Run(folder)
    train_arm(run, asked, "main", table(20), quiet=True)
    return run, asked


@pytest.fixture(scope="module")
def arm(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Any]:
    return trained(tiny_model, tmp_path_factory.mktemp("arm"))


def exported(arm: tuple[Run, Any], output: Path, to: str = "merged") -> dict[str, Any]:
    run, asked = arm
    return export_arm(run, asked, "main", [table(20)], to=to, output=output)


@pytest.fixture(scope="module")
def merged(arm: tuple[Run, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "merged"
    exported(arm, folder)
    return folder


def test_the_manifest_names_every_file_with_its_hash(merged: Path) -> None:
    manifest = read_json(merged / "manifest.json")

    found = {str(p.relative_to(merged)): file_sha256(p) for p in merged.rglob("*") if p.is_file()}
    found.pop("manifest.json")
    assert {name: told["sha256"] for name, told in manifest["files"].items()} == found
    assert {"model.safetensors", "tokenizer.json", "generation_config.json", "README.md", "serve.sh", "Modelfile"} <= {
        *found
    }
    assert (merged / "chat_template.jinja").is_file()
    assert manifest["parity"]["holds"]
    assert manifest["data"]["rows"] == 20


def test_exporting_twice_gives_the_same_bytes(arm: tuple[Run, Any], merged: Path, tmp_path: Path) -> None:
    exported(arm, tmp_path / "again")

    assert files(tmp_path / "again") == files(merged)


def test_weights_are_bf16_and_no_file_names_a_place_on_this_machine(
    arm: tuple[Run, Any], merged: Path, tiny_model: Path
) -> None:
    from safetensors.torch import load_file

    assert {t.dtype for t in load_file(merged / "model.safetensors").values()} == {torch.bfloat16}
    for name, content in files(merged).items():
        assert str(tiny_model).encode() not in content, name
        assert str(arm[0].path).encode() not in content, name


def test_the_dequantised_merge_is_twenty_times_closer_than_the_original_base(
    arm: tuple[Run, Any], merged: Path, tiny_model: Path
) -> None:
    run, asked = arm
    rows = export_module._rows(resolve(str(tiny_model)), asked, run.train("main"), [table(20)])

    def logprobs(model: Any) -> list[Any]:
        return answer_logprobs(model.float(), rows)

    adapter = run.train("main") / "adapter"
    expected = logprobs(load_adapter(load_model(str(tiny_model), "nf4", unpacked=True), adapter))
    right = compare(expected, logprobs(load_model(str(merged))))
    wrong = compare(expected, logprobs(load_adapter(load_model(str(tiny_model)), adapter)))
    untuned = compare(expected, logprobs(load_model(str(tiny_model), "nf4", unpacked=True)))

    assert right.kl < 0.001
    assert right.kl * 20 < wrong.kl < untuned.kl
    assert right.holds
    assert not wrong.holds


def test_an_export_that_answers_otherwise_is_refused_and_leaves_the_earlier_one(
    arm: tuple[Run, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(arm, tmp_path / "out")
    before = files(tmp_path / "out")

    def beside_the_original(model: Any, recipe: Any, adapter: Path, identity: Any) -> Any:
        return load_adapter(load_model(model), adapter).merge_and_unload()

    monkeypatch.setattr(export_module, "_merged", beside_the_original)
    with pytest.raises(EvidenceError, match="does not answer like") as caught:
        exported(arm, tmp_path / "out")

    assert int(caught.value.exit_code) == 4
    assert "KL" in str(caught.value.why)
    assert files(tmp_path / "out") == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("to", ["merged_4bit", "nf4", "merged-4bit"])
def test_a_merge_into_4_bits_is_refused_with_the_reason(arm: tuple[Run, Any], tmp_path: Path, to: str) -> None:
    with pytest.raises(RecipeError, match="4 bits is refused") as caught:
        exported(arm, tmp_path / "out", to)

    assert "survives" in str(caught.value.why)


def test_no_way_leads_into_a_model_held_in_4_bits(arm: tuple[Run, Any], tiny_model: Path) -> None:
    tuned = load_adapter(load_model(str(tiny_model), "nf4"), arm[0].train("main") / "adapter")

    with pytest.raises(RecipeError, match="4 bits is refused"):
        merge(tuned, load_model(str(tiny_model), "nf4"))


def test_generation_stops_where_training_did(arm: tuple[Run, Any], merged: Path) -> None:
    config = json.loads((merged / "generation_config.json").read_text())

    assert config["eos_token_id"] == [2]
    assert config["do_sample"] is False


# ------------------------------------------------------------------------------------------------- the adapter


def test_an_adapter_of_a_quantised_base_brings_that_base_along(arm: tuple[Run, Any], tmp_path: Path) -> None:
    told = exported(arm, tmp_path / "out", "adapter")

    folder = tmp_path / "out"
    assert told["shipped"] == "with base"
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    assert read_json(folder / "tamis.json")["base_sha256"] == weights_sha256(folder / "base")
    load_adapter(load_model(str(folder / "base")), folder)  # refused, were it another base


def as_from(source: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the model count as one that was found elsewhere; its weights are those of the folder."""
    find = resolve

    def found(asked: str, **options: Any) -> Any:
        model = find(asked, **options)
        return dataclasses.replace(model, source=source, name=name) if asked != name else model

    monkeypatch.setattr(export_module, "resolve", found)


def test_an_adapter_trained_on_the_packaged_base_never_names_the_hubs(
    arm: tuple[Run, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_from("packaged", SMOL, monkeypatch)

    exported(arm, tmp_path / "out", "adapter")

    for name, content in files(tmp_path / "out").items():
        if name not in ("README.md", "manifest.json", "tamis.json"):  # which say where it comes from
            assert SMOL.encode() not in content, name
    assert "It is not the hub's model of that name" in (tmp_path / "out" / "README.md").read_text()
    assert "base_model:" not in (tmp_path / "out" / "README.md").read_text()
    assert (tmp_path / "out" / "base" / "model.safetensors").is_file()


def test_an_adapter_beside_the_hubs_own_weights_names_them_with_their_revision(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = shutil.copytree(tiny_model, tmp_path / "0123abcd")
    arm = trained(snapshot, tmp_path / "run", method="lora", quantisation="none")
    as_from("hub", "someone/some-model", monkeypatch)

    told = exported(arm, tmp_path / "out", "adapter")

    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("someone/some-model", "0123abcd")
    assert told["shipped"] == "with hub"
    assert not (tmp_path / "out" / "base").exists()
    assert "base_model: someone/some-model" in (tmp_path / "out" / "README.md").read_text()


def test_full_tuning_exports_whole_weights_and_has_no_adapter(tiny_model: Path, tmp_path: Path) -> None:
    arm = trained(tiny_model, tmp_path / "run", method="full", quantisation="none", lr=1e-3)

    told = exported(arm, tmp_path / "out")

    assert told["shipped"] == "full"
    assert told["parity"]["kl"] < 1e-6
    with pytest.raises(RecipeError, match="no adapter to export"):
        exported(arm, tmp_path / "other", "adapter")


# ------------------------------------------------------------------------------------------- whole or not at all

CHILD = """
    import os, signal, sys
    from pathlib import Path
    from tamis.run import Run
    from tests.train.making_rows import recipe, table
    from tamis.train import export

    model, folder, output, when = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    if when == "weights":
        export._parity = die
    if when == "manifest":
        export._sealed = die
    export.export_arm(Run(folder), recipe(Path(model), epochs=3, lr=5e-3), "main", [table(20)], output=output)
"""


@pytest.mark.parametrize("when", ["weights", pytest.param("manifest", marks=pytest.mark.slow)])
def test_a_kill_leaves_no_folder_of_that_name_and_the_same_command_makes_the_same_export(
    arm: tuple[Run, Any], merged: Path, tiny_model: Path, tmp_path: Path, when: str
) -> None:
    died = python(CHILD, tiny_model, arm[0].path, tmp_path / "out", when)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not (tmp_path / "out").exists()

    exported(arm, tmp_path / "out")

    assert files(tmp_path / "out") == files(merged)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


FULL = """
    import os, subprocess, sys
    from pathlib import Path
    from tamis.errors import StageFailed
    from tamis.run import Run
    from tests.train.making_rows import recipe, table
    from tamis.train.export import export_arm

    model, folder, disk = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    try:
        export_arm(Run(folder), recipe(model, epochs=3, lr=5e-3), "main", [table(20)], output=disk / "out")
    except StageFailed as error:
        print(error)
    print(sorted(os.listdir(disk)))
"""


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_and_says_so(arm: tuple[Run, Any], tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    private = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=100k none "$0" && exec "$@"', tmp_path / "disk"]
    if not shutil.which("unshare") or subprocess.run([*private, "true"], check=False).returncode:
        pytest.skip("no disk of our own can be mounted here")

    done = python(FULL, tiny_model, arm[0].path, tmp_path / "disk", before=private)

    assert done.returncode == 0, done.stderr
    assert "the disk is full" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_only_an_earlier_export_is_replaced(arm: tuple[Run, Any], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("irreplaceable")

    with pytest.raises(UserError, match="something else in the way"):
        exported(arm, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "irreplaceable"

    exported(arm, tmp_path / "out")
    (tmp_path / "out" / "stale.bin").write_text("of the export before")
    exported(arm, tmp_path / "out")
    assert not (tmp_path / "out" / "stale.bin").exists()


def test_an_arm_that_is_not_trained_cannot_be_exported(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is not trained"):
        export_arm(Run(tmp_path), recipe(tiny_model), "main", [table(2)])


def test_an_adapter_of_another_base_is_not_exported(arm: tuple[Run, Any], other_model: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="another base model"):
        export_arm(arm[0], recipe(other_model), "main", [table(20)], output=tmp_path / "out")

    assert list(tmp_path.iterdir()) == []


def test_without_a_row_to_compare_on_nothing_is_exported(arm: tuple[Run, Any], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no row to compare"):
        export_arm(arm[0], arm[1], "main", [], output=tmp_path / "out")


# ----------------------------------------------------------------------------------------------- what lies beside


def test_the_start_script_serves_the_folder_on_this_machine_only(merged: Path, tmp_path: Path) -> None:
    for name in ("vllm", "transformers"):
        (tmp_path / name).write_text('#!/bin/sh\nprintf "%s|" "$PWD" "$@"\n')
        (tmp_path / name).chmod(0o755)
    told = {}
    for engine in ("vllm", "transformers"):
        done = subprocess.run(
            ["sh", str(merged / "serve.sh"), engine],
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PORT": "8123"},
            capture_output=True,
            text=True,
            check=True,
        )
        told[engine] = done.stdout.rstrip("|").split("|")

    assert all(words[:3] == [str(merged), "serve", "."] for words in told.values())
    assert all(words[words.index("--host") + 1] == "127.0.0.1" for words in told.values())
    assert all(words[words.index("--port") + 1] == "8123" for words in told.values())
    assert '{"temperature": 0}' in told["vllm"]


def test_the_card_says_how_to_ask_what_was_trained_and_how_far_to_trust_it(merged: Path) -> None:
    card = (merged / "README.md").read_text()

    assert "    Message: {prompt}\n    Intent:\n" in card
    assert "Not evaluated" in card
    assert "held in nf4" in card
    assert "greedy agreement" in card or "agree on the most likely" in card


def test_the_card_takes_the_metrics_and_the_verdict_from_the_run(arm: tuple[Run, Any], tmp_path: Path) -> None:
    run = Run(shutil.copytree(arm[0].path, tmp_path / "run"))
    accuracy = {"value": 0.78, "lower": 0.74, "upper": 0.82, "n": 450, "unit": None}
    write_json(run.evaluate("main", "tuned") / "metrics.json", {"metrics": {"accuracy": accuracy}})
    write_json(run.evaluate("main", "tuned") / "stage.json", {"fingerprint": "x"})
    write_json(run.verdict, {"arms": {"main": {"verdict": "FAIL"}}})

    exported((run, arm[1]), tmp_path / "out")

    card = (tmp_path / "out" / "README.md").read_text()
    assert "| `tuned` | accuracy | 0.78 | 0.74 to 0.82 | 450 |" in card
    assert "**FAIL**" in card


# --------------------------------------------------------------------------------------------------- the measure


def logp(*rows: list[float]) -> list[Any]:
    return [torch.tensor(rows).softmax(-1).log()]


def test_divergence_and_agreement_are_what_they_are_called() -> None:
    same = compare(logp([2.0, 0.0], [0.0, 1.0]), logp([2.0, 0.0], [0.0, 1.0]))
    other = compare(logp([2.0, 0.0], [0.0, 1.0]), logp([0.0, 2.0], [0.0, 1.0]))
    tied = compare(logp([1.0, 0.999]), logp([0.999, 1.0]))

    assert (same.kl, same.agreement, same.tokens, same.holds) == (0.0, 1.0, 2, True)
    p = 1 / (1 + torch.e**-2)
    assert other.kl == pytest.approx((p * 2 - (1 - p) * 2) / 2, rel=1e-5)
    assert (other.agreement, other.holds) == (0.5, False)
    assert (tied.agreement, tied.ties) == (1.0, 1)
    assert not compare([], []).holds


def test_rows_are_drawn_until_there_are_enough_answer_tokens_in_an_order_of_their_content() -> None:
    def row(name: str, trained: int, dropped: str | None = None) -> Row:
        return Row(name, [1], [1], 1, trained, 0, dropped)

    many = [row(f"{i:04d}", 4) for i in range(1000)]
    assert len(drawn(many)) == 250  # 1,000 tokens
    assert drawn(many[::-1]) == drawn(many)
    assert len(drawn([row(f"{i:04d}", 1) for i in range(1000)])) == 256
    assert [r.id for r in drawn([row("b", 1), row("a", 0, "too_long")], [row("a", 1)])] == ["b", "a"]
    assert len(drawn(many, many)) == 250
