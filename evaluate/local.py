"""Language models in this process: base, base at its best, tuned. One load; the adapter is switched, not reloaded.

Speed comes from four things that change no answer beyond bf16's rounding, which the fixed batch plan keeps constant:
the tokens that all prompts share are computed once and their keys and values reused; batches hold prompts of like
length; reference answers are read in the pass of their prompts, whose keys and values the answer then goes on from;
and 4-bit weights are unpacked once on a CPU (the same numbers that bitsandbytes would unpack in every step).
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tamis.errors import RecipeError
from tamis.evaluate import prompting
from tamis.evaluate.systems import Answered, Reply, Setting, Timing
from tamis.evaluate.task import Item
from tamis.machine import free_memory
from tamis.models import (
    Quantisation,
    adapter_identity,
    best_device,
    cache_folder,
    load_adapter,
    load_model,
    load_tokenizer,
    quantisation_of,
    resolve,
    weights_sha256,
)
from tamis.recipe import Recipe, Task
from tamis.record import json_sha256
from tamis.run import file_sha256, package_version
from tamis.schema import read_json, write_json

MIN_PREFIX = 8  # tokens; below it, copying the prefix costs more than computing it
REFERENCE_CHUNK = 32  # reference tokens scored at a time: bounds the logits held (batch x chunk x vocabulary)
WIDTHS = 8  # oneDNN makes a kernel for every new shape, which is slower than the tokens saved
PACKED = 8  # prompts that share a row when labels are scored; more waste time on what they must not see
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the calibration of label likelihoods
DECODING = {"strategy": "greedy", "temperature": 0}


def quantised(recipe: Recipe) -> Quantisation:
    """How the base is loaded: as it was for training, since base and tuned must differ by the adapter only."""
    return quantisation_of(recipe.train)


def adapter_sha256(folder: Path) -> str:
    """Identity of an adapter (or of fully tuned weights)."""
    adapter = folder / "adapter_model.safetensors"
    return file_sha256(adapter) if adapter.is_file() else weights_sha256(folder)


@dataclasses.dataclass
class Engine:
    """A loaded model with its tokenizer, and the adapter on it, if any."""

    model: Any
    tokenizer: Any
    about: dict[str, Any]
    adapter: dict[str, Any] | None

    @classmethod
    def load(cls, name: str, adapter: str | None, quantisation: Quantisation, recipe: Recipe) -> Engine:
        """Load a model and put an adapter on it.

        Raises:
            RecipeError: no such model, or an adapter that does not belong to it or does nothing.
            MissingExtra: torch, transformers, peft or bitsandbytes is not installed.
        """
        resolved = resolve(name, trust_remote_code=recipe.train.trust_remote_code)
        tokenizer = load_tokenizer(resolved)
        unpacked = _worth_unpacking(resolved.path, quantisation)
        model = load_model(resolved, quantisation, unpacked=unpacked)
        about = {
            "model": {"name": resolved.name, "source": resolved.source, "quantisation": quantisation},
            "model_sha256": resolved.sha256,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(model.device),
        }
        attached = None
        if adapter is not None:
            model = load_adapter(model, Path(adapter))
            attached = {"sha256": adapter_sha256(Path(adapter)), "identity": adapter_identity(Path(adapter))}
        return cls(model.eval(), tokenizer, about, attached)

    @contextlib.contextmanager
    def as_(self, tuned: bool) -> Iterator[None]:
        """Answer as the tuned model or as the base, without gradients."""
        import torch

        off = self.adapter is not None and not tuned
        with torch.inference_mode(), self.model.disable_adapter() if off else contextlib.nullcontext():
            yield

    @functools.cached_property
    def stop_ids(self) -> set[int]:
        """Tokens that end an answer: the model's, the tokenizer's, and what the template puts behind an answer."""
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        ids = configured if isinstance(configured, list) else [configured]
        named = prompting.stop_token(self.tokenizer)
        template = self.tokens(named)[:1] if named else []
        return {i for i in (*ids, self.tokenizer.eos_token_id, *template) if i is not None}

    def tokens(self, text: str) -> list[int]:
        """Token ids of a rendered prompt; the template has put the special tokens in."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _worth_unpacking(folder: Path, quantisation: str) -> bool:
    """Whether to hold 4-bit weights at full width: on a CPU, where half of the free memory holds them.

    The numbers are those that bitsandbytes would unpack in every step. The logits are bit-identical in fp32, and equal
    up to bf16's rounding on a CPU with matrix tiles, where the layout of the weights picks another kernel; base and
    tuned are loaded alike. SmolLM2-135M answers twice as many tokens per second on two cores, one request at a time.
    """
    if quantisation not in ("nf4", "fp4") or best_device() != "cpu":
        return False
    stored = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    return 2 * stored < free_memory() / 2  # stored in 16 bits, held in up to 32


