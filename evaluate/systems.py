"""What a system under test is, and how a name in the recipe becomes one."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from tamis.errors import RecipeError
from tamis.evaluate.task import Item, Reader
from tamis.models import Quantisation
from tamis.recipe import Recipe, SystemSpec
from tamis.run import Run


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a system said to one item. Field meanings: `schema.SAMPLES`.

    `retries` counts how often the request was sent again; `down` says that the failure is the system's, not the item's.
    """

    prompt: str
    prompt_sha256: str
    output: str | None
    finish: str = "stop"
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    nll: float | None = None
    nll_tokens: int | None = None
    nll_bytes: int | None = None
    error: str | None = None
    retries: int = 0
    down: bool = False


@dataclasses.dataclass(frozen=True)
class Answered:
    """A batch's replies and how long the answering took; scoring reference answers is not answering."""

    replies: list[Reply]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Timing:
    """One timed request, in seconds from sending it. Tokens may be unknown."""

    first_s: float | None
    last_s: float | None
    prompt_tokens: int | None
    output_tokens: int | None
    ok: bool = True


class System(Protocol):
    """Anything that answers items."""

    def about(self) -> dict[str, Any]:
        """What exactly was evaluated: hashes, engine, device, decoding. Goes into `metrics.json`."""
        ...

    def prepare(self, items: Sequence[Item]) -> None:
        """Called once with the full item list before anything is asked."""
        ...

    def length(self, item: Item) -> int:
        """How long an item is for this system; batches hold items of like length. Known after `prepare`."""
        ...

    def answer(self, batch: Sequence[Item]) -> Answered:
        """Replies in the order of the batch. A failed request is a reply with an error, not an exception."""
        ...

    def timed(self, item: Item) -> Timing:
        """Answer one item alone."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


def text_length(item: Item) -> int:
    """Bytes that are asked: the length for systems without a tokenizer."""
    return sum(len(t["content"].encode("utf-8", "surrogatepass")) for t in item.turns)


@dataclasses.dataclass(frozen=True)
class Setting:
    """Everything the systems of one arm share. `train_rows` are the rows the arm was trained on, if known."""

    run: Run
    recipe: Recipe
    arm: str
    items: list[Item]
    reader: Reader
    train_rows: pa.Table | None


# Systems whose answers depend on the arm's rows or adapter; the others are evaluated once, in the first arm.
ARM_BOUND = ("tuned", "merged", "linear", "nearest", "majority", "bytes")


def bound_to_arm(spec: str | SystemSpec) -> bool:
    """Whether a system is another one in each arm."""
    return spec in ARM_BOUND if isinstance(spec, str) else spec.encoder is not None


def name_of(spec: str | SystemSpec) -> str:
    """The folder name of a system."""
    return spec if isinstance(spec, str) else spec.name


def needs_model(spec: str | SystemSpec) -> bool:
    """Whether it runs a language model in this process."""
    return spec in ("base", "base-best", "tuned", "merged") if isinstance(spec, str) else spec.local


class Workshop(contextlib.AbstractContextManager["Workshop"]):
    """Makes the systems of one arm. Loaded models are kept for the next system that needs the same one."""

    def __init__(self, setting: Setting):
        self.setting = setting
        self._engines: dict[tuple[str, str, str], Any] = {}

    def make(self, spec: str | SystemSpec) -> System:
        """The system of a name.

        Raises:
            RecipeError: it needs something this run does not have (training rows, an adapter).
        """
        if isinstance(spec, SystemSpec):
            return self._from_spec(spec)
        if spec in ("linear", "nearest", "majority"):
            from tamis.evaluate.baselines import Baseline

            return Baseline.fit(spec, self.setting)
        if spec == "bytes":
            from tamis.evaluate.byte_model import Bytes

            return Bytes.of(self.setting)
        from tamis.evaluate import local

        recipe = self.setting.recipe
        if spec == "merged":
            folder = self.setting.run.train(self.setting.arm) / "merged"
            if not folder.is_dir():
                raise RecipeError(
                    "the merged model is not there", where=str(folder), hint="tamis export RUN --to merged"
                )
            return local.Plain(self._engine(str(folder), None, "none"), self.setting, tuned=False)
        engine = self._engine(
            recipe.model, self._adapter() if self._arm_has_adapter() else None, local.quantised(recipe)
        )
        if spec == "base-best":
            return local.Best(engine, self.setting)
        if spec == "tuned" and engine.adapter is None:
            raise RecipeError(
                f"arm {self.setting.arm!r} has no adapter to evaluate",
                where=self._adapter(),
                hint="tamis train RECIPE, or leave `tuned` out of evaluate.systems",
            )
        return local.Plain(engine, self.setting, tuned=spec == "tuned")

    def _from_spec(self, spec: SystemSpec) -> System:
        if spec.endpoint is not None:
            from tamis.evaluate.remote import Endpoint

            return Endpoint(spec, self.setting)
        if spec.encoder is not None:
            return self._encoder(spec, spec.encoder)
        from tamis.evaluate import local

        model = spec.model or self.setting.recipe.model
        if spec.model is not None and spec.adapter is None:
            from tamis.evaluate.encoder import Encoder, is_encoder
            from tamis.models import resolve

            trusted = self.setting.recipe.train.trust_remote_code
            if is_encoder(resolve(spec.model, trust_remote_code=trusted)):
                self.close()
                return Encoder(spec.name, spec.model, self.setting)
        quantisation = spec.quantisation or (local.quantised(self.setting.recipe) if spec.model is None else "none")
        engine = self._engine(model, spec.adapter, quantisation)
        if spec.prompt == "best":
            return local.Best(engine, self.setting, choosing=True)
        return local.Plain(engine, self.setting, tuned=spec.adapter is not None)

    def _encoder(self, spec: SystemSpec, encoder: str) -> System:
        from tamis.evaluate.baselines import Baseline

        if not spec.tuned:
            return Baseline.fit("linear", self.setting, encoder)
        from tamis.evaluate.encoder_tuning import tuned

        return tuned(encoder, self.setting)

    def _adapter(self) -> str:
        return str(self.setting.run.train(self.setting.arm) / "adapter")

    def _arm_has_adapter(self) -> bool:
        return any((Path(self._adapter()) / name).is_file() for name in ("adapter_config.json", "config.json"))

    def _engine(self, model: str, adapter: str | None, quantisation: Quantisation) -> Any:
        from tamis.evaluate.local import Engine

        key = (model, adapter or "", quantisation)
        if key not in self._engines:
            self.close()  # two models at once may not fit
            self._engines[key] = Engine.load(model, adapter, quantisation, self.setting.recipe)
        return self._engines[key]

    def close(self) -> None:
        """Free the loaded models."""
        self._engines.clear()

    def __exit__(self, *_: object) -> None:
        self.close()
