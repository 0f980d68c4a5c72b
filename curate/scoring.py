"""The scorers of a recipe, run over the rows that are left: measured, or predicted from a budget.

Nothing starts without a price: `forecast` says rows, tokens, minutes and money, and a scorer whose forecast is above
its limits, or whose price is unknown where rows would leave the machine, does not start.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tamis.curate import budget, judge
from tamis.curate.ifd import Ifd
from tamis.curate.texts import Texts
from tamis.endpoint import Endpoint, require_consent
from tamis.errors import RecipeError, UserError, require
from tamis.machine import product_rate
from tamis.models import best_device, resolve
from tamis.prompt import conversation
from tamis.questions import estimated_tokens
from tamis.recipe import FeaturesScorer, IfdScorer, JudgeScorer, Recipe
from tamis.spans import Turns

# Bytes per token of SmolLM2's tokenizer on English; others have fewer, so a forecast is rather too low for them.
BYTES_PER_TOKEN = 4
TEMPLATE_TOKENS = 35  # what SmolLM2's chat template writes around a row in both passes
# Of the rate of a plain matrix product, measured with SmolLM2-135M on one core: 552 tokens/s where a product makes 219
# GFLOP/s in float32, 1,526 at 1,600 in bfloat16 with matrix tiles (benchmarks/scorers.md).
EFFICIENCY = {"float32": 0.65, "bfloat16": 0.25}
JUDGE_SECONDS = 1.0  # per request, assumed; nobody knows before asking


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a scorer will cost, before anything runs.

    Attributes:
        scorer: `ifd` or `judge`.
        rows: at most so many are scored.
        tokens: read and written, estimated.
        minutes: estimated.
        money: None where no price is known.
        where: the device, or the host that rows go to.
        note: what the estimate rests on.
    """

    scorer: str
    rows: int
    tokens: int
    minutes: float
    money: float | None
    where: str
    note: str


@dataclasses.dataclass(frozen=True)
class Scored:
    """What the scorers say of n rows.

    Attributes:
        columns: for the ledger, each (n,): `score_NAME`; where a budget was set also `score_NAME_low`,
            `score_NAME_high` and `scored_NAME` (bool).
        misled: (n,) bool: IFD is 1 or more, measured or by the whole of its interval.
        slack: (n,) 1 - IFD.
        merit: (n,) mean of the scores, from 0 to 1; NaN where a row has none.
        about: per scorer, what happened.
    """

    columns: dict[str, np.ndarray]
    misled: np.ndarray
    slack: np.ndarray
    merit: np.ndarray
    about: dict[str, Any]


def model_scorers(recipe: Recipe) -> list[IfdScorer | JudgeScorer]:
    """The scorers of a recipe that cost time or money, in its order."""
    return [s for s in recipe.curate.scorers if not isinstance(s, FeaturesScorer)]


def identities(recipe: Recipe) -> dict[str, Any]:
    """What can change a score beside the recipe's own keys: for the fingerprint.

    Raises:
        RecipeError, MissingExtra: the model of a scorer cannot be found.
    """
    return {s.name: resolve(s.model or recipe.model).sha256 for s in model_scorers(recipe) if isinstance(s, IfdScorer)}


def turns_of(recipe: Recipe, messages: list[Any], labels: list[str | None]) -> list[Turns]:
    """Rows as they will be trained on."""
    return [conversation(m, label, recipe.evaluate.task) for m, label in zip(messages, labels, strict=True)]


def forecast(recipe: Recipe, conversations: list[Turns]) -> list[Forecast]:
    """What the model scorers of a recipe will cost on these rows; nothing is scored, no model is loaded."""
    return [
        _ifd_forecast(s, recipe, conversations) if isinstance(s, IfdScorer) else _judge_forecast(s, conversations)
        for s in model_scorers(recipe)
    ]


@dataclasses.dataclass(frozen=True)
class DryRun:
    """What curating would ask of the scorers, before anything starts.

    Attributes:
        rows: that the data holds and that can be read.
        forecasts: one per model scorer, in the recipe's order.
        refused: why scoring would not start; None where it would.
    """

    rows: int
    forecasts: list[Forecast]
    refused: UserError | None


def dry_run(recipe: Recipe) -> DryRun:
    """`forecast` on the recipe's data as it is read: rules and leaks would only take rows away.

    Raises:
        DataError, RecipeError, MissingExtra: the data or a scorer's model cannot be used.
    """
    from tamis.curate.pipeline import training_source
    from tamis.tables import read_records, read_shards

    with tempfile.TemporaryDirectory() as folder:
        rows = read_records(training_source(recipe), Path(folder) / "records").rows
        if not model_scorers(recipe):
            return DryRun(rows, [], None)
        table = read_shards(Path(folder) / "records")
    turns = turns_of(recipe, table["messages"].to_pylist(), table["label"].to_pylist())
    costs = forecast(recipe, turns)
    try:
        refuse_unpriced(recipe, costs)
    except UserError as refused:
        return DryRun(rows, costs, refused)
    return DryRun(rows, costs, None)


