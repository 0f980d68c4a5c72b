"""An encoder fine-tuned whole, with a classification head: what BERT and its kin are for.

As Devlin et al. do it (2019, arXiv:1810.04805, appendix A.3: AdamW, warm-up, linear decay), with enough steps for few
rows, as Mosbach, Andriushchenko and Klakow advise (2021, arXiv:2006.04884: 20 epochs; 3 on a thousand rows are too
few). The rate is for encoders of MiniLM's size, which need a higher one than BERT's 2e-5 to 5e-5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tamis.embed import packaged
from tamis.errors import RecipeError, require
from tamis.evaluate.baselines import Baseline, require_labels, training
from tamis.evaluate.systems import Setting
from tamis.models import best_device

BATCH = 16
EPOCHS = 20
FEWEST_STEPS, MOST_STEPS = 300, 3000
RATE = 2e-4
WINDOW = 256  # tokens of a text that are read
ASKED = 64  # texts in one forward pass


def tuned(encoder: str, setting: Setting) -> Baseline:
    """Fine-tune an encoder on the arm's training rows.

    Args:
        encoder: a folder, a hub name, or the packaged MiniLM's.
        setting: its training rows, labels and seed count.

    Raises:
        RecipeError: the task is not to classify, the training rows are not known, or there is no such encoder.
        MissingExtra: torch or transformers is not installed.
    """
    require(("torch", "transformers"), "train", "fine-tuning an encoder")
    name = f"{encoder}, tuned"
    require_labels(name, f"the baseline {name!r}", setting)
    texts, labels = training(name, setting)
    classes = sorted(set(labels))
    tokenizer, model = _loaded(encoder, len(classes), setting.recipe.seed_for("evaluate.encoder"))
    steps = _train(tokenizer, model, texts, [classes.index(label) for label in labels], setting)

    def predict(asked: Sequence[str]) -> list[str]:
        return [classes[i] for i in _places(tokenizer, model, asked)]

    details = {"encoder": encoder, "tuned": True, "steps": steps, "rate": RATE, "batch": BATCH, "rows": len(texts)}
    return Baseline("encoder", details, predict)


def _loaded(encoder: str, classes: int, seed: int) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from tamis.models import without_progress_bars

    torch.manual_seed(seed)  # the head starts at random
    place = str(packaged(encoder) or encoder)
    try:
        with without_progress_bars():
            model = AutoModelForSequenceClassification.from_pretrained(place, num_labels=classes)
        return AutoTokenizer.from_pretrained(place), model.to(best_device())
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"the encoder {encoder!r} cannot be loaded", why=str(error).splitlines()[0], hint="name a folder"
        ) from None


def _train(tokenizer: Any, model: Any, texts: list[str], places: list[int], setting: Setting) -> int:
    """All weights, shuffled epochs by seed; returns the steps taken."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    seed = setting.recipe.seed_for("evaluate.encoder")
    order = torch.Generator().manual_seed(seed)
    steps = min(MOST_STEPS, max(FEWEST_STEPS, EPOCHS * len(texts) // BATCH))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    model.train()
    waiting: list[int] = []
    for _ in range(steps):
        if len(waiting) < min(BATCH, len(texts)):
            waiting = torch.randperm(len(texts), generator=order).tolist()
        batch, waiting = waiting[:BATCH], waiting[BATCH:]
        answer = torch.as_tensor([places[i] for i in batch], device=model.device)
        loss = model(**_tokens(tokenizer, model, [texts[i] for i in batch]), labels=answer).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()
    return steps


def _places(tokenizer: Any, model: Any, texts: Sequence[str]) -> list[int]:
    import torch

    found: list[int] = []
    with torch.inference_mode():
        for start in range(0, len(texts), ASKED):
            logits = model(**_tokens(tokenizer, model, list(texts[start : start + ASKED]))).logits
            found += logits.argmax(-1).tolist()
    return found


def _tokens(tokenizer: Any, model: Any, texts: list[str]) -> Any:
    return tokenizer(texts, padding=True, truncation=True, max_length=WINDOW, return_tensors="pt").to(model.device)
