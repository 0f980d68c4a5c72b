"""The recipe: one YAML file that says everything a run does.

Every key has a type, a default and a sentence. Unknown keys are errors that name the closest known key and the line.
Flags override keys: `Recipe.load(path, {"curate.select.size": 300})`.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from tamis.errors import RecipeError, did_you_mean
from tamis.userfile import relocated

FORMATS = ("auto", "alpaca", "sharegpt", "messages", "prompt-completion", "columns")
METHODS = ("cluster", "random", "longest", "stratified")
PERSONAL = ("phone", "card", "account", "email", "cccd", "mst")


class Settings(BaseModel):
    """A group of keys. Frozen, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Size(NamedTuple):
    """How much to keep: `amount` rows, tokens, or share of the survivors (0 to 1)."""

    unit: Literal["rows", "tokens", "share"]
    amount: float

    def __str__(self) -> str:
        if self.unit == "share":
            return f"{self.amount:.6g} of the rows"
        return f"{self.amount:,.0f} {self.unit}"


def parse_size(value: Any) -> Size:
    """`1000`, `"1k"`, `"200k tokens"` or `"10%"`."""
    if isinstance(value, Size):
        return value
    if isinstance(value, (list, tuple)) and len(value) == 2:  # a Size that went through JSON
        return Size(value[0], float(value[1]))
    text = str(value).strip().lower().replace("_", "").replace(",", "")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(k|m)?\s*(%|rows?|tokens?)?", text)
    if isinstance(value, bool) or not match:
        raise ValueError(f"{value!r} is not a size; write rows (1000), tokens ('200k tokens') or a share ('10%')")
    amount = float(match[1]) * {"k": 1e3, "m": 1e6}.get(match[2] or "", 1)
    if amount <= 0:
        raise ValueError("a size must be above zero")
    if match[3] == "%":
        if amount > 100:
            raise ValueError("a share cannot be above 100%")
        return Size("share", amount / 100)
    return Size("tokens" if (match[3] or "").startswith("token") else "rows", amount)


SizeField = Annotated[Size, BeforeValidator(parse_size)]


class Columns(Settings):
    """Which of the user's columns is what. Anything left out is guessed from common names."""

    prompt: str | None = None
    completion: str | None = None
    label: str | None = None
    system: str | None = None
    id: str | None = None
    source: str | None = None
    license: str | None = None


class Data(Settings):
    """Where the training data is and how to read it."""

    path: str | list[str]
    """A file, a folder, a glob or a list of them; JSONL, JSON, Parquet, CSV, gzip; `hf://owner/name[/split]`."""
    format: Literal["auto", "alpaca", "sharegpt", "messages", "prompt-completion", "columns"] = "auto"
    columns: Columns | None = None
    license: str | None = None
    """Licence of rows that do not name their own."""

    @property
    def paths(self) -> list[str]:
        return [self.path] if isinstance(self.path, str) else list(self.path)


class Eval(Settings):
    """The evaluation set: a file of its own, or a share held out by near-duplicate component."""

    path: str | list[str] | None = None
    format: Literal["auto", "alpaca", "sharegpt", "messages", "prompt-completion", "columns"] = "auto"
    columns: Columns | None = None
    frozen: str | None = None
    """What `tamis evaluate --freeze` wrote: a changed file is refused, and twins of its items leave training."""
    holdout: float | None = Field(default=None, gt=0, lt=1)
    limit: int | None = Field(default=None, gt=0)
    """Evaluate on this many items, drawn by seed and stratified by label; stated in the report."""

    @model_validator(mode="after")
    def _one_of(self) -> Eval:
        if (self.path is None) == (self.holdout is None):
            raise ValueError("give either eval.path or eval.holdout")
        if self.frozen is not None and not isinstance(self.path, str):
            raise ValueError("eval.frozen is about one file, eval.path")
        return self

    @property
    def paths(self) -> list[str]:
        return [self.path] if isinstance(self.path, str) else list(self.path or [])


class Rules(Settings):
    """Rules that drop a row with a reason. Each can be switched off."""

    empty: bool = True
    truncated: bool = True
    refusal: bool = True
    echo: bool = True
    repetition: bool = True
    placeholder: bool = True
    markup: bool = True
    languages: list[str] | None = None
    """Keep only these languages (ISO 639-1). Default: every language."""
    custom: list[str] = []
    """The user's own: `file.py:function`, called with a `Record`, returns a reason or None."""