# -------------------------------------------------------------------------------------------------- forward passes


class Runner:
    """Batches of prompts that share a prefix, on one engine in one state of its adapter."""

    def __init__(self, engine: Engine, tuned: bool, prefix: list[int]):
        self.engine, self.tuned, self.prefix = engine, tuned, prefix

    @functools.cached_property
    def shared(self) -> Any:
        """Keys and values of the prefix, for one prompt."""
        from transformers import DynamicCache

        cache = DynamicCache(config=self.engine.model.config)
        if self.prefix:
            self.forward([self.prefix], cache, None, None)
        return cache

    def cache_for(self, size: int) -> Any:
        """A cache that holds the prefix for a batch."""
        cache = copy.deepcopy(self.shared)
        if self.prefix and size > 1:
            cache.batch_repeat_interleave(size)
        return cache

    def forward(self, ids: Any, cache: Any, mask: Any, positions: Any, keep: Any = 1) -> Any:
        """Logits of the last `keep` positions, or of those in a tensor; shape (batch, keep, vocabulary)."""
        import torch

        model = self.engine.model
        given = torch.as_tensor(ids, device=model.device)
        out = model(
            input_ids=given,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        return out.logits if torch.is_tensor(keep) else out.logits[:, -keep:]

    def prefill(self, prompts: Sequence[list[int]]) -> State:
        """Read the prompts (without the prefix), padded on the left to a multiple of `WIDTHS`."""
        return self._read(prompts, [[] for _ in prompts])[0]

    def _read(self, prompts: Sequence[list[int]], tails: Sequence[list[int]]) -> tuple[State, Any]:
        """Read prompts with something behind each, in one pass.

        Returns:
            The state behind the tails, and the logits from a prompt's last token on, (batch, 1 + longest tail, vocab).
        """
        import torch

        device = self.engine.model.device
        behind = max(len(t) for t in tails)
        width = max(len(p) for p in prompts)
        width += -(width + behind) % WIDTHS
        pad = self.engine.tokenizer.pad_token_id or 0
        ids = torch.full((len(prompts), width + behind), pad, device=device)
        mask = torch.zeros((len(prompts), len(self.prefix) + width + behind), dtype=torch.long, device=device)
        mask[:, : len(self.prefix)] = 1
        for row, (prompt, tail) in enumerate(zip(prompts, tails, strict=True)):
            place = slice(width - len(prompt), width + len(tail))
            ids[row, place] = torch.as_tensor([*prompt, *tail], device=device)
            mask[row, len(self.prefix) :][place] = 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, len(self.prefix) :]
        cache = self.cache_for(len(prompts))
        logits = self.forward(ids, cache, mask, positions, 1 + behind).float()
        # a shorter tail leaves a gap before what is read next, which the mask hides; positions go on without it
        return State(cache, mask, logits[:, -1], positions[:, width - 1] + 1 + behind), logits

    def step(self, state: State, ids: Any, keep: int = 1, valid: Any = None) -> tuple[State, Any]:
        """Read further tokens, shape (batch, t); `valid` marks those that are not padding."""
        import torch

        valid = torch.ones_like(ids) if valid is None else valid
        mask = torch.cat([state.mask, valid], dim=1)
        positions = state.next_position[:, None] + torch.arange(ids.shape[1], device=ids.device)[None]
        logits = self.forward(ids, state.cache, mask, positions, keep).float()
        return State(state.cache, mask, logits[:, -1], state.next_position + ids.shape[1]), logits

    def greedy(self, state: State, max_tokens: int) -> list[tuple[list[int], str]]:
        """The most likely token, one after another, until a stop token or the limit."""
        import torch

        stops = torch.as_tensor(sorted(self.engine.stop_ids), device=state.logits.device)
        made: list[Any] = []
        running = torch.ones(len(state.logits), dtype=torch.bool, device=state.logits.device)
        for place in range(max_tokens):
            token = state.logits.argmax(-1)
            made.append(torch.where(running, token, torch.full_like(token, -1)))
            running = running & ~torch.isin(token, stops)
            if place + 1 == max_tokens or not bool(running.any()):
                break
            state, _ = self.step(state, token[:, None])
        rows = torch.stack(made, dim=1).tolist()
        return [_cut(row, self.engine.stop_ids) for row in rows]

    def scored(self, prompts: Sequence[list[int]], references: Sequence[list[int]]) -> tuple[State, list[float]]:
        """Read the prompts, and the references behind them in the same pass.

        Returns:
            The state as `prefill` leaves it (what is generated does not see the references), and each reference's
            negative log-likelihood in nats after its prompt, summed over its tokens.
        """
        if not _croppable(self.shared):
            state = self.prefill(prompts)
            copied = dataclasses.replace(state, cache=copy.deepcopy(state.cache))
            return state, self._likelihood(copied, references).tolist()
        first = [r[:REFERENCE_CHUNK] for r in references]
        read, logits = self._read(prompts, first)
        behind = logits.shape[1] - 1
        losses = _losses(logits[:, :-1], first)
        losses += self._likelihood(read, [r[behind:] for r in references])
        end = read.mask.shape[1] - behind
        if further := read.cache.get_seq_length() - end:
            read.cache.crop(-further)
        return State(read.cache, read.mask[:, :end], logits[:, 0], read.next_position - behind), losses.tolist()

    def _likelihood(self, state: State, references: Sequence[list[int]]) -> Any:
        """Negative log-likelihoods of what follows a state, float64 of shape (batch,). Reads on in its cache."""
        import torch

        total = torch.zeros(len(references), dtype=torch.float64, device=state.logits.device)
        for start in range(0, max(len(r) for r in references), REFERENCE_CHUNK):
            part = [r[start : start + REFERENCE_CHUNK] for r in references]
            ids, valid = _padded(part, state.logits.device)
            carried = state.logits[:, None]
            state, logits = self.step(state, ids, keep=ids.shape[1], valid=valid)
            total += _losses(torch.cat([carried, logits[:, :-1]], dim=1), part)
        return total