def refuse_unpriced(recipe: Recipe, costs: list[Forecast]) -> None:
    """Stop before the first scorer starts if one of them may not.

    Args:
        recipe: names the scorers and their limits.
        costs: their `forecast`.

    Raises:
        UserError: rows would leave the machine without consent.
        RecipeError: no price is known where there must be one, or the forecast is above a limit; says the numbers.
        MissingExtra: what a scorer needs is not installed.
    """
    for scorer, cost in zip(model_scorers(recipe), costs, strict=True):
        where = f"curate.scorers[{scorer.name}]"
        if isinstance(scorer, JudgeScorer):
            endpoint = _endpoint(scorer)
            require_consent(endpoint, cost.rows, recipe.evaluate.external)
            if not endpoint.local and (scorer.max_cost is None or cost.money is None):
                raise RecipeError(
                    "the judge has no price",
                    where=where,
                    why=f"about {cost.tokens:,} tokens would go to {cost.where}",
                    hint="give input_per_million, output_per_million and max_cost",
                )
        else:
            require(("torch", "transformers"), "train", "the scorer ifd")
            if cost.minutes > scorer.max_minutes:
                raise RecipeError(
                    f"scoring would take about {cost.minutes:,.0f} minutes, the limit is {scorer.max_minutes:g}",
                    where=where,
                    why=f"{cost.rows:,} rows, {cost.tokens:,} tokens ({cost.note})",
                    hint="set budget: 0.05 to score a sample and predict the rest, or raise max_minutes",
                )
        if scorer.max_cost is not None and cost.money is None:
            raise RecipeError(
                "max_cost is set, but no price is known",
                where=where,
                hint="give input_per_million and output_per_million"
                if isinstance(scorer, JudgeScorer)
                else "evaluate: {price: {machine_hour: ...}}",
            )
        if scorer.max_cost is not None and cost.money is not None and cost.money > scorer.max_cost:
            raise RecipeError(
                f"scoring would cost about {cost.money:,.2f}, the limit is {scorer.max_cost:g}",
                where=where,
                why=f"{cost.rows:,} rows, {cost.tokens:,} tokens",
                hint="set budget: 0.05 to score a sample and predict the rest, or raise max_cost",
            )


def score(
    recipe: Recipe,
    ids: list[str],
    messages: list[Any],
    labels: list[str | None],
    prompts: Sequence[str] | Texts,
    answers: Sequence[str] | Texts,
    vectors: np.ndarray,
    made: np.ndarray,
    *,
    folder: Path,
    quiet: bool,
) -> Scored:
    """Run every scorer of a recipe over n rows.

    Args:
        recipe: names the scorers.
        ids: sorted.
        messages: of the same rows, as Arrow gives them; not looked at where no scorer is a model.
        labels: their labels, or None.
        prompts: `record.prompt_of` each.
        answers: `record.answer_of` each.
        vectors: (n, d), their embeddings.
        made: (n,) what the scorer `features` says of each (curate/quality.py); not looked at where it is off.
        folder: gets `progress.json`.
        quiet: no progress lines.

    Raises:
        UserError, RecipeError: see `refuse_unpriced`.
        StageFailed: a judge that does not answer; what was scored is kept.
    """
    n = len(ids)
    columns: dict[str, np.ndarray] = {}
    about: dict[str, Any] = {}
    misled, slack = np.zeros(n, bool), np.full(n, math.nan)
    if any(isinstance(s, FeaturesScorer) for s in recipe.curate.scorers):
        columns["score_features"] = made
    if model_scorers(recipe) and n:
        turns = turns_of(recipe, messages, labels)
        refuse_unpriced(recipe, forecast(recipe, turns))
        x = None
        for scorer in model_scorers(recipe):
            measured = _Measured(_measure(scorer, recipe, folder, quiet), turns)
            name = f"score_{scorer.name}"
            if scorer.budget is None:
                columns[name] = measured(np.arange(n))
                about[scorer.name] = measured.about
                high = low = columns[name]
            else:
                x = (
                    x
                    if x is not None
                    else budget.predictors(vectors, budget.row_features(list(prompts), list(answers)))
                )
                most = max(1, round(scorer.budget * n))
                found = budget.predict(
                    measured,
                    budget.draw(ids, vectors, most, recipe.seed_for(f"score.{scorer.name}")),
                    x,
                    most,
                    tolerance=scorer.tolerance,
                    bounds=(0.0, math.inf if isinstance(scorer, IfdScorer) else 1.0),
                )
                columns[name], low, high = found.values, found.low, found.high
                columns |= {f"{name}_low": low, f"{name}_high": high, f"scored_{scorer.name}": found.scored}
                about[scorer.name] = {**measured.about, "budget": found.about}
            if isinstance(scorer, IfdScorer):
                misled = np.nan_to_num(low, nan=0.0) >= 1
                slack = np.round(1 - columns[name], 4)
    marks = [np.clip(columns[f"score_{s.name}"], 0, 1) for s in recipe.curate.scorers if f"score_{s.name}" in columns]
    return Scored(columns, misled, slack, _mean_of(marks, n), about)


