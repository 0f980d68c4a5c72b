"""An encoder with a classification head, fine-tuned elsewhere, as a system: `{name: bert, model: FOLDER}`.

Recognised by its configuration (`...ForSequenceClassification`). Often the honest rival of a language model on a closed
set of labels: a hundredth of the weights, one forward pass, no decoding.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tamis.errors import RecipeError
from tamis.evaluate.baselines import reply, require_labels
from tamis.evaluate.systems import Answered, Setting, Timing, text_length
from tamis.evaluate.task import Item, folded
from tamis.models import ResolvedModel, best_device, resolve
from tamis.record import json_sha256
from tamis.schema import read_json

HEAD = "ForSequenceClassification"


def is_encoder(model: ResolvedModel) -> bool:
    """Whether a model's own configuration says that it classifies sequences. Imports nothing heavy."""
    try:
        named = read_json(model.path / "config.json").get("architectures") or []
    except (OSError, ValueError):
        return False
    return any(str(name).endswith(HEAD) for name in named)


class Encoder:
    """A sequence classifier. It is given the bare text of an item, without the task's template, and truncates it."""

    def __init__(self, name: str, model: str, setting: Setting):
        self.name, self.setting = name, setting
        self.resolved = resolve(model, trust_remote_code=setting.recipe.train.trust_remote_code)
        require_labels(name, repr(name), setting)
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        where = str(self.resolved.path)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(where)
            self.model: Any = AutoModelForSequenceClassification.from_pretrained(where).float().eval()
        except (OSError, ValueError, ImportError) as error:
            why = str(error).split("\n")[0]
            raise RecipeError("the classifier cannot be loaded", where=where, why=why) from None
        self.model.to(best_device())
        self.labels = [str(self.model.config.id2label[i]) for i in range(self.model.config.num_labels)]
        self._require_labels(where)
        self.window = self._window()

    def _require_labels(self, where: str) -> None:
        """A head with names of its own (LABEL_0) would be wrong on every item, and look like a bad model."""
        known = {folded(label) for label in self.setting.reader.labels}
        if not known & {folded(label) for label in self.labels}:
            raise RecipeError(
                "the classifier's labels are not those of the task",
                where=str(Path(where) / "config.json"),
                why=f"it answers with {', '.join(self.labels[:3])}; the task has "
                f"{', '.join(self.setting.reader.labels[:3])}",
                hint="write the task's labels into id2label",
            )

    def _window(self) -> int:
        most = getattr(self.model.config, "max_position_embeddings", None) or 512
        return min(int(most), int(min(self.tokenizer.model_max_length, 1_000_000)))

    def about(self) -> dict[str, Any]:
        """Provenance."""
        import transformers

        return {
            "engine": f"transformers {transformers.__version__}",
            "device": str(self.model.device),
            "remote": False,
            "model": {"name": self.resolved.name, "source": self.resolved.source, "labels": len(self.labels)},
            "model_sha256": self.resolved.sha256,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "decoding": {"strategy": "classifier", "window": self.window},
            "decoding_sha256": json_sha256("classifier"),
            "template_sha256": json_sha256("no template"),
            "adapter": None,
            "load": {"arrival": "closed", "concurrency": 1},
        }

    def prepare(self, items: Sequence[Item]) -> None:
        """Warm up."""
        self._predict([items[0].text])

    def length(self, item: Item) -> int:
        """Bytes."""
        return text_length(item)

    def answer(self, batch: Sequence[Item]) -> Answered:
        """The likeliest label of each item."""
        started = time.perf_counter()
        said = self._predict([i.text for i in batch])
        seconds = time.perf_counter() - started
        return Answered([reply(i, label) for i, label in zip(batch, said, strict=True)], seconds)

    def timed(self, item: Item) -> Timing:
        """One label."""
        started = time.perf_counter()
        self._predict([item.text])
        done = time.perf_counter() - started
        return Timing(done, done, None, None)

    def close(self) -> None:
        """Free the model."""
        del self.model

    def _predict(self, texts: list[str]) -> list[str]:
        import torch

        given = self.tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=self.window)
        with torch.inference_mode():
            logits = self.model(**given.to(self.model.device)).logits
        return [self.labels[i] for i in logits.argmax(dim=-1).tolist()]
