"""The metrics: one registry of pure functions, computed offline.

A metric of answers is a function to *sufficient statistics per item* and one from their sums to the value, so that the
same definition serves the number, its interval, the paired difference and the slice. Percentiles and prices have
entries too, since the gate asks the registry for the unit and for which way is better.

| family | an item gives | interval of the value | of the paired difference |
|---|---|---|---|
| proportion | 0 or 1 | Wilson | Tango |
| mean | a score | clustered t | clustered t of the differences |
| corpus | counts that are summed | cluster bootstrap | paired cluster bootstrap |
| time | a duration | order statistics | from the two intervals |
| load, cost | see `measure.py`, `cost.py` | | from the two intervals |
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tamis.errors import EvidenceError, did_you_mean
from tamis.evaluate import judged
from tamis.intervals import Floats, Statistic

Family = Literal["proportion", "mean", "corpus", "time", "load", "cost"]

PERCENTILES = (50, 75, 90, 95, 99)
DURATIONS = {
    "e2e": "from sending a request to its last content",
    "ttft": "from sending a request to its first content",
    "tpot": "per output token after the first",
}


@dataclasses.dataclass(frozen=True)
class Answers:
    """A system's answers, columns of `schema.SAMPLES` as Python values."""

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @functools.cached_property
    def columns(self) -> dict[str, list[Any]]:
        return {name: self.table.column(name).to_pylist() for name in self.table.column_names}

    def __getitem__(self, name: str) -> list[Any]:
        try:
            return self.columns[name]
        except KeyError:  # a champion may have been promoted without its texts
            raise EvidenceError(f"this evidence holds no column {name!r}", hint="promote it with its outputs") from None

    @property
    def components(self) -> np.ndarray:
        return np.asarray(self["component"], dtype=np.int64)

    @property
    def outputs(self) -> list[str]:
        """Raw outputs; a failed request said nothing."""
        return [text or "" for text in self["output"]]


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        id: the name in recipes, policies and reports.
        direction: whether a higher (`up`) or a lower (`down`) value is better.
        family: decides the interval, see the module.
        what: one sentence for people.
        missing: what an item without output, or an output without answer, means for it.
        unit: None for numbers without one.
        span: least and largest possible value; bounds from Student's t are cut to it.
        rows: sufficient statistics, shape (items, k), or None where the metric does not apply to these answers.
        statistic: sums of shape (m, k) to values of shape (m,); for `corpus` only.
        pseudo: statistics of imagined items for the bootstrap of a bounded metric: `intervals.bootstrap`.
    """

    id: str
    direction: Literal["up", "down"]
    family: Family
    what: str
    missing: str
    unit: str | None = None
    span: tuple[float, float] = (-math.inf, math.inf)
    rows: Callable[[Answers], Floats | None] | None = None
    statistic: Statistic | None = None
    pseudo: Callable[[Answers], Floats] | None = None

    @property
    def quality(self) -> bool:
        """Whether it is computed from the answers themselves."""
        return self.rows is not None


# ------------------------------------------------------------------------------------------------- right or wrong


def _correct(answers: Answers) -> Floats | None:
    return _flags(answers["correct"])


def _parsed(answers: Answers) -> Floats | None:
    return _flags(answers["parsed"])


def _exact(answers: Answers) -> Floats | None:
    if any(e is None for e in answers["expected"]):
        return None
    pairs = zip(answers["output"], answers["expected"], strict=True)
    return _column([o is not None and plain(o) == plain(e) for o, e in pairs])


def _failed(answers: Answers) -> Floats | None:
    return _column([e is not None for e in answers["error"]])


def _cut(answers: Answers) -> Floats | None:
    return _column([f == "length" for f in answers["finish"]])


def _flags(values: list[bool | None]) -> Floats | None:
    """0/1, or None where the task has no right answer. A single item without one spoils the metric: never dropped."""
    return None if not values or any(v is None for v in values) else _column(values)


def _column(values: Sequence[Any]) -> Floats:
    return np.asarray(values, dtype=np.float64).reshape(-1, 1)


def plain(text: str) -> str:
    """Text for comparison: Unicode NFC, white space runs as one space, none at the ends. Case counts."""
    return " ".join(unicodedata.normalize("NFC", text).split())


# --------------------------------------------------------------------------------------------------------- F1


def _confusion(answers: Answers) -> Floats | None:
    """Per item and class of the evaluation set: right, said, true, present (true again, but 0 for imagined items).

    An answer outside the classes is only a miss.
    """
    expected, said = answers["expected"], answers["answer"]
    if any(e is None for e in expected) or _correct(answers) is None:
        return None
    classes = {c: i for i, c in enumerate(sorted(set(expected)))}
    right, claimed, true = (np.zeros((len(expected), len(classes))) for _ in range(3))
    for item, (label, answer) in enumerate(zip(expected, said, strict=True)):
        true[item, classes[label]] = 1
        if answer in classes:
            claimed[item, classes[answer]] = 1
            right[item, classes[answer]] = float(answer == label)
    return np.concatenate([right, claimed, true, true], axis=1)


def _macro_f1(sums: Floats) -> Floats:
    right, said, true, present = np.split(sums, 4, axis=1)
    # A class that a draw of the bootstrap left out has no F1; counting it as 0 would bias every draw downwards.
    there = present > 0
    f1 = np.divide(2 * right, said + true, out=np.zeros_like(right), where=there)
    return np.asarray(f1.sum(axis=1) / np.maximum(there.sum(axis=1), 1))


def _f1_pseudo(answers: Answers) -> Floats:
    """Two imagined items of average class, one right and one wrong: without them, no error means no uncertainty."""
    rows = _confusion(answers)
    assert rows is not None
    share = np.split(rows, 4, axis=1)[2].mean(axis=0)
    return np.stack([np.concatenate([right * share, share, share, 0 * share]) for right in (1.0, 0.0)])


# ----------------------------------------------------------------------------------------------------- numbers


def number(text: str | None) -> float | None:
    """A number as the regress extractor wrote it, or None."""
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _errors(answers: Answers, scale: Callable[[Floats], Floats]) -> Floats | None:
    """Absolute error per item, on a scale. No answer costs as much as the worst constant answer could on that item."""
    expected = [number(e) for e in answers["expected"]]
    if not expected or any(e is None for e in expected):
        return None
    true = scale(np.asarray(expected, dtype=np.float64))
    said = [number(a) for a in answers["answer"]]
    given = scale(np.asarray([math.nan if s is None else s for s in said], dtype=np.float64))
    worst = np.maximum(true - true.min(), true.max() - true)
    return np.where(np.isnan(given), worst, np.abs(given - true)).reshape(-1, 1)


def _absolute(answers: Answers) -> Floats | None:
    return _errors(answers, lambda x: x)


def _log_squares(answers: Answers) -> Floats | None:
    """(squared error of log(1 + x), 1). Undefined below zero, so negative answers count as 0."""
    true = [number(e) for e in answers["expected"]]
    if any(e is None or e < 0 for e in true):
        return None
    errors = _errors(answers, lambda x: np.log1p(np.maximum(x, 0)))
    return None if errors is None else np.concatenate([errors**2, np.ones_like(errors)], axis=1)


def _root_mean(sums: Floats) -> Floats:
    return np.asarray(np.sqrt(sums[:, 0] / sums[:, 1]))


# ------------------------------------------------------------------------------------------------------- texts


def references(answers: Answers) -> list[str] | None:
    """The reference texts, or None where an item has none."""
    expected = answers["expected"]
    return None if not expected or any(e is None for e in expected) else expected


@functools.cache
def bleu_scorer() -> Any:
    """Sacrebleu's BLEU with its defaults (13a, exponential smoothing)."""
    from sacrebleu.metrics import BLEU

    return BLEU()