def _padded(rows: Sequence[list[int]], device: Any) -> tuple[Any, Any]:
    """Token ids padded on the right, and 1 where they are real; both (rows, longest)."""
    import torch

    width = max(len(r) for r in rows)
    ids = torch.as_tensor([r + [0] * (width - len(r)) for r in rows], device=device)
    valid = torch.as_tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows], device=device)
    return ids.long(), valid.long()


def _losses(logits: Any, references: Sequence[list[int]]) -> Any:
    """Summed negative log-likelihood of each row's tokens under (rows, longest, vocabulary) logits, float64."""
    ids, valid = _padded(references, logits.device)
    logp = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    return -(logp.double() * valid).sum(1)


def _croppable(cache: Any) -> bool:
    """Whether reading on can be taken back without a copy: not where a layer forgets what left its window."""
    from transformers.cache_utils import DynamicLayer

    return all(type(layer) is DynamicLayer for layer in cache.layers)


@dataclasses.dataclass(frozen=True)
class State:
    """Where a batch stands: keys and values, which of them count, the next token's logits and position."""

    cache: Any
    mask: Any
    logits: Any
    next_position: Any


def _cut(tokens: list[int], stops: set[int]) -> tuple[list[int], str]:
    """Tokens before the stop token, and why the answer ended."""
    for place, token in enumerate(tokens):
        if token in stops:
            return tokens[:place], "stop"
    return [t for t in tokens if t >= 0], "length"


def common_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """Tokens that all prompts start with, at least one token short of the shortest."""
    first, last = min(prompts), max(prompts)  # the prefix of the extremes in order is the prefix of all
    most = min(len(p) for p in prompts) - 1
    size = next((i for i in range(min(most, len(first), len(last))) if first[i] != last[i]), most)
    return first[:size] if size >= MIN_PREFIX else []


# -------------------------------------------------------------------------------------------------------- systems