class _Measured:
    """A scorer as a function of positions, that adds up what its calls report."""

    def __init__(self, run: Callable[[list[Turns], float], tuple[np.ndarray, dict[str, Any]]], turns: list[Turns]):
        self._run, self._turns = run, turns
        self.about: dict[str, Any] = {}

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        values, about = self._run([self._turns[i] for i in rows.tolist()], float(self.about.get("cost") or 0.0))
        self.about = _added(self.about, about)
        return values


def _added(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Reports of two calls: counts and money added up, other things as they are now."""
    out = dict(now)
    for key, value in before.items():
        if isinstance(value, dict) and isinstance(now.get(key), dict) and key == "failed":
            out[key] = {k: value.get(k, 0) + now[key].get(k, 0) for k in sorted(value | now[key])}
        elif (
            isinstance(value, (int, float))
            and isinstance(now.get(key), (int, float))
            and key != "mean_nll_given_prompt"
        ):
            out[key] = value + now[key]
    return out


def _measure(
    scorer: IfdScorer | JudgeScorer, recipe: Recipe, folder: Path, quiet: bool
) -> Callable[[list[Turns], float], tuple[np.ndarray, dict[str, Any]]]:
    if isinstance(scorer, IfdScorer):
        ifd = Ifd.of(
            scorer.model or recipe.model,
            trust_remote_code=recipe.train.trust_remote_code,
            window=scorer.window,
            dtype=scorer.precision,
        )
        return lambda turns, _: ifd.score(turns, folder=folder, quiet=quiet)
    prices = (scorer.input_per_million, scorer.output_per_million)

    def ask(turns: list[Turns], spent: float) -> tuple[np.ndarray, dict[str, Any]]:
        left = None if scorer.max_cost is None else max(scorer.max_cost - spent, 0.0)
        return judge.Judge(_endpoint(scorer), *prices, left).score(turns, folder=folder, quiet=quiet)

    return ask


def _endpoint(scorer: JudgeScorer) -> Endpoint:
    return Endpoint(scorer.endpoint, scorer.model, scorer.key_env, scorer.concurrency, scorer.timeout_s)


def _mean_of(marks: list[np.ndarray], n: int) -> np.ndarray:
    """The mean of what is known of each row; NaN where nothing is."""
    if not marks:
        return np.full(n, math.nan)
    known = np.sum([np.isfinite(m) for m in marks], axis=0)
    total = np.sum([np.nan_to_num(m) for m in marks], axis=0)
    return np.where(known > 0, np.round(total / np.maximum(known, 1), 4), math.nan)


def _share(scorer: IfdScorer | JudgeScorer, n: int) -> int:
    return n if scorer.budget is None else min(n, max(1, round(scorer.budget * n)))


def _ifd_forecast(scorer: IfdScorer, recipe: Recipe, conversations: list[Turns]) -> Forecast:
    require(("torch", "transformers"), "train", "the scorer ifd")
    model = resolve(scorer.model or recipe.model)
    rows = _share(scorer, len(conversations))
    whole = [
        min(sum(_bytes(t["content"]) for t in turns) / BYTES_PER_TOKEN, scorer.window)
        + sum(_bytes(t["content"]) for t in turns if t["role"] == "assistant") / BYTES_PER_TOKEN
        + TEMPLATE_TOKENS
        for turns in conversations
    ]
    tokens = round(sum(whole) * rows / max(len(whole), 1))
    # weights at rest have two bytes each; a forward pass multiplies and adds each once per token
    weights = sum(f.stat().st_size for f in model.path.glob("*.safetensors")) / 2
    rate = product_rate(best_device(), scorer.precision, 1024, 576, 1536)  # the shape small models have
    minutes = 2 * weights * tokens / (rate * EFFICIENCY[scorer.precision]) / 60
    hour = recipe.evaluate.price.machine_hour
    money = None if hour is None else round(minutes / 60 * hour, 4)
    note = "minutes from a short measurement of this machine"
    return Forecast("ifd", rows, tokens, minutes, money, best_device(), note)


def _judge_forecast(scorer: JudgeScorer, conversations: list[Turns]) -> Forecast:
    rows = _share(scorer, len(conversations))
    each = [estimated_tokens(judge.question(turns)) for turns in conversations]
    asked = math.ceil(sum(each) * rows / max(len(each), 1))
    priced = judge.Judge(_endpoint(scorer), scorer.input_per_million, scorer.output_per_million)
    answered = rows * judge.ANSWER_TOKENS
    minutes = rows * JUDGE_SECONDS / scorer.concurrency / 60
    note = f"{JUDGE_SECONDS:g} s a request assumed; tokens on the safe side"
    return Forecast(
        "judge", rows, asked + answered, round(minutes, 2), priced.cost(asked, answered), priced.endpoint.host, note
    )


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