@functools.cache
def chrf_scorer() -> Any:
    """Sacrebleu's chrF with its defaults (characters up to 6, beta 2)."""
    from sacrebleu.metrics import CHRF

    return CHRF()


def _sacre_rows(scorer: Any, answers: Answers) -> Floats | None:
    texts = references(answers)
    if texts is None:
        return None
    # The statistics that sacrebleu's own significance tests resample; parity is tested against corpus_score.
    return np.asarray(scorer._extract_corpus_statistics(answers.outputs, [texts]), dtype=np.float64)


def _bleu(sums: Floats) -> Floats:
    scorer = bleu_scorer()
    return np.asarray([scorer._compute_score_from_stats(row).score for row in sums])


def _chrf(sums: Floats) -> Floats:
    scorer = chrf_scorer()
    return np.asarray([scorer._compute_f_score(row) for row in sums])


class UnicodeTokenizer:
    r"""Words of any script for ROUGE: NFC, lower case, runs of letters, marks and digits.

    The package's own tokenizer keeps only a-z and 0-9: two unrelated Vietnamese sentences whose ASCII skeletons agree
    score 1.0 with it, and identical Chinese sentences score 0.0. Scripts written without spaces (Han, kana, Thai, Lao,
    Khmer, Burmese) are split into characters, as sacrebleu's `zh` does for Han.
    """

    _solid = (
        (0x0E00, 0x0EFF),  # Thai, Lao
        (0x1000, 0x109F),  # Burmese
        (0x1780, 0x17FF),  # Khmer
        (0x3040, 0x30FF),  # kana
        (0x3400, 0x4DBF),  # Han, extension A
        (0x4E00, 0x9FFF),  # Han
        (0xF900, 0xFAFF),  # Han, compatibility
        (0x20000, 0x3FFFF),  # Han, further planes
    )

    def tokenize(self, text: str) -> list[str]:
        """Words in order."""
        words: list[str] = []
        letters: list[str] = []
        for character in unicodedata.normalize("NFC", text).lower():
            kind = unicodedata.category(character)[0]
            if kind == "M" and letters:
                letters.append(character)
                continue
            solid = any(low <= ord(character) <= high for low, high in self._solid)
            if kind in "LN" and not solid:
                letters.append(character)
                continue
            if letters:
                words.append("".join(letters))
                letters = []
            if kind in "LN":
                words.append(character)
        return [*words, "".join(letters)] if letters else words