class Plain:
    """A model asked exactly as the tuned one was taught."""

    _scores_labels = False

    def __init__(self, engine: Engine, setting: Setting, *, tuned: bool):
        self.engine, self.setting, self.tuned = engine, setting, tuned
        self.task: Task = setting.recipe.evaluate.task
        self.prompts: dict[str, str] = {}
        self.ids: dict[str, list[int]] = {}
        self.alive: bool | None = None

    def about(self) -> dict[str, Any]:
        """Provenance."""
        decoding = {**DECODING, "max_tokens": self.task.answer_tokens}
        template = getattr(self.engine.tokenizer, "chat_template", None) or ""
        return {
            **self.engine.about,
            "engine": _engine_name(),
            "remote": False,
            "decoding": decoding,
            "decoding_sha256": json_sha256(decoding),
            "template_sha256": json_sha256([template, self.task.template, self.task.system]),
            "adapter": {**(self.engine.adapter or {}), "alive": self.alive} if self.tuned else None,
            "load": {"arrival": "closed", "concurrency": 1, "prefix_cache": "warm"},
            "prefix_tokens": len(self.runner.prefix),
        }

    def render(self, item: Item) -> str:
        """The prompt as text."""
        return prompting.render(self.engine.tokenizer, item.messages)

    def prepare(self, items: Sequence[Item]) -> None:
        """Render every prompt, find what they share, see that the adapter does something."""
        for item in items:
            self.prompts[item.id] = self.render(item)
            self.ids[item.id] = self.engine.tokens(self.prompts[item.id])
        self._check_lengths(items)
        self._check_labels()
        self.runner = Runner(self.engine, self.tuned, common_prefix(list(self.ids.values())))
        with self.engine.as_(self.tuned):
            self.runner.prefill([self._suffix(items[0])])  # also warms up
        if self.tuned and self.engine.adapter is not None:
            self.alive = self._differs_from_base(items[: min(4, len(items))])

    def _check_lengths(self, items: Sequence[Item]) -> None:
        room = getattr(self.engine.model.config, "max_position_embeddings", None)
        longest = max(items, key=lambda i: len(self.ids[i.id]))
        needed = len(self.ids[longest.id]) + self.task.answer_tokens
        if room is not None and needed > room:
            raise RecipeError(
                f"an item needs {needed} tokens, the model reads at most {room}",
                where=longest.id,
                hint="leave it out of the evaluation set, or take a model with a longer context",
            )

    def _check_labels(self) -> None:
        """A label longer than the answers may be could never be right."""
        longest = max(self.setting.reader.labels, key=lambda name: len(self.engine.tokens(name)), default=None)
        if longest is None or self._scores_labels:
            return
        needed = len(self.engine.tokens(longest)) + 1  # and the stop token
        if needed > self.task.answer_tokens:
            raise RecipeError(
                f"the label {longest!r} needs {needed} tokens, answers have {self.task.answer_tokens}",
                where="evaluate.task.max_tokens",
                hint=f"set evaluate.task.max_tokens: {needed}",
            )

    def _differs_from_base(self, probes: Sequence[Item]) -> bool:
        """Whether the adapter changes any logit: one that does nothing is the classic silent failure."""
        import torch

        with self.engine.as_(True):
            ours = [self.runner.prefill([self._suffix(p)]).logits for p in probes]
        plain = Runner(self.engine, False, self.runner.prefix)
        with self.engine.as_(False):
            theirs = [plain.prefill([self._suffix(p)]).logits for p in probes]
        return any(not torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))

    def length(self, item: Item) -> int:
        """Tokens; bytes or characters would batch Vietnamese, with twice the tokens, beside short English."""
        return len(self.ids[item.id])

    def _suffix(self, item: Item) -> list[int]:
        return self.ids[item.id][len(self.runner.prefix) :]

    def answer(self, batch: Sequence[Item]) -> Answered:
        """Greedy answers, and the likelihood of the reference answers, which is not counted into the time.

        Where both are read in one pass, its time is split by tokens. The likelihood needs more logits, whose cost so
        falls to the answers: they are rather too slow than too fast.
        """
        suffixes, references = [self._suffix(i) for i in batch], self._references(batch)
        with self.engine.as_(self.tuned):
            started = time.perf_counter()
            if references is None:
                state, losses = self.runner.prefill(suffixes), None
            else:
                state, losses = self.runner.scored(suffixes, references)
            read = time.perf_counter()
            made = self.runner.greedy(state, self.task.answer_tokens)
            ended = time.perf_counter()
        replies = [self._reply(item, tokens, finish) for item, (tokens, finish) in zip(batch, made, strict=True)]
        if references is None or losses is None:
            return Answered(replies, ended - started)
        asked, further = (max(map(len, rows)) for rows in (suffixes, references))
        replies = [
            dataclasses.replace(reply, nll=v, nll_tokens=len(r), nll_bytes=len((i.expected or "").encode()))
            for reply, v, r, i in zip(replies, losses, references, batch, strict=True)
        ]
        return Answered(replies, (read - started) * asked / (asked + further) + (ended - read))

    def _reply(self, item: Item, tokens: list[int], finish: str) -> Reply:
        output = self.engine.tokenizer.decode(tokens, skip_special_tokens=True)
        stop = int(finish == "stop")
        return self._made(item, output, finish, len(tokens) + stop)

    def _made(self, item: Item, output: str, finish: str, output_tokens: int) -> Reply:
        ids = self.ids[item.id]
        digest = hashlib.sha256(b"".join(i.to_bytes(4, "little") for i in ids)).hexdigest()
        return Reply(self.prompts[item.id], digest, output, finish, len(ids), output_tokens)

    def _references(self, batch: Sequence[Item]) -> list[list[int]] | None:
        """Tokens of the reference answers; None where an item has none."""
        texts = [prompting.completion(self.engine.tokenizer, i.messages, i.expected) for i in batch]
        return None if None in texts else [self.engine.tokens(t) for t in texts if t is not None]

    def timed(self, item: Item) -> Timing:
        """One request alone, from text to the last token, the shared prefix being warm (as servers keep it)."""
        started = time.perf_counter()
        ids = self.engine.tokens(self.render(item))
        with self.engine.as_(self.tuned):
            state = self.runner.prefill([ids[len(self.runner.prefix) :]])
            first = last = None
            made: list[int] = []
            for place in range(self.task.answer_tokens):
                token = int(state.logits.argmax(-1)[0])
                now = time.perf_counter()
                made.append(token)
                if token in self.engine.stop_ids:
                    break
                first, last = first if first is not None else now, now
                if place + 1 < self.task.answer_tokens:
                    state, _ = self.runner.step(state, state.logits.argmax(-1)[:, None])
        # an answer that is empty is complete when its end is known
        first, last = (first, last) if first is not None else (now, now)
        assert last is not None
        return Timing(first - started, last - started, len(ids), len(made))

    def close(self) -> None:
        """Forget the prompts and the cache."""
        self.prompts.clear()
        self.ids.clear()


