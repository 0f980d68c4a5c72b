"""Baselines that a fine-tuned language model has to beat to be worth its price.

`majority` always says the commonest label of the training rows; `nearest` the label of the nearest training row;
`linear` is logistic regression on embeddings of the training rows. All see the very rows the arm was trained on.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tamis.embed import choose, embed
from tamis.errors import RecipeError
from tamis.evaluate.systems import Answered, Reply, Setting, Timing, text_length
from tamis.evaluate.task import Item
from tamis.prompt import expected
from tamis.record import json_sha256, prompt_of

Predict = Callable[[Sequence[str]], list[str]]


@dataclasses.dataclass
class Baseline:
    """A classifier or regressor that is no language model."""

    name: str
    details: dict[str, Any]
    predict: Predict

    @classmethod
    def fit(cls, name: str, setting: Setting, encoder: str | None = None) -> Baseline:
        """Fit a baseline on the arm's training rows.

        Args:
            name: `majority`, `nearest` or `linear`.
            setting: its training rows, labels and seed count.
            encoder: what embeds the texts; None: the recipe's embedder.

        Raises:
            RecipeError: the task is not to classify, or the training rows are not known.
        """
        require_labels(name, f"the baseline {name!r}", setting)
        texts, labels = training(name, setting)
        seed = setting.recipe.seed_for("evaluate.baselines")
        if name == "majority":
            top = max(sorted(set(labels)), key=collections.Counter(labels).__getitem__)
            return cls(name, {"label": top, "rows": len(labels)}, lambda asked: [top] * len(asked))
        embed, about = embedder(setting, texts, encoder)
        known = embed(texts)
        predict = _nearest(known, labels, embed) if name == "nearest" else _linear(known, labels, embed, seed)
        return cls(name, {**about, "rows": len(labels)}, predict)

    def about(self) -> dict[str, Any]:
        """Provenance."""
        import sklearn

        return {
            "engine": f"scikit-learn {sklearn.__version__}",
            "device": "cpu",
            "remote": False,
            "model": {"name": self.name, **self.details},
            "model_sha256": json_sha256([self.name, self.details]),
            "decoding": {"strategy": "classifier"},
            "decoding_sha256": json_sha256("classifier"),
            "template_sha256": json_sha256("no template"),
            "adapter": None,
            "load": {"arrival": "closed", "concurrency": 1},
        }

    def prepare(self, items: Sequence[Item]) -> None:
        """Warm up."""
        self.predict([items[0].text])

    def length(self, item: Item) -> int:
        """Bytes."""
        return text_length(item)

    def answer(self, batch: Sequence[Item]) -> Answered:
        """Labels for a batch."""
        started = time.perf_counter()
        said = self.predict([i.text for i in batch])
        seconds = time.perf_counter() - started
        return Answered([reply(i, label) for i, label in zip(batch, said, strict=True)], seconds)

    def timed(self, item: Item) -> Timing:
        """One label."""
        started = time.perf_counter()
        self.predict([item.text])
        done = time.perf_counter() - started
        return Timing(done, done, None, None)

    def close(self) -> None:
        """Nothing to free."""


def require_labels(name: str, what: str, setting: Setting) -> None:
    """Refuse tasks whose answers are no labels.

    Args:
        name: of the system.
        what: the system, as the sentence begins.
        setting: with the task.

    Raises:
        RecipeError: the task is not to classify.
    """
    if setting.reader.kind != "classify":
        raise RecipeError(
            f"{what} answers with labels only",
            where="evaluate.systems",
            why=f"evaluate.task.kind is {setting.reader.kind}",
            hint=f"leave {name!r} out",
        )


def training(name: str, setting: Setting) -> tuple[list[str], list[str]]:
    """Texts and labels of the arm's training rows.

    Raises:
        RecipeError: there are none.
    """
    task = setting.recipe.evaluate.task
    rows = [] if setting.train_rows is None else setting.train_rows.select(["messages", "label"]).to_pylist()
    pairs = [(prompt_of(r["messages"]), expected(r["messages"], r["label"], task)) for r in rows]
    pairs = [(text, label) for text, label in pairs if label]
    if not pairs:
        raise RecipeError(
            f"the baseline {name!r} needs training rows with labels",
            where="evaluate.systems",
            why="none are known for this arm",
            hint=f"run the whole recipe (tamis run RECIPE), or leave {name!r} out",
        )
    return [text for text, _ in pairs], [label for _, label in pairs]


def reply(item: Item, label: str) -> Reply:
    """The answer of a system that is given the bare text of an item and names a label."""
    digest = hashlib.sha256(item.text.encode("utf-8", "surrogatepass")).hexdigest()
    return Reply(item.text, digest, label)


def embedder(
    setting: Setting, training: list[str], encoder: str | None = None
) -> tuple[Callable[[Sequence[str]], Any], dict[str, Any]]:
    """Unit vectors of texts, and what made them: a sentence encoder, else character TF-IDF.

    `auto` goes by language, as in curation. Character TF-IDF, fitted on the training rows, stands in for `lsa`: the
    reduction would have to be fitted on rows it is then tested on.
    """
    english = sum((i.language or "en") == "en" for i in setting.items) / len(setting.items)
    name = choose(encoder or setting.recipe.embedder, np.array([len(text) for text in training]), english)
    if name != "lsa":
        return lambda texts: embed(list(texts), name), {"embedder": name}
    from sklearn.feature_extraction.text import TfidfVectorizer

    made = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, dtype=np.float32).fit(training)
    return lambda texts: made.transform(texts), {"embedder": "character TF-IDF, 2 to 5"}


def _nearest(known: Any, labels: list[str], embed: Callable[[Sequence[str]], Any]) -> Predict:
    def predict(texts: Sequence[str]) -> list[str]:
        similarity = embed(texts) @ known.T
        dense = np.asarray(similarity.todense() if hasattr(similarity, "todense") else similarity)
        return [labels[i] for i in dense.argmax(axis=1)]

    return predict


def _linear(known: Any, labels: list[str], embed: Callable[[Sequence[str]], Any], seed: int) -> Predict:
    from sklearn.linear_model import LogisticRegression

    if len(set(labels)) == 1:
        return lambda texts: [labels[0]] * len(texts)
    # C = 10: unit vectors are short, so the default of 1 shrinks the weights to uselessness
    model = LogisticRegression(C=10.0, max_iter=2000, random_state=seed).fit(known, labels)
    return lambda texts: [str(label) for label in model.predict(embed(texts))]
