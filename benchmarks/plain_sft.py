"""A plain TRL script, as its documentation would have you write it: what Tamis's trainer is timed against.

    python benchmarks/plain_sft.py SETTINGS.json      # written by throughput.py and gpu/measure.py

Settings: `model` (a folder), `rows` (a JSONL file that TRL reads as it is), `folder` (gets the adapter), `lora` (null:
all weights are trained), `quantisation` (of BitsAndBytesConfig; null for none), `config` (of SFTConfig; what is not
there stays at TRL's default). Writes `timing.json` (clock times in seconds, peak memory in bytes) into the folder.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer

from tamis.run import peak_memory_mb


class Clock(TrainerCallback):
    """When each step began and ended."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.ended: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began.append(_now())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ended.append(_now())


def _now() -> float:
    if torch.cuda.is_available():  # which is only told what to do
        torch.cuda.synchronize()
    return time.time()


def main(settings: dict[str, Any]) -> None:
    folder, clock = Path(settings["folder"]), Clock()
    config = SFTConfig(output_dir=str(folder), **settings["config"])
    lines = Path(settings["rows"]).read_text(encoding="utf-8").splitlines()
    quantisation = settings["quantisation"] and BitsAndBytesConfig(**settings["quantisation"])
    trainer = SFTTrainer(
        model=settings["model"],
        args=config,
        train_dataset=Dataset.from_list([json.loads(line) for line in lines]),
        peft_config=settings["lora"] and LoraConfig(**settings["lora"]),
        quantization_config=quantisation,
        callbacks=[clock],
    )
    trainer.train()
    trained = time.time()
    trainer.save_model(str(folder / "adapter"))
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    timing = {
        "began": clock.began,
        "ended": clock.ended,
        "trained": trained,
        "losses": losses,
        "tokens": trainer._total_train_tokens if hasattr(trainer, "_total_train_tokens") else None,
        **memory(),
    }
    (folder / "timing.json").write_text(json.dumps(timing))


def memory() -> dict[str, float | None]:
    """Peaks in bytes: what tensors took and what torch held for them on a GPU; resident memory of the process."""
    cuda = torch.cuda.is_available()
    return {
        "allocated": torch.cuda.max_memory_allocated() if cuda else None,
        "reserved": torch.cuda.max_memory_reserved() if cuda else None,
        "resident": peak_memory_mb() * 1e6,
    }


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