class Best(Plain):
    """The base at its best: labels and examples in the prompt, and the likeliest label instead of free text.

    Without it the untuned base is a straw man: most of what tuning a small model gains is the form of the answer.
    Where the task is not to classify, it answers freely, with examples before it.
    """

    _scores_labels = True

    def __init__(self, engine: Engine, setting: Setting, *, choosing: bool = False):
        """With `choosing` it is one of several that are chosen between.

        How surely it said the right label is noted then (bits per byte compare models), and fewer rows calibrate it,
        since every one of them is a call.
        """
        super().__init__(engine, setting, tuned=False)
        self.choosing = choosing
        self.shots, self.tuning = prompting.shots(setting)
        if choosing:
            self.tuning = self.tuning[: prompting.FEW_CALIBRATION_ROWS]
        self.labels = setting.reader.labels
        self.prior: Any = None
        self.strength = 0.0

    def about(self) -> dict[str, Any]:
        """Provenance; another prompt and another way of answering than `base`."""
        method = "label likelihood" if self.labels else "greedy"
        decoding = {
            "strategy": method,
            "shots": len(self.shots),
            "calibration_rows": len(self.tuning),
            "calibration_strength": self.strength,
            "max_tokens": self.task.answer_tokens,
        }
        return {**super().about(), "decoding": decoding, "decoding_sha256": json_sha256(decoding)}

    def render(self, item: Item) -> str:
        """The prompt with labels and examples."""
        return prompting.render(self.engine.tokenizer, prompting.best(item, self.task, self.labels, self.shots))

    def prepare(self, items: Sequence[Item]) -> None:
        """Also take fewer examples where they do not fit."""
        room = getattr(self.engine.model.config, "max_position_embeddings", 2048)
        longest = max(items, key=lambda i: len(i.text))
        while self.shots and len(self.engine.tokens(self.render(longest))) + self.task.answer_tokens > room // 2:
            self.shots = self.shots[: len(self.shots) * 3 // 4]
        super().prepare(items)
        if self.labels:
            asked = items[0].messages
            written = [
                prompting.completion(self.engine.tokenizer, asked, name, stop=False) or "" for name in self.labels
            ]
            self.tree = LabelTree.of(
                [self.engine.tokens(text) for text in written], min(self.engine.stop_ids, default=0)
            )
            self._calibrate()

    def _calibrate(self) -> None:
        """Subtract what the model prefers whatever it is asked, as far as that helps on training rows.

        A small model likes some labels for themselves. Their mean log-likelihood over training prompts (none of the
        evaluation's) is subtracted, times the strength that gets most training rows right (after Zhao et al. 2021,
        arXiv:2102.09690, with real prompts in place of "N/A"). On 28 intents of CLINC150, 28 examples: 0.67 to 0.78.
        """
        known = [t for t in self.tuning if t.expected in self.labels]
        if not known:
            return
        right = [self.labels.index(str(t.expected)) for t in known]
        suffixes = [self.engine.tokens(self.render(t)) for t in known]
        start = len(self.runner.prefix)
        room = [s[start:] for s in suffixes if s[:start] == self.runner.prefix]
        if len(room) < len(known):  # a template that writes something of its own into each prompt
            return
        file = (
            cache_folder() / "calibrations" / f"{json_sha256([self.engine.about, self.labels, suffixes, right])}.json"
        )
        with contextlib.suppress(OSError, ValueError, KeyError):
            stored = read_json(file)
            self.prior, self.strength = _as(stored["prior"], self.engine.model), stored["strength"]
            return
        with self.engine.as_(False):
            scores = self._scored(room)
        self.prior = scores.mean(0)
        hits = [(int((scores - s * self.prior).argmax(-1).eq(_as(right, scores)).sum()), s) for s in STRENGTHS]
        self.strength = max(hits)[1]
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
            write_json(file, {"prior": self.prior.tolist(), "strength": self.strength})

    def answer(self, batch: Sequence[Item]) -> Answered:
        """The label with the highest likelihood."""
        if not self.labels:
            return super().answer(batch)
        with self.engine.as_(False):
            started = time.perf_counter()
            scores = self._scored([self._suffix(i) for i in batch])
            chosen = self._chosen(scores)
            seconds = time.perf_counter() - started
        replies = [self._made(i, label, "stop", n) for i, (label, n) in zip(batch, chosen, strict=True)]
        if self.choosing:
            replies = [self._with_likelihood(r, i, s) for r, i, s in zip(replies, batch, scores, strict=True)]
        return Answered(replies, seconds)

    def _with_likelihood(self, reply: Reply, item: Item, scores: Any) -> Reply:
        """The likelihood of the right label as the model gives it, before any calibration."""
        if item.expected not in self.labels:
            return reply
        place = self.labels.index(item.expected)
        size, length = len(self.tree.sequences[place]), len(item.expected.encode())
        return dataclasses.replace(reply, nll=-float(scores[place]), nll_tokens=size, nll_bytes=length)

    def _scored(self, suffixes: list[list[int]]) -> Any:
        import torch

        groups = range(0, len(suffixes), PACKED)
        return torch.cat([self.tree.scores(self.runner, suffixes[g : g + PACKED]) for g in groups])

    def _chosen(self, scores: Any) -> list[tuple[str, int]]:
        if self.prior is not None:
            scores = scores - self.strength * self.prior
        return [(self.labels[i], len(self.tree.sequences[i])) for i in scores.argmax(-1).tolist()]

    def timed(self, item: Item) -> Timing:
        """All of a label is known at once."""
        if not self.labels:
            return super().timed(item)
        started = time.perf_counter()
        ids = self.engine.tokens(self.render(item))
        with self.engine.as_(False):
            self._chosen(self._scored([ids[len(self.runner.prefix) :]]))
        done = time.perf_counter() - started
        return Timing(done, done, len(ids), None)  # no token is generated, so none has a time


@dataclasses.dataclass(frozen=True)
class LabelTree:
    """All labels as one tree of tokens, so that their likelihoods cost one short forward pass.

    `nodes` are the inner tokens (those after which something follows), each with its parent; a label is a path. A
    label that is the beginning of another one is closed by the stop token, or it would always win against it.
    """

    sequences: list[list[int]]
    nodes: list[tuple[int, int]]
    paths: list[list[tuple[int, int]]]

    @classmethod
    def of(cls, labels: Sequence[list[int]], stop: int) -> LabelTree:
        """The tree of some token sequences."""
        sequences = [
            [*label, stop] if any(o != label and o[: len(label)] == label for o in labels) else list(label)
            for label in labels
        ]
        nodes: list[tuple[int, int]] = []
        known: dict[tuple[int, ...], int] = {(): -1}
        paths = []
        for sequence in sequences:
            path = []
            for depth, token in enumerate(sequence):
                parent = known[tuple(sequence[:depth])]
                path.append((parent, token))
                here = tuple(sequence[: depth + 1])
                if depth + 1 < len(sequence) and here not in known:
                    known[here] = len(nodes)
                    nodes.append((parent, token))
            paths.append(path)
        return cls(sequences, nodes, paths)

    def scores(self, runner: Runner, prompts: Sequence[list[int]]) -> Any:
        """Log-likelihood of every label after every prompt, shape (prompts, labels), in one forward pass.

        The prompts and their trees lie behind one another in a single row behind the shared prefix, which so is held
        once and not once per prompt: for a prefix of 900 tokens, copying it costs more than all the computing.
        """
        import torch

        model = runner.engine.model
        layout = [self._place(prompt, len(runner.prefix)) for prompt in prompts]
        sizes = [len(part.ids) for part in layout]
        seen = torch.block_diag(*(part.sees.to(model.device) for part in layout)).bool()  # type: ignore[no-untyped-call]
        shared = torch.ones((len(seen), len(runner.prefix)), dtype=torch.bool, device=model.device)
        allowed = torch.cat([shared, seen], dim=1)[None, None]
        mask = torch.zeros(allowed.shape, dtype=model.dtype, device=model.device)
        mask = mask.masked_fill(~allowed, torch.finfo(model.dtype).min)
        ids = torch.as_tensor([[i for part in layout for i in part.ids]], device=model.device)
        positions = torch.as_tensor([[i for part in layout for i in part.positions]], device=model.device)
        # logits where a prompt ends, and after every inner token
        ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
        wanted = [list(range(end - len(self.nodes) - 1, end)) for end in ends]
        keep = torch.as_tensor([i for w in wanted for i in w], device=model.device)
        logits = runner.forward(ids, runner.cache_for(1), mask, positions, keep)[0]
        per_prompt = logits.view(len(prompts), len(self.nodes) + 1, -1)
        return torch.stack([self._sums(part.float().log_softmax(-1)) for part in per_prompt])

    def _sums(self, logp: Any) -> Any:
        """Row 0 of `logp` is after the prompt, row k + 1 after node k."""
        import torch

        return torch.stack([sum(logp[parent + 1, token] for parent, token in path) for path in self.paths])

    def _place(self, prompt: list[int], offset: int) -> Packed:
        """A prompt and the tree behind it: every inner token sees the prompt and its own ancestors only."""
        import torch

        size, count = len(prompt), len(self.nodes)
        sees = torch.zeros((size + count, size + count), dtype=torch.bool)
        sees[:size, :size] = torch.ones((size, size), dtype=torch.bool).tril()
        positions = [offset + i for i in range(size)]
        for node, (parent, _) in enumerate(self.nodes):
            row = size + node
            sees[row] = sees[size + parent] if parent >= 0 else sees[size - 1]
            sees[row, row] = True
            positions.append((positions[size + parent] if parent >= 0 else positions[size - 1]) + 1)
        return Packed([*prompt, *(token for _, token in self.nodes)], positions, sees)


class Packed(NamedTuple):
    """Tokens of one prompt in a row that holds several; `sees` is (tokens, tokens)."""

    ids: list[int]
    positions: list[int]
    sees: Any


def _as(values: Sequence[float], like: Any) -> Any:
    import torch

    return torch.as_tensor(values, device=like.device)


def _engine_name() -> str:
    return f"transformers {package_version('transformers')}"
