"""What the hard filters need to know: of rows and machine once, of each candidate in turn. No weights are loaded."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis import loop
from tamis.candidates import Entrant
from tamis.errors import RecipeError
from tamis.hard_filters import Known, Wanted, rejections
from tamis.models import ResolvedModel, load_tokenizer, quantisation_of
from tamis.prompt import conversation
from tamis.recipe import Candidate, Recipe
from tamis.run import Run

MOST_ROWS = 2000  # rows whose tokens are counted; the 99th percentile is that of 20 of them
COMMON = 0.1  # share of the rows from which a language is one that a base must speak
PERCENTILE = 0.99
UNCUT = 1 << 30


@dataclasses.dataclass(frozen=True)
class Ground:
    """What all candidates are held against.

    Attributes:
        recipe: how it will be trained and asked.
        rows: training rows, `schema.RECORD`, at most `MOST_ROWS`, drawn by seed.
        total: training rows in all.
        texts: what is said in each row, as it will be trained on.
        words: in all of these.
        estimated: tokens of each row by its bytes, where there is no tokenizer to count them.
        wanted: by data, machine and recipe.
        hardware: what trains.
    """

    recipe: Recipe
    rows: pa.Table
    total: int
    texts: list[str]
    words: int
    estimated: list[int]
    wanted: Wanted
    hardware: Any

    @classmethod
    def of(cls, run: Run, recipe: Recipe) -> Ground:
        """Look at the rows that will be trained on, and at the machine."""
        from tamis.curate.features import estimated_tokens
        from tamis.evaluate.metrics import UnicodeTokenizer
        from tamis.train.plan import probe

        asked, ids = recipe.choose, loop.kept_ids(run)
        rows = loop.rows_of(run, loop.MAIN[0])
        if len(rows) > MOST_ROWS:
            drawn = np.random.default_rng(recipe.seed_for("choose.rows")).permutation(len(rows))[:MOST_ROWS]
            rows = rows.take(pa.array(np.sort(drawn)))
        texts = [
            "\n".join(turn["content"] for turn in conversation(row["messages"], row["label"], recipe.evaluate.task))
            for row in rows.select(["messages", "label"]).to_pylist()
        ]
        hardware = probe()
        if asked.memory_gb is not None:
            hardware = dataclasses.replace(hardware, memory=int(asked.memory_gb * 1e9))
        wanted = Wanted(
            licenses=asked.licenses,
            languages=_languages(run, recipe),
            chat_template=asked.chat_template,
            tokens_per_word=asked.max_tokens_per_word,
            serving_bytes=1e9 * asked.serving_memory_gb if asked.serving_memory_gb else float(hardware.memory),
            concurrency=asked.concurrency,
        )
        count = UnicodeTokenizer()
        words = sum(len(count.tokenize(text)) for text in texts)
        estimated = estimated_tokens(rows["messages"]).tolist()
        return cls(recipe, rows, len(ids), texts, words, estimated, wanted, hardware)


def _languages(run: Run, recipe: Recipe) -> dict[str, float]:
    """Share of the kept rows by language that a base must speak; 0 for one that only the recipe names."""
    ledger = pq.read_table(run.curate / "ledger.parquet", columns=["verdict", "language"])
    counts = Counter(ledger.filter(pc.equal(ledger["verdict"], "kept"))["language"].to_pylist())
    shares = {str(name): n / counts.total() for name, n in counts.most_common() if name}
    if recipe.choose.languages == "from-data":
        return {name: share for name, share in shares.items() if share >= COMMON}
    return {name: shares.get(name, 0.0) for name in recipe.choose.languages}


def look(entrant: Entrant, ground: Ground) -> tuple[Known, list[str]]:
    """What is known of a candidate, and every reason to rule it out.

    An endpoint and an encoder are not trained or served here: only their languages and licences count, where they are
    told, and whether the task is one they can do.
    """
    known = Known(license=entrant.facts.license, languages=entrant.facts.languages)
    if entrant.kind != "base":
        wanted = dataclasses.replace(ground.wanted, licenses=ground.wanted.licenses if known.license else ())
        said = rejections(known, wanted)
        kind = ground.recipe.evaluate.task.kind
        if entrant.kind == "encoder" and kind != "classify":
            said.append(f"an encoder answers with labels only; the task is to {kind}")
        if ground.recipe.choose.metric == "bits_per_byte":
            said.append("it does not say how likely it found the right answer, which bits per byte are made of")
        return known, said
    if entrant.model is not None:
        try:
            known = _counted(known, entrant, entrant.model, ground)
        except RecipeError as error:
            return known, [f"{error.what}{': ' + error.why if error.why else ''}"]
    elif entrant.facts.sizes is not None:
        known = _estimated(known, entrant, ground)
    else:
        known = _weighed(known, entrant, ground)
    return known, rejections(known, ground.wanted)


def as_base(recipe: Recipe, spec: Candidate) -> Recipe:
    """The recipe with a candidate as its base, trained as it was asked: in 4 bits where it was asked in 4 bits."""
    changes: dict[str, Any] = {"model": spec.model or recipe.model}
    if spec.quantisation not in (None, quantisation_of(recipe.train)):
        whole = spec.quantisation == "none"
        changes |= (
            {"train.method": "lora"} if whole else {"train.method": "qlora", "train.quantisation": spec.quantisation}
        )
    return recipe.changed(changes)


def _counted(known: Known, entrant: Entrant, model: ResolvedModel, ground: Ground) -> Known:
    """Of a model on this machine: its own tokenizer counts, its own configuration is planned for."""
    from tamis.train.plan import shape_of
    from tamis.train.stage import label_table

    tokenizer = load_tokenizer(model)
    shape = shape_of(model.path, trust_remote_code=model.trust_remote_code)
    plain = [len(ids) for ids in tokenizer(ground.texts, add_special_tokens=False)["input_ids"]]
    template = bool(getattr(tokenizer, "chat_template", None))
    labelled = label_table(model, ground.recipe, ground.rows, UNCUT) if template else []
    usable = [row for row in labelled if row.dropped is None]
    lengths = [row.tokens for row in usable] or plain
    trained = sum(row.trained for row in usable) or sum(lengths)
    known = dataclasses.replace(
        known, chat_template=template, tokens_per_word=sum(plain) / ground.words if ground.words else None
    )
    return _planned(known, entrant, shape, lengths, trained, ground)


def _estimated(known: Known, entrant: Entrant, ground: Ground) -> Known:
    """Of a model of the catalogue that is not here: its sizes, and tokens by bytes."""
    from tamis.train.plan import Shape

    shape = Shape(**(entrant.facts.sizes or {}))
    known = dataclasses.replace(known, chat_template=entrant.facts.chat_template, exact=False)
    return _planned(known, entrant, shape, ground.estimated, sum(ground.estimated), ground)


def _weighed(known: Known, entrant: Entrant, ground: Ground) -> Known:
    """Of a model known by a leaderboard alone: no more than what its weights take."""
    known = dataclasses.replace(known, chat_template=entrant.facts.chat_template, exact=False)
    if entrant.facts.parameters is None:
        return known
    width = {"nf4": 0.5, "fp4": 0.5, "int8": 1.0}.get(quantisation_of(as_base(ground.recipe, entrant.spec).train))
    width = width or (2.0 if ground.hardware.compute == "bfloat16" else 4.0)
    return dataclasses.replace(known, serving_bytes=width * entrant.facts.parameters)


def _planned(known: Known, entrant: Entrant, shape: Any, lengths: Sequence[int], trained: int, ground: Ground) -> Known:
    """Context, memory of training and of serving, by the planner's formula (docs/concepts/memory.md)."""
    from tamis.train.plan import DoesNotFit, make_plan
    from tamis.train.serving_memory import serving

    recipe = ground.recipe
    train = as_base(recipe, entrant.spec).train
    p99 = _percentile(lengths)
    refused, peak = None, None
    try:
        whole = math.ceil(trained * ground.total / len(ground.rows))
        peak = make_plan(train, shape, lengths, whole, ground.hardware).estimate_bytes
    except DoesNotFit as error:
        refused = error.what
    tokens = min(shape.context, p99 + recipe.evaluate.task.answer_tokens)
    parts = serving(
        shape,
        quantisation=quantisation_of(train),
        tokens=tokens,
        requests=recipe.choose.concurrency,
        compute=ground.hardware.compute,
        device=ground.hardware.device,
    )
    return dataclasses.replace(
        known,
        context=shape.context,
        tokens_p99=p99,
        training_bytes=peak,
        training_refused=refused,
        serving_bytes=parts.total,
        weight_bytes=parts.weights,
        cache_bytes=parts.cache,
    )


def _percentile(lengths: Sequence[int]) -> int:
    """The smallest length that 99 of 100 rows do not exceed."""
    ordered = sorted(lengths)
    return ordered[min(len(ordered) - 1, math.ceil(PERCENTILE * len(ordered)) - 1)] if ordered else 0
