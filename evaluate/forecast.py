"""What asking the endpoints of a recipe will cost, before anything is sent, and what may not start."""

from __future__ import annotations

import dataclasses

from tamis.endpoint import require_consent
from tamis.errors import RecipeError
from tamis.evaluate import judging
from tamis.evaluate.prompting import MAX_SHOTS
from tamis.evaluate.remote import endpoint_of
from tamis.evaluate.systems import name_of
from tamis.recipe import Judge, Recipe, SystemSpec

JUDGE = "the judge"
BYTES_PER_TOKEN = 2  # fewer than tokenizers need for most languages, so that a forecast is rather too high
TEMPLATE_TOKENS = 40  # of a chat template around the turns


@dataclasses.dataclass(frozen=True)
class Asking:
    """What one endpoint will be asked.

    Attributes:
        system, host: who.
        requests: for answers, timed ones and loads.
        tokens: sent and received, at most.
        money: None where no price is known.
        leaves: whether rows leave this machine.
    """

    system: str
    host: str
    requests: int
    tokens: int
    money: float | None
    leaves: bool


def asking(recipe: Recipe, lengths: list[int]) -> list[Asking]:
    """The endpoints of a recipe.

    Args:
        recipe: its systems, latency, load and task.
        lengths: bytes of each evaluation item.
    """
    found, evaluate = [], recipe.evaluate
    timed = evaluate.latency.requests + evaluate.latency.warmup if evaluate.latency.requests else 0
    mean = sum(lengths) / max(1, len(lengths))
    fixed = sum(len(t.encode()) for t in (evaluate.task.template or "", evaluate.task.system or ""))
    each = (mean + fixed) / BYTES_PER_TOKEN + TEMPLATE_TOKENS
    for spec in evaluate.systems:
        if isinstance(spec, SystemSpec) and spec.endpoint is not None:
            target = endpoint_of(spec)
            repeated = min(evaluate.again, len(lengths))
            requests = len(lengths) + repeated + timed + evaluate.load.questions + 1  # one asks if anybody is there
            shots = MAX_SHOTS if spec.prompt == "best" else 0
            sent = round(requests * (each + shots * (each + evaluate.task.answer_tokens)))
            made = requests * evaluate.task.answer_tokens
            prices = (spec.input_per_million, spec.output_per_million)
            money = None if None in prices else (sent * (prices[0] or 0) + made * (prices[1] or 0)) / 1e6
            found.append(Asking(spec.name, target.host, requests, sent + made, money, not target.local))
    judge = evaluate.judge
    if judge is not None:
        found.append(_judging(recipe, judge, len(lengths), mean))
    return found


def _judging(recipe: Recipe, judge: Judge, items: int, mean: float) -> Asking:
    """Every judged answer beside its rival's, and every pair of people, in both orders."""
    evaluate = recipe.evaluate
    systems = sum(judging.wanted_by(name_of(s), judge) for s in evaluate.systems)
    rubric = len(judging.RUBRIC) / BYTES_PER_TOKEN + TEMPLATE_TOKENS
    people = judging.human_labels(judge.human) if judge.human else []
    pairs = [sum(len(pair[k].encode("utf-8", "replace")) for k in ("prompt", "first", "second")) for pair in people]
    # of a judged answer no more is known than its limit; the right answer stands in the item's line
    each = rubric + mean / BYTES_PER_TOKEN + 2 * evaluate.task.answer_tokens
    requests = 2 * (items * systems + len(people))
    sent = round(2 * (items * systems * each + len(people) * rubric + sum(pairs) / BYTES_PER_TOKEN))
    made = requests * judging.ANSWER_TOKENS
    prices = (judge.input_per_million, judge.output_per_million)
    money = None if None in prices else (sent * (prices[0] or 0) + made * (prices[1] or 0)) / 1e6
    target = judging.endpoint_of(judge)
    return Asking(JUDGE, target.host, requests, sent + made, money, not target.local)


def refuse(recipe: Recipe, asked: list[Asking]) -> None:
    """Stop before anything is sent, or trained for hours, if asking may not start.

    Raises:
        UserError: rows would leave the machine without consent.
        RecipeError: the forecast is above `evaluate.max_cost`, or `max_cost` is set and a price is not known.
    """
    targets = {s.name: endpoint_of(s) for s in recipe.evaluate.systems if isinstance(s, SystemSpec) and s.endpoint}
    if recipe.evaluate.judge is not None:
        targets[JUDGE] = judging.endpoint_of(recipe.evaluate.judge)
    limit = recipe.evaluate.max_cost
    for one in asked:
        require_consent(targets[one.system], one.requests, recipe.evaluate.external)
        if limit is not None and one.money is None:
            raise RecipeError(
                f"max_cost is set, but the price of {one.system!r} is not known",
                where="evaluate.max_cost",
                hint="give it input_per_million and output_per_million (0 for a server of your own)",
            )
    total = sum(one.money or 0 for one in asked)
    if limit is not None and total > limit:
        raise RecipeError(
            f"asking would cost up to {total:,.2f} {recipe.evaluate.price.currency}, the limit is {limit:g}",
            where="evaluate.max_cost",
            why="; ".join(f"{one.system}: {one.requests:,} requests, {one.tokens:,} tokens" for one in asked),
            hint="eval: {limit: N} for fewer items, fewer latency or load requests, or a higher max_cost",
        )