class Decontaminate(Settings):
    """Which training rows are the evaluation set in disguise."""

    enabled: bool = True
    ngram: int = Field(default=8, ge=2)
    """Longest n-gram; an item shorter than this is matched as a whole (n = min(ngram, length))."""
    coverage: float = Field(default=0.5, gt=0, le=1)
    """A row leaks an item when n-grams shared with it cover more than this share of the item's words."""
    fdr: float | None = Field(default=None, gt=0, lt=1)
    """Highest false-discovery rate, as estimated, of the search for rephrased items; null does not search for them.
    A row dropped wrongly costs one row, a leak that stays costs the evaluation: 0.2 is what was measured."""


class Deduplicate(Settings):
    """Which rows say the same as a better row that is kept."""

    enabled: bool = True
    on: Literal["prompt", "answer", "both"] = "prompt"
    near: float | None = Field(default=0.85, gt=0, le=1)
    """Jaccard similarity of character 5-grams from which two rows are near copies; null switches it off. With the
    guard, prompts that differ in greetings and polite frames only are near copies too."""
    semantic: float | None = Field(default=0.95, gt=0, le=1)
    """Cosine similarity from which two rows mean the same; null switches it off."""
    guard: bool = True
    """Similar rows count as duplicates only if labels or answers agree and no number, entity or negation differs."""


class Quota(Settings):
    """Bounds on the rows of one value of a field."""

    min: int = Field(default=0, ge=0)
    max: int | None = Field(default=None, ge=1)


class Select(Settings):
    """Which of the surviving rows are kept."""

    size: SizeField | None = None
    """Rows (1000), tokens ('200k tokens') or a share ('10%'); null keeps all survivors."""
    method: Literal["cluster", "random", "longest", "stratified"] = "cluster"
    clusters: int | None = Field(default=None, ge=1)
    """Number of clusters; null takes sqrt(rows / 2), or the size if that is larger than the square root allows."""
    quota: dict[Literal["label", "language", "source"], Quota] = {}
    must_keep: str | None = None
    """A file of row ids or keys, one a line, or of rows of data (JSONL) with ids, that are kept whatever happens."""


class FeaturesScorer(Settings):
    """Signs of format, grammar, completeness and consistency; no model."""

    name: Literal["features"] = "features"


class Budgeted(Settings):
    """What every scorer that costs time or money has."""

    budget: float | None = Field(default=None, gt=0, le=1)
    """Share of the rows that is scored; the rest gets a prediction with a 90 % interval. Null scores every row."""
    tolerance: float | None = Field(default=None, gt=0)
    """Stop before the budget is spent once half the mean interval is no wider than this."""
    max_cost: float | None = Field(default=None, gt=0)
    """Money. A scorer whose forecast is above it does not start."""


class IfdScorer(Budgeted):
    """Instruction-following difficulty by a small language model (arXiv 2402.00530); rows of 1 and above go."""

    name: Literal["ifd"] = "ifd"
    model: str | None = None
    """A local path or hub id; null takes the recipe's `model`."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 is up to three times as fast on processors with matrix tiles; one score in a hundred is 10 % off."""
    window: int = Field(default=1024, ge=32)
    """Tokens of a conversation that are read; longer ones are cut and counted."""
    max_minutes: float = Field(default=60, gt=0)
    """A forecast above it does not start."""


class JudgeEndpoint(Settings):
    """A language model behind an OpenAI-compatible endpoint that is asked for its judgement."""

    endpoint: str
    model: str
    key_env: str | None = None
    """Environment variable that holds the API key; the key itself is never written anywhere."""
    input_per_million: float | None = Field(default=None, ge=0)
    output_per_million: float | None = Field(default=None, ge=0)
    concurrency: int = Field(default=4, ge=1)
    timeout_s: float = Field(default=120, gt=0)


class JudgeScorer(JudgeEndpoint, Budgeted):
    """Asked for a mark from 1 to 5."""

    name: Literal["judge"] = "judge"


Scorer = Annotated[FeaturesScorer | IfdScorer | JudgeScorer, Field(discriminator="name")]


