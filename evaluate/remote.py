"""Systems behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from tamis import endpoint as wire
from tamis.evaluate import prompting
from tamis.evaluate.systems import Answered, Reply, Setting, Timing, text_length
from tamis.evaluate.task import Item
from tamis.recipe import SystemSpec
from tamis.record import json_sha256


def endpoint_of(spec: SystemSpec) -> wire.Endpoint:
    """Where a system of the recipe is asked."""
    assert spec.endpoint is not None
    return wire.Endpoint(spec.endpoint, spec.model or "", spec.key_env, spec.concurrency)


def asked_as(spec: SystemSpec, setting: Setting) -> Callable[[Item], list[dict[str, str]]]:
    """What an endpoint is sent for an item: its turns, or labels and examples before them."""
    if spec.prompt == "plain":
        return lambda item: item.messages
    task, labels, examples = setting.recipe.evaluate.task, setting.reader.labels, prompting.shots(setting)[0]
    return lambda item: prompting.best(item, task, labels, examples)


class Endpoint:
    """An endpoint as a system under test. It is asked the same turns as a model in this process."""

    def __init__(self, spec: SystemSpec, setting: Setting):
        self.spec, self.task = spec, setting.recipe.evaluate.task
        self.seed = setting.recipe.seed_for("evaluate.endpoint")
        self.endpoint = endpoint_of(spec)
        wire.require_consent(self.endpoint, len(setting.items), setting.recipe.evaluate.external)
        self.session = wire.Session(self.endpoint)
        self._turns = asked_as(spec, setting)

    def about(self) -> dict[str, Any]:
        """Provenance. The host is named; the key is not even hashed."""
        decoding = {"strategy": "greedy", "temperature": 0, "max_tokens": self.task.answer_tokens}
        if self.spec.prompt != "plain":
            decoding["prompt"] = self.spec.prompt
        prices = {
            "input_per_million": self.spec.input_per_million,
            "output_per_million": self.spec.output_per_million,
        }
        return {
            "engine": f"endpoint {self.endpoint.host}",
            "device": "remote",
            "remote": not self.endpoint.local,
            "model": {"name": self.spec.model, "endpoint": self.endpoint.url},
            "model_sha256": None,
            "decoding": decoding,
            "decoding_sha256": json_sha256(decoding),
            "template_sha256": json_sha256([self.task.template, self.task.system]),
            "adapter": None,
            "token_prices": prices,
            "load": {"arrival": "closed", "concurrency": 1},
        }

    def prepare(self, items: Sequence[Item]) -> None:
        """Ask for one token: a wrong key or a server that is not there shall not be found a thousand requests later.

        Raises:
            StageFailed: the endpoint answers nobody.
        """
        shortest = min(items, key=self.length)
        (done,) = self.session.complete([self._turns(shortest)], max_tokens=1, seed=self.seed)
        if done.down:
            raise wire.unanswered(self.endpoint, self.spec.name, str(done.error))

    def length(self, item: Item) -> int:
        """Bytes."""
        return text_length(item)

    def answer(self, batch: Sequence[Item]) -> Answered:
        """A batch, `concurrency` requests in flight."""
        started = time.perf_counter()
        turns = [self._turns(i) for i in batch]
        done = self._ask(turns)
        seconds = time.perf_counter() - started
        return Answered([_reply(t, c) for t, c in zip(turns, done, strict=True)], seconds)

    def timed(self, item: Item) -> Timing:
        """One request alone."""
        (done,) = self._ask([self._turns(item)])
        if done.error is not None or done.first_s is None or done.last_s is None:
            return Timing(None, None, None, None, ok=False)
        return Timing(done.first_s - done.sent_s, done.last_s - done.sent_s, done.prompt_tokens, done.output_tokens)

    def close(self) -> None:
        """Close the connections."""
        self.session.close()

    def _ask(self, conversations: Sequence[list[dict[str, str]]]) -> list[wire.Completion]:
        return self.session.complete(conversations, max_tokens=self.task.answer_tokens, seed=self.seed)


def _reply(turns: list[dict[str, str]], done: wire.Completion) -> Reply:
    prompt = "\n".join(t["content"] for t in turns)
    digest = json_sha256(turns)
    return Reply(
        prompt,
        digest,
        done.text,
        done.finish,
        done.prompt_tokens,
        done.output_tokens,
        error=done.error,
        retries=done.tries - 1,
        down=done.down,
    )