@functools.cache
def rouge_scorer(tokenizer: Literal["unicode", "google"] = "unicode") -> Any:
    """rouge-score's ROUGE-L; `google` is that package's own tokenizer, for parity with published numbers."""
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=UnicodeTokenizer() if tokenizer == "unicode" else None)


def _rouge_l(answers: Answers) -> Floats | None:
    texts = references(answers)
    if texts is None:
        return None
    scorer = rouge_scorer()
    scores = [scorer.score(t, o)["rougeL"].fmeasure for t, o in zip(texts, answers.outputs, strict=True)]
    return _column(scores)


def signature(id: str) -> str | None:
    """How exactly a text metric was computed; part of the evidence, since BLEU without it is not comparable."""
    if id == "bleu":
        bleu_scorer().corpus_score(["a"], [["a"]])  # the number of references is part of it, known after a call
        return str(bleu_scorer().get_signature())
    if id == "chrf":
        chrf_scorer().corpus_score(["a"], [["a"]])
        return str(chrf_scorer().get_signature())
    if id == "rouge_l":
        return "rougeL|fmeasure|tok:unicode-nfc-lower|stem:no"
    return None


# -------------------------------------------------------------------------------------------------- likelihood


def _likelihood(per: str) -> Callable[[Answers], Floats | None]:
    def rows(answers: Answers) -> Floats | None:
        pairs = list(zip(answers["nll"], answers[per], strict=True))
        if not pairs or any(nll is None or size is None for nll, size in pairs):
            return None  # an endpoint without log-probabilities has no perplexity; it is never guessed
        return np.asarray(pairs, dtype=np.float64)

    return rows


def _perplexity(sums: Floats) -> Floats:
    return np.asarray(np.exp(sums[:, 0] / sums[:, 1]))


def _bits_per_byte(sums: Floats) -> Floats:
    return np.asarray(sums[:, 0] / (math.log(2) * sums[:, 1]))


# ---------------------------------------------------------------------------------------------------- registry

_WRONG = "counts as wrong"
_SILENT = "counts as an empty text"

_QUALITY = (
    Metric("accuracy", "up", "proportion", "share of items answered right", _WRONG, rows=_correct),
    Metric(
        "macro_f1",
        "up",
        "corpus",
        "F1 of each class, averaged over the classes of the evaluation set",
        "counts as a miss of its class",
        rows=_confusion,
        statistic=_macro_f1,
        pseudo=_f1_pseudo,
    ),
    Metric(
        "parse_rate", "up", "proportion", "share of outputs an answer could be taken from", "not parsed", rows=_parsed
    ),
    Metric(
        "exact_match",
        "up",
        "proportion",
        "share of outputs equal to the reference but for spacing",
        _WRONG,
        rows=_exact,
    ),
    Metric(
        "mae",
        "down",
        "mean",
        "mean absolute error",
        "costs what the worst constant answer would on that item",
        span=(0.0, math.inf),
        rows=_absolute,
    ),
    Metric(
        "rmsle",
        "down",
        "corpus",
        "root mean squared error of log(1 + x)",
        "costs what the worst constant answer would on that item",
        rows=_log_squares,
        statistic=_root_mean,
    ),
    Metric(
        "bleu",
        "up",
        "corpus",
        "corpus BLEU, 0 to 100",
        _SILENT,
        rows=lambda a: _sacre_rows(bleu_scorer(), a),
        statistic=_bleu,
    ),
    Metric(
        "chrf",
        "up",
        "corpus",
        "corpus chrF, 0 to 100",
        _SILENT,
        rows=lambda a: _sacre_rows(chrf_scorer(), a),
        statistic=_chrf,
    ),
    Metric("rouge_l", "up", "mean", "ROUGE-L F, words of any script", _SILENT, span=(0.0, 1.0), rows=_rouge_l),
    Metric(
        "perplexity",
        "down",
        "corpus",
        "exp of the mean negative log-likelihood of a reference answer's token",
        "no perplexity at all",
        rows=_likelihood("nll_tokens"),
        statistic=_perplexity,
    ),
    Metric(
        "bits_per_byte",
        "down",
        "corpus",
        "negative log-likelihood of the reference answers in bits per byte; comparable across tokenizers",
        "no value at all",
        rows=_likelihood("nll_bytes"),
        statistic=_bits_per_byte,
    ),
    Metric(
        "judge.win_rate",
        "up",
        "mean",
        "share of items on which a judge prefers the answer in both orders; a tie, or another winner in the other "
        "order, counts half",
        "loses",
        span=(0.0, 1.0),
        rows=lambda a: judged.wins(a.table, "judge_win"),
    ),
    Metric(
        "judge.consistency",
        "up",
        "proportion",
        "share of items on which the judge says the same in both orders",
        "says nothing of the judge",
        rows=lambda a: judged.wins(a.table, "judge_consistent"),
    ),
    Metric("error_rate", "down", "proportion", "share of requests that failed", "counts as failed", rows=_failed),
    Metric("truncation_rate", "down", "proportion", "share of outputs cut at the token limit", "not cut", rows=_cut),
)