class Curate(Settings):
    """From the raw rows to the rows that matter."""

    rules: Rules = Rules()
    mask: list[Literal["phone", "card", "account", "email", "cccd", "mst"]] = []
    """Personal data to replace by stable placeholders. Found and counted in any case."""
    scorers: list[Scorer] = [FeaturesScorer()]
    """What decides which row is better: names, or mappings with a name. Each at most once."""
    decontaminate: Decontaminate = Decontaminate()
    deduplicate: Deduplicate = Deduplicate()
    select: Select = Select()
    forbid_licenses: list[str] = []
    annotations: str | None = None
    """Review decisions: JSON lines with `content`, `decision` (keep, drop, relabel), `label`, `reviewer`. Default: what
    was decided on the review page of the run folder (`annotations.jsonl` in it), if anything was."""

    @field_validator("scorers", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """`ifd` alone means the scorer with its defaults."""
        known = ("features", "ifd", "judge")
        for scorer in value if isinstance(value, list) else ():
            name = scorer.get("name") if isinstance(scorer, dict) else scorer
            if isinstance(name, str) and name not in known:
                raise ValueError(f"unknown scorer {name!r}; {did_you_mean(name, known)}")
        return [{"name": s} if isinstance(s, str) else s for s in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _once(self) -> Curate:
        names = [scorer.name for scorer in self.scorers]
        if len(set(names)) < len(names):
            raise ValueError(f"a scorer is named twice: {names}")
        return self


class EarlyStopping(Settings):
    """Rows of the training set that are held out, and how long their loss may fail to fall. Not the evaluation set."""

    holdout: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the training rows that is not trained on."""
    every: int | Literal["auto"] = "auto"
    """Steps between two measurements; `auto`: four an epoch."""
    patience: int = Field(default=4, ge=1)
    """Measurements without a better one after which training ends."""

    @model_validator(mode="after")
    def _moves(self) -> EarlyStopping:
        if self.every != "auto" and self.every < 1:
            raise ValueError("every must be at least 1 step")
        return self


class Train(Settings):
    """QLoRA fine-tuning. `auto` means: the plan decides and says why."""

    method: Literal["qlora", "lora", "full"] = "qlora"
    quantisation: Literal["nf4", "fp4", "int8", "none"] = "nf4"
    r: int | Literal["auto"] = "auto"
    alpha: float = Field(default=32, gt=0)
    target_modules: str | list[str] = "all-linear"
    rslora: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    lr: float | Literal["auto"] = "auto"
    epochs: float = Field(default=3, gt=0)
    batch: int | Literal["auto"] = "auto"
    """Rows per optimizer step."""
    max_length: int | Literal["auto"] = "auto"
    """Tokens; longer rows are cut, counted and reported."""
    warmup: float = Field(default=0.03, ge=0, lt=1)
    optim: str = "auto"
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    save_steps: int | Literal["auto"] = "auto"
    early_stopping: EarlyStopping | None = None
    """Stop when the loss of held-out rows no longer falls, and keep the best weights; `true` takes the defaults."""
    serve: Literal["merged", "vllm"] = "merged"
    """What will be served: the adapter merged into its base, by any server; or the adapter beside its base, by vLLM,
    whose rules are then checked before training."""
    trust_remote_code: bool = False

    @field_validator("early_stopping", mode="before")
    @classmethod
    def _switched(cls, value: Any) -> Any:
        """`true` and `false` are what a reader would try first."""
        return {True: {}, False: None}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _fits(self) -> Train:
        if self.method == "qlora" and self.quantisation == "none":
            raise ValueError("method qlora needs a quantisation; for none use method: lora")
        return self


class Task(Settings):
    """What is asked of the model, in training and in evaluation alike."""

    kind: Literal["classify", "generate", "summarise", "translate", "regress", "chat"] = "generate"
    template: str | None = None
    """Wraps the last user turn; `{prompt}` is that turn. Null sends the turn as it is."""
    system: str | None = None
    labels: Literal["from-data"] | list[str] = "from-data"
    max_tokens: int | Literal["auto"] = "auto"
    """Longest answer generated. `auto`: 8 for classify and regress, else 128."""
    metrics: list[str] = []
    """Further metrics, beside those of the task's kind: registry names, or your own: `file.py:function`,
    `regex:PATTERN`, `contains:TEXT`, `forbidden:TEXT`, `json_schema:FILE`."""

    @model_validator(mode="after")
    def _has_slot(self) -> Task:
        if self.template is not None and "{prompt}" not in self.template:
            raise ValueError("template must contain {prompt}")
        return self

    @property
    def answer_tokens(self) -> int:
        """Longest answer generated, in tokens."""
        if self.max_tokens != "auto":
            return self.max_tokens
        return 8 if self.kind in ("classify", "regress") else 128


class SystemSpec(Settings):
    """A system under test that is not built in: an endpoint, or a model or adapter that Tamis did not train."""

    name: str
    endpoint: str | None = None
    model: str | None = None
    """The endpoint's model name, or a local path or hub id where there is no endpoint: a causal language model, or an
    encoder with a classification head."""
    adapter: str | None = None
    key_env: str | None = None
    """Environment variable that holds the API key; the key itself is never written anywhere."""
    input_per_million: float | None = Field(default=None, ge=0)
    output_per_million: float | None = Field(default=None, ge=0)
    concurrency: int = Field(default=4, ge=1)
    prompt: Literal["plain", "best"] = "plain"
    """`best`: labels and examples from the training rows before the question, as `base-best` is asked."""
    quantisation: Literal["nf4", "fp4", "int8", "none"] | None = None
    """How a model is loaded here. Null: whole, or as the recipe trains where no `model` is named."""
    encoder: str | None = None
    """A sentence encoder (folder or hub name) with a linear head fitted on the training rows."""
    tuned: bool = False
    """Fine-tune the encoder whole, with its head."""

    @model_validator(mode="after")
    def _usable(self) -> SystemSpec:
        if not (self.endpoint or self.model or self.adapter or self.encoder):
            raise ValueError(f"system {self.name!r} needs an endpoint, a model, an adapter or an encoder")
        if self.encoder and (self.endpoint or self.model or self.adapter):
            raise ValueError(f"system {self.name!r} is an encoder or a language model, not both")
        if self.tuned and not self.encoder:
            raise ValueError(f"system {self.name!r}: only an encoder is fine-tuned here; name it as `encoder`")
        if self.prompt == "best" and self.adapter:
            raise ValueError(f"system {self.name!r}: an adapter is asked as it was taught, without prompt: best")
        return self

    @property
    def local(self) -> bool:
        """Whether a language model answers in this process."""
        return self.endpoint is None and self.encoder is None


BUILT_IN_SYSTEMS = ("base", "base-best", "tuned", "merged", "linear", "nearest", "majority")


class Latency(Settings):
    """Timed requests, one at a time, after warm-up."""

    requests: int = Field(default=72, ge=0)
    """72 is the fewest from which a two-sided 95% interval of the 95th percentile exists."""
    warmup: int = Field(default=5, ge=0)


class Load(Settings):
    """Endpoints under load, sent by GuideLLM (extra `load`). Each number is a level with requests of its own."""

    poisson: list[Annotated[float, Field(gt=0)]] = []
    """Requests a second that arrive at random, as those of many users do."""
    constant: list[Annotated[float, Field(gt=0)]] = []
    """Requests a second at equal distances."""
    concurrent: list[Annotated[int, Field(ge=1)]] = []
    """Users at once, each waiting for an answer before the next question. No answer to what users wait at a rate."""
    sweep: int | None = Field(default=None, ge=3)
    """So many levels, from one request at a time to all at once and constant rates between."""
    knee: list[Annotated[int, Field(ge=1)]] = Field(default=[], max_length=64)
    """At least five rising numbers of users; the report says from which on more of them bring no more answers."""
    requests: int = Field(default=200, ge=1)
    """Per level. 72 give the 95th percentile an interval, 368 the 99th."""
    warmup: int = Field(default=10, ge=0)
    """Requests before them, per level."""
    max_seconds: float = Field(default=300, gt=0)
    """Longest time of a level; what was not sent by then is not."""

    @model_validator(mode="after")
    def _rising(self) -> Load:
        if self.knee and (len(self.knee) < 5 or sorted(set(self.knee)) != self.knee):
            raise ValueError("knee needs at least five rising numbers of users, for example [1, 2, 4, 8, 16]")
        users = [*self.concurrent, *self.knee, *([1] if self.sweep else [])]
        for numbers in ([float(u) for u in users], self.poisson, self.constant):
            if twice := {n for n in numbers if numbers.count(n) > 1}:
                raise ValueError(f"a level is measured twice: {', '.join(f'{n:g}' for n in sorted(twice))}")
        return self

    def profiles(self) -> list[tuple[dict[str, Any], int]]:
        """GuideLLM's profiles for these levels, and how many levels each measures."""
        found: list[tuple[dict[str, Any], int]] = []
        if self.poisson:
            found.append(({"kind": "poisson", "rate": self.poisson}, len(self.poisson)))
        if self.constant:
            found.append(({"kind": "constant", "rate": self.constant}, len(self.constant)))
        if self.concurrent:
            found.append(({"kind": "concurrent", "streams": self.concurrent}, len(self.concurrent)))
        if self.sweep:
            found.append(({"kind": "sweep", "sweep_size": self.sweep}, self.sweep))
        if self.knee:
            found.append(({"kind": "knee", "initial_streams": self.knee}, len(self.knee)))
        return found

    @property
    def questions(self) -> int:
        """Requests that one system is sent for all levels."""
        return sum(count for _, count in self.profiles()) * (self.requests + self.warmup)


class Price(Settings):
    """What a machine costs. Unknown is missing, never zero."""

    machine_hour: float | None = Field(default=None, ge=0)
    hardware: str | None = None
    """What costs that, as (a part of) the name that reports give the machine: `H100`, `Xeon`. A system that was
    measured on another machine then has no price: its speed is not that of the machine paid for."""
    currency: str = "USD"
    utilisation: float = Field(default=0.5, gt=0, le=1)
    """Share of the measured capacity that is paid for and used."""
    per_month: float | None = Field(default=None, gt=0)
    """Requests a month that are expected: the report then says machines, headroom and money for each system."""
    peak_rate: float | None = Field(default=None, gt=0)
    """Requests a second at the busiest hour. Null spreads `per_month` evenly, which needs the fewest machines."""


class Judge(JudgeEndpoint):
    """Asked which of two answers is better, in both orders: the metrics `judge.win_rate` and `judge.consistency`."""

    against: str = "base"
    """The system that all others are compared with, or `reference`: the right answers."""
    human: str | None = None
    """What people prefer: JSON lines with `prompt`, `first`, `second`, `winner` (first, second, tie). A gate may rest
    on the judge where it agrees with them. Without it each run offers pairs to fill in, `to_label.jsonl`."""


class Evaluate(Settings):
    """What is compared, on which task, at what price."""

    task: Task = Task()
    systems: list[str | SystemSpec] = ["base", "tuned"]
    latency: Latency = Latency()
    load: Load = Load()
    judge: Judge | None = None
    price: Price = Price()
    external: bool = False
    """Consent: rows may be sent to the endpoints named above."""
    max_cost: float | None = Field(default=None, gt=0)
    """Money for answers that are paid by the token, at most, forecast on the safe side. Above it nothing starts."""
    batch: int = Field(default=32, ge=1)
    again: int = Field(default=0, ge=0)
    """Items that every system is asked a second time, each alone. The share answered otherwise, `flip_rate`, is how far
    a system is from repeating itself: differences below it mean nothing."""

    @model_validator(mode="after")
    def _known(self) -> Evaluate:
        for system in self.systems:
            if isinstance(system, str) and system not in BUILT_IN_SYSTEMS:
                raise ValueError(f"unknown system {system!r}; {did_you_mean(system, BUILT_IN_SYSTEMS)}")
        names = [s if isinstance(s, str) else s.name for s in self.systems]
        if len(set(names)) < len(names):
            raise ValueError(f"a system is named twice: {names}")
        if self.load.profiles() and not any(isinstance(s, SystemSpec) and s.endpoint for s in self.systems):
            raise ValueError("load is measured on endpoints, and no system here has one")
        if self.judge is not None and self.task.kind in ("classify", "regress"):
            raise ValueError(f"a judge compares texts; what is to {self.task.kind} has right answers: leave judge out")
        if self.judge is not None and self.judge.against not in (*names, "reference"):
            raise ValueError(f"judge.against: {did_you_mean(self.judge.against, [*names, 'reference'])}")
        return self


class Sweep(Settings):
    """`tamis sweep`: the values tried, stage by stage. `auto` spreads some about the planned one; `[]` tries none."""

    lr: list[float] | Literal["auto"] = "auto"
    r: list[int] | Literal["auto"] = "auto"
    alpha: list[float] | Literal["auto"] = "auto"
    target_modules: list[str | list[str]] | Literal["auto"] = "auto"
    """`auto`: all linear layers, and those that the model's family is adapted at by default (mostly attention's)."""
    items: int = Field(default=200, ge=10)
    """Validation items: training rows, never the evaluation set's, so the gate's items stay unseen."""
    metric: str | None = None
    """What decides; default the first of the task."""


class Compare(Settings):
    """`tamis compare`: ways of training on the same rows and items."""

    arms: list[Literal["qlora", "lora", "full", "nf4", "fp4", "int8"]] = ["qlora", "lora", "full", "fp4", "int8"]
    """`qlora` as the recipe quantises; `nf4`, `fp4`, `int8`: qlora with that quantisation."""
    general: Eval | None = None
    """Rows of another kind, on which is measured what training has made the model forget."""

    @model_validator(mode="after")
    def _a_file(self) -> Compare:
        if self.general is not None and self.general.path is None:
            raise ValueError("compare.general needs a path")
        if len(set(self.arms)) < len(self.arms):
            raise ValueError(f"an arm is named twice: {self.arms}")
        return self


class Study(Settings):
    """`tamis study`: how few rows are enough, and whether choosing them is better than drawing them at random."""

    metric: str | None = None
    """What decides; default the first of the task. One of those that the task computes."""
    margin: float = 0.02
    """Loss against all rows that is still acceptable, in the metric's own unit: 0.02 of accuracy is two points."""
    sizes: list[int] | Literal["auto"] = "auto"
    """Rows; a smaller size is the beginning of a larger one. `auto`: a half, a quarter, an eighth, a sixteenth."""
    methods: list[Literal["cluster", "random", "random-kept", "stratified", "longest", "as-found"]] = [
        "cluster",
        "random",
    ]
    """Beside `all`. `cluster` and `random-kept` draw from what curation leaves, `as-found` from everything, leaks
    included, the others from all rows that leak no evaluation item."""
    seeds: int = 5
    """Trainings of each method and size; each draws and trains by a seed of its own."""
    reference_seeds: int | None = Field(default=None, ge=1)
    """Trainings of `all`, the dearest; null as many as the others. A single one is taken to vary as the others do."""
    equal: Literal["epochs", "steps"] = "epochs"
    """What every size has in common. With equal steps small sizes are read more often, until they cost what `all`
    costs; that wants `train.batch` as a number."""
    epochs: float | None = Field(default=None, gt=0)
    """The same for every size (with equal steps: those of `all`); null takes `train.epochs`. Never stopped early."""
    max_cost: float | None = Field(default=None, gt=0)
    """Money for training, at `evaluate.price.machine_hour`. What does not fit is left out, the least telling first."""
    resamples: int = Field(default=20, ge=0)
    """How often rows are chosen again from four fifths of them, to see how stable the choice is; 0: not at all."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of the two-sided intervals. A size is recommended by a one-sided test at half the rest."""

    @model_validator(mode="after")
    def _answerable(self) -> Study:
        if not self.margin > 0:
            raise ValueError(
                f"a margin of {self.margin:g} cannot be shown: no finite number of items proves a loss of exactly "
                "nothing; give the loss you would accept, such as 0.02"
            )
        if self.seeds < 2:
            raise ValueError("one seed cannot tell luck from rows; five are usual, two the least")
        if self.sizes != "auto" and (not self.sizes or min(self.sizes) < 1):
            raise ValueError("a study needs sizes of one row or more, for example [150, 300, 600]")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError("a study needs methods, each named once, for example [cluster, random]")
        return self


class Candidate(SystemSpec):
    """A base model to choose from, or what it has to beat: an endpoint, an encoder. Asked at its best by default."""

    prompt: Literal["plain", "best"] = "best"
    license: str | None = None
    """As it is written in `choose.licenses`; null: what the catalogue or the folder's model card says."""
    languages: list[str] | None = None
    """Languages it speaks (ISO 639-1); null: what the catalogue or the folder's model card says."""


class Choose(Settings):
    """`tamis choose`: which base model for this task, this data, this machine and this budget."""

    candidates: list[str | Candidate] = []
    """Models (folders, packaged or hub names), endpoints and encoders. The recipe's `model` is always one."""
    catalogue: bool = True
    """Also models of the catalogue that Tamis ships, if they are on this machine."""
    leaderboard: str | None = None
    """The `contents` table of the Open LLM Leaderboard (.parquet or .csv), as it is. Its order is where to look first;
    asked are those of its models that are on this machine."""
    most: int = Field(default=8, ge=1)
    """Of catalogue and leaderboard together, at most so many models."""
    rounds: list[int] = [16, 64, 256]
    """Items that have been asked at the end of each round; after each the better half goes on."""
    metric: str | None = None
    """What decides; default the first of the task."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    licenses: list[str] = []
    """Licences that will do, as the hub writes them (`apache-2.0`); empty: any."""
    languages: list[str] | Literal["from-data"] = "from-data"
    """Languages a model must speak (ISO 639-1); `from-data`: those of a tenth of the rows and more."""
    max_tokens_per_word: float | None = Field(default=3.0, gt=0)
    """Tokens that a tokenizer may need for a word of these rows; null: any number."""
    chat_template: bool = True
    """Whether a model must have one. Training needs it."""
    memory_gb: float | None = Field(default=None, gt=0)
    """Of the machine that will train, in 10^9 bytes; null: what is free here."""
    serving_memory_gb: float | None = Field(default=None, gt=0)
    """Of the machine that will serve; null: what is free here."""
    concurrency: int = Field(default=8, ge=1)
    """Requests that are served at once; the keys and values of each must fit."""

    @model_validator(mode="after")
    def _decidable(self) -> Choose:
        if not self.rounds or sorted(set(self.rounds)) != self.rounds or self.rounds[0] < 2:
            raise ValueError("rounds are rising numbers of items, for example [16, 64, 256]")
        if self.metric in ("perplexity", "token_perplexity"):
            raise ValueError(
                "perplexity is per token, and every tokenizer cuts another number of tokens; metric: bits_per_byte"
            )
        if adapters := [c.name for c in self.candidates if isinstance(c, Candidate) and c.adapter]:
            raise ValueError(f"{adapters[0]!r} is an adapter, not a base; name it under evaluate.systems")
        names = [c.name for c in self.candidates if isinstance(c, Candidate)]
        if len(set(names)) < len(names):
            raise ValueError(f"a candidate is named twice: {names}")
        return self


class Engine(Settings):
    """Where Daft runs: `native`, or a Ray cluster (`auto` starts one here, else its address)."""

    ray: str


class Recipe(Settings):
    """Everything one run does. See `docs/reference/recipe.md`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=7, ge=0)
    data: Data | None = None
    """Null where nothing is curated or trained, and a model is only evaluated."""
    eval: Eval | None = None
    engine: Literal["native"] | Engine = "native"
    embedder: str = "auto"
    curate: Curate = Curate()
    model: str = "HuggingFaceTB/SmolLM2-135M-Instruct"
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    gate: str | None = None
    sweep: Sweep = Sweep()
    compare: Compare = Compare()
    study: Study = Study()
    choose: Choose = Choose()

    @model_validator(mode="after")
    def _has_data(self) -> Recipe:
        if self.data is None and (self.eval is None or self.eval.path is None):
            raise ValueError("the key 'data' is missing (only a recipe with eval.path can do without)")
        return self

    def seed_for(self, stage: str) -> int:
        """The child seed of a stage: 31 bits of blake2b(seed, stage). Stages do not share random streams."""
        digest = hashlib.blake2b(f"{self.seed}:{stage}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") >> 1

    @classmethod
    def load(cls, path: str | Path, overrides: dict[str, Any] | None = None) -> Recipe:
        """Read a recipe file. Paths in it are relative to the file.

        Args:
            path: the YAML file.
            overrides: dotted keys and the values that replace those of the file.

        Raises:
            RecipeError: missing file, bad YAML, unknown key, wrong value; names file, line and key.
        """
        return cls._read(Path(path), overrides or {}, Path(path).parent)

    @classmethod
    def _read(cls, path: Path, overrides: dict[str, Any], base: Path) -> Recipe:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise RecipeError(
                "there is no such recipe", where=str(path), hint="tamis init writes one to start from"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError("the recipe cannot be read", where=str(path), why=str(error)) from None
        try:
            raw = yaml.safe_load(text)
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise RecipeError(
                "the recipe is not YAML", where=_yaml_place(path, error), why=_first_line(error)
            ) from None
        if not isinstance(raw, dict):
            raise RecipeError(
                "a recipe is a mapping of keys",
                where=str(path),
                hint="tamis init writes one to start from",
            )
        for key, value in overrides.items():
            _set(raw, key, value)
        return cls.check(_resolve_paths(raw, base), where=str(path), root=root)

    @classmethod
    def of_run(cls, folder: str | Path) -> Recipe:
        """The recipe that a run folder was made with. Its paths count from where the command was typed then.

        Raises:
            RecipeError: there is none, or it cannot be read.
        """
        file = Path(folder) / "recipe.yaml"
        if not file.is_file():
            raise RecipeError(
                "this folder holds no run", where=str(folder), hint="tamis run RECIPE --run DIR makes one"
            )
        return cls._read(file, {}, Path())

    @classmethod
    def check(cls, raw: dict[str, Any], *, where: str = "recipe", root: yaml.Node | None = None) -> Recipe:
        """Validate a mapping; every problem becomes one line of a RecipeError."""
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            problems = [_problem(e, root, where) for e in _without_union_noise(error.errors())]
        (first_where, first), *more = problems
        why = "; ".join(f"{place}: {text}" for place, text in more) or None
        raise RecipeError(first, where=first_where, why=why, hint="docs/reference/recipe.md lists every key")

    def changed(self, overrides: dict[str, Any]) -> Recipe:
        """This recipe with other values for some dotted keys.

        Raises:
            RecipeError: unknown key, wrong value.
        """
        raw = self.model_dump(mode="json")
        for key, value in overrides.items():
            _set(raw, key, value)
        return self.check(raw)

    def anywhere(self) -> Recipe:
        """This recipe with absolute paths: to be written into another folder and read there."""
        raw = _resolve_paths(self.model_dump(mode="json"), Path.cwd())
        raw["model"] = _absolute(self.model)
        for place, candidate in enumerate(raw["choose"]["candidates"]):
            if isinstance(candidate, str):
                raw["choose"]["candidates"][place] = _absolute(candidate)
            elif candidate["model"]:
                candidate["model"] = _absolute(candidate["model"])
        return self.check(raw)

    def dump(self) -> str:
        """The recipe as YAML with all defaults spelled out: what a run folder keeps."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _absolute(model: str) -> str:
    """A model's name, or where its folder lies if it is one."""
    path = Path(model).expanduser()
    return str(path.resolve()) if path.exists() else model


def _set(raw: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        child = raw.get(parent)
        raw[parent] = child = dict(child) if isinstance(child, dict) else {}
        raw = child
    raw[last] = value


def _resolve_paths(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the file names of a recipe relative to where it is read, not to where it lies."""

    def resolve(value: Any) -> Any:
        if isinstance(value, list):
            return [resolve(v) for v in value]
        if not isinstance(value, str) or "://" in value or Path(value).is_absolute():
            return value
        return str(folder / value) if str(folder) != "." else value

    places = (
        ("data", "path"),
        ("eval", "path"),
        ("eval", "frozen"),
        ("gate",),
        ("compare", "general", "path"),
        ("choose", "leaderboard"),
        ("curate", "annotations"),
        ("evaluate", "judge", "human"),
        ("curate", "rules", "custom"),
        ("curate", "select", "must_keep"),
    )
    for place in places:
        node: Any = raw
        for key in place[:-1]:
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, dict) and node.get(place[-1]) is not None:
            node[place[-1]] = resolve(node[place[-1]])
    task = (raw.get("evaluate") or {}).get("task") if isinstance(raw.get("evaluate"), dict) else None
    if isinstance(task, dict) and isinstance(task.get("metrics"), list):
        task["metrics"] = [relocated(m, folder) if isinstance(m, str) else m for m in task["metrics"]]
    return raw


def _without_union_noise(errors: list[Any]) -> list[Any]:
    """Pydantic reports each branch of a union; keep, per key, the branch that is about a name or a value."""
    kept: dict[tuple[Any, ...], Any] = {}
    for error in errors:
        place = tuple(p for p in error["loc"] if not _is_branch(p))
        if place not in kept or error["type"] in ("extra_forbidden", "value_error"):
            kept[place] = {**error, "loc": place}
    return list(kept.values())


def _is_branch(part: Any) -> bool:
    """Whether a part of an error's place is a union branch ("literal['auto']", "int") and not a key."""
    return isinstance(part, str) and (
        "[" in part
        or part in {"str", "constrained-str", "int", "float", "bool", "Engine", "SystemSpec", "Candidate", "Size"}
        or part in {"features", "ifd", "judge"}
    )


def _problem(error: Any, root: yaml.Node | None, where: str) -> tuple[str, str]:
    place = error["loc"]
    dotted = ".".join(str(p) for p in place)
    line = line_of(root, place)
    spot = f"{where}:{line}:{dotted}" if line else f"{where}:{dotted}"
    if error["type"] == "extra_forbidden":
        return spot, f"unknown key {place[-1]!r}; {did_you_mean(str(place[-1]), _keys_at(place[:-1]))}"
    if error["type"] == "missing":
        return spot, f"the key {dotted!r} is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "literal_error":
        given = error.get("input")
        options = re.findall(r"'([^']+)'", str(error.get("ctx", {}).get("expected", "")))
        return spot, f"{dotted}: {given!r} is not one of the choices; {did_you_mean(str(given), options)}"
    return spot, f"{dotted}: {message}"


def _keys_at(place: tuple[Any, ...]) -> list[str]:
    """The keys known at a place of the recipe."""
    groups: list[type[Settings]] = [Recipe]
    for part in place:
        inside = [i for g in groups if part in g.model_fields for i in settings_in(g.model_fields[part].annotation)]
        groups = inside or groups
    return list(dict.fromkeys(name for group in groups for name in group.model_fields))


def settings_in(annotation: Any) -> list[type[Settings]]:
    """The groups of keys behind an annotation: none for a plain value, several where a list holds several kinds."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [found for argument in getattr(annotation, "__args__", ()) for found in settings_in(argument)]


def line_of(node: yaml.Node | None, place: tuple[Any, ...]) -> int | None:
    """The line of a key in the file, counted from 1."""
    line = None
    for part in place:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _yaml_place(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{path}:{mark.line + 1}" if mark else str(path)


def _first_line(error: Exception) -> str:
    return str(getattr(error, "problem", None) or str(error).splitlines()[0])
