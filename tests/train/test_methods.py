"""What the recipe says of a method reaches the weights; fp4 and int8 go from training to a checked export too."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tamis.run import Run
from tests.train.making_rows import recipe, table

torch = pytest.importorskip("torch")

from tamis.train.export import export_arm  # noqa: E402
from tamis.train.plan import Plan, make_plan, probe, shape_of  # noqa: E402
from tamis.train.sft import prepare_model  # noqa: E402
from tamis.train.stage import train_arm  # noqa: E402


def planned(model: Path, asked: Any) -> Plan:
    return make_plan(asked.train, shape_of(model), [20] * 8, 40, probe())


def prepared(model: Path, **train: Any) -> Any:
    from tamis.models import resolve

    asked = recipe(model, **train)
    return prepare_model(resolve(str(model)), planned(model, asked), asked.train, 7)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 24 / 4), (True, 24 / math.sqrt(4))])
def test_alpha_is_divided_by_the_rank_or_its_root(tiny_model: Path, rslora: bool, scale: float) -> None:
    from peft.tuners.lora import LoraLayer

    tuned = prepared(tiny_model, r=4, alpha=24, rslora=rslora)
    layers = [m for m in tuned.modules() if isinstance(m, LoraLayer)]

    assert {layer.scaling["default"] for layer in layers} == {scale}
    assert {layer.lora_A["default"].weight.shape[0] for layer in layers} == {4}


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        ("all-linear", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        (["q_proj", "v_proj"], {"q_proj", "v_proj"}),
    ],
)
def test_adapters_stand_where_the_recipe_puts_them(tiny_model: Path, targets: Any, names: set[str]) -> None:
    from peft.tuners.lora import LoraLayer

    tuned = prepared(tiny_model, target_modules=targets)

    assert {n.rpartition(".")[2] for n, m in tuned.named_modules() if isinstance(m, LoraLayer)} == names


@pytest.mark.parametrize("quantisation", ["fp4", "int8"])  # nf4 and none: test_export.py
@pytest.mark.parametrize("to", ["merged", pytest.param("adapter", marks=pytest.mark.slow)])
def test_what_was_trained_beside_is_what_ships(tiny_model: Path, tmp_path: Path, quantisation: str, to: str) -> None:
    # A rate at which a few steps settle what the model says: a random model's likeliest tokens are as good as tied
    asked = recipe(tiny_model, quantisation=quantisation, epochs=1, lr=5e-2)
    run = Run(tmp_path)
    train_arm(run, asked, "main", table(20), quiet=True)

    told = export_arm(run, asked, "main", [table(20)], to=to)

    assert told["parity"]["holds"]
    assert told["training"]["quantisation"] == quantisation