_TIMES = tuple(
    Metric(
        f"latency.{kind}.p{percent}", "down", "time", f"{percent}th percentile of the time {what}", "is infinite", "ms"
    )
    for kind, what in DURATIONS.items()
    for percent in PERCENTILES
)

_OTHERS = (
    Metric(
        "load.throughput",
        "up",
        "load",
        "requests answered per second, batches of the evaluation back to back",
        "counts as not answered",
        "requests/s",
    ),
    Metric(
        "load.attainment",
        "up",
        "load",
        "share of the requests answered within the times of the gate's slo",
        "counts as not within",
        span=(0.0, 1.0),
    ),
)

REGISTRY: dict[str, Metric] = {m.id: m for m in (*_QUALITY, *_TIMES, *_OTHERS)}

_COST = re.compile(r"cost\.([a-z]{3})_per_(1k|correct)")

# What is computed for a task of each kind; the first is the one that systems are paired on.
DEFAULTS: dict[str, tuple[str, ...]] = {
    "classify": ("accuracy", "macro_f1", "parse_rate"),
    "regress": ("mae", "rmsle", "parse_rate", "accuracy"),
    "generate": ("exact_match", "chrf", "rouge_l"),
    "summarise": ("rouge_l", "chrf"),
    "translate": ("chrf", "bleu"),
    "chat": ("chrf", "rouge_l"),
}
ALWAYS = ("perplexity", "bits_per_byte", "error_rate", "truncation_rate")


def lookup(id: str) -> Metric:
    """The metric of this name. Prices exist in every currency: `cost.usd_per_1k`, `cost.eur_per_correct`.

    The user's own have a colon in their names: see `own.py`.

    Raises:
        KeyError: there is none; the message names the closest.
        UserError: one of the user's own that cannot be used.
    """
    if id in REGISTRY:
        return REGISTRY[id]
    if match := _COST.fullmatch(id):
        of = "1,000 requests" if match[2] == "1k" else "right answer"
        return Metric(id, "down", "cost", f"price of {of}", "no price at all", unit=match[1].upper())
    if ":" in id:
        from tamis.evaluate import own  # it builds on this file

        if (found := own.metric(id)) is not None:
            return found
        raise KeyError(f"unknown metric {id!r}; your own are named {', '.join(own.FORMS)}")
    raise KeyError(f"unknown metric {id!r}; {did_you_mean(id, known())}")


def known() -> list[str]:
    """Names for messages; prices in US dollars stand for those of all currencies."""
    return [*REGISTRY, "cost.usd_per_1k", "cost.usd_per_correct"]


def primary(kind: str) -> str:
    """The metric on which systems are compared first, for a task of this kind."""
    return DEFAULTS[kind][0]


def for_task(kind: str, further: Sequence[str] = ()) -> list[str]:
    """Metrics of answers that are computed for a task, in the order of reports."""
    return list(dict.fromkeys((*DEFAULTS[kind], *further, *ALWAYS)))


def durations(requests: pa.Table, kind: str) -> Floats:
    """Milliseconds of every timed request that is not warm-up; failures are infinite.

    `tpot` exists only for requests with two tokens or more; shorter ones are left out, failed ones are not.

    Args:
        requests: rows of `schema.REQUESTS`.
        kind: `e2e`, `ttft` or `tpot`.
    """
    values = []
    for row in requests.to_pylist():
        if row["warmup"]:
            continue
        if row["status"] != "ok" or row["first_s"] is None or row["last_s"] is None:
            values.append(math.inf)
        elif kind == "tpot":
            if (tokens := row["output_tokens"] or 0) >= 2:
                values.append(1e3 * (row["last_s"] - row["first_s"]) / (tokens - 1))
        else:
            values.append(1e3 * ((row["first_s"] if kind == "ttft" else row["last_s"]) - row["sent_s"]))
    return np.asarray(values, dtype=np.float64)
