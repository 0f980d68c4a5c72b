"""Questions to a language model behind an endpoint: each asked once, its reading kept on disk, within a budget.

What came back stays by the hash of the question (the reading and the tokens, never the text), so that a judge that was
killed, or whose run changed elsewhere, does not pay twice.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tamis.endpoint import Completion, Endpoint, Session
from tamis.errors import StageFailed
from tamis.record import json_sha256
from tamis.run import Progress
from tamis.score_cache import ScoreCache

Question = list[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was read out of one reply.

    Attributes:
        value: as `read` gave it; None where the reply was none of the answers that were asked for.
        asked, answered: tokens, by the server's count or forecast.
    """

    value: Any
    asked: int
    answered: int


@dataclasses.dataclass(frozen=True)
class Questioner:
    """Who asks what, and at what price.

    Attributes:
        name: of the cache's file, and in messages (`the judge`).
        endpoint: where, which model, how many requests at once.
        read: takes the answer out of a reply, as a JSON-able value, or None.
        identity: JSON-able: everything beside the question that can change a reading, the endpoint apart.
        answer_tokens: most tokens of a reply.
        input_per_million, output_per_million: money per 10^6 tokens; None where unknown.
        max_cost: money; no request is sent that could bring the sum above it.
    """

    name: str
    endpoint: Endpoint
    read: Callable[[str], Any]
    identity: dict[str, Any]
    answer_tokens: int
    input_per_million: float | None = None
    output_per_million: float | None = None
    max_cost: float | None = None

    def cost(self, asked: int, answered: int) -> float | None:
        """Money for so many tokens, or None without prices."""
        if self.input_per_million is None or self.output_per_million is None:
            return None
        return (asked * self.input_per_million + answered * self.output_per_million) / 1e6

    def ask(
        self, questions: Sequence[Question], *, folder: Path | None = None, quiet: bool = True
    ) -> tuple[list[Reading | None], dict[str, Any]]:
        """Ask what is not in the cache.

        A request that fails for good (after the client's retries) has no reading and is asked again the next time; a
        reply that cannot be read is kept as such, since at temperature 0 it would come again.

        Args:
            questions: n lists of messages.
            folder: gets `progress.json`.
            quiet: no progress lines.

        Returns:
            n readings, None where there is none; and what happened, as counts and money: {rows, judged, nonsense,
            failed, input_tokens, output_tokens, cost, not_asked, endpoint}. The money is that of all these questions,
            whenever it was paid.

        Raises:
            UserError: the key's environment variable is not set, or the cache cannot be written.
            StageFailed: a whole round of requests failed; what was answered is kept.
        """
        keys = [json_sha256(q) for q in questions]
        unique = dict(sorted(zip(keys, questions, strict=True)))
        cache = ScoreCache(self.name, {"url": self.endpoint.target, "model": self.endpoint.model, **self.identity})
        tally = _Tally(self)
        known = {key: Reading(*stored) for key in unique if (stored := cache.get(key)) is not None}
        for reading in known.values():
            tally.add(reading)
        waiting = [key for key in unique if key not in known]
        progress = Progress(folder, self.name, len(unique), quiet=quiet) if folder is not None else None
        size = 4 * self.endpoint.concurrency
        with Session(self.endpoint) as session:
            while waiting:
                affordable = tally.affordable([unique[key] for key in waiting[:size]])
                if not affordable:
                    break
                some, waiting = waiting[:affordable], waiting[affordable:]
                replies = session.complete([unique[key] for key in some], max_tokens=self.answer_tokens)
                for key, reply in zip(some, replies, strict=True):
                    if reply.text is None:
                        tally.failures[_short(reply)] += 1
                        continue
                    known[key] = Reading(self.read(reply.text), *self._tokens(unique[key], reply))
                    cache.put(key, list(dataclasses.astuple(known[key])))
                    tally.add(known[key])
                if len(some) >= 2 and all(reply.text is None for reply in replies):
                    raise StageFailed(
                        f"the {self.name} answers none of {len(some)} requests",
                        where=self.endpoint.host,
                        why=", ".join(sorted(tally.failures)),
                        hint="mend it and run the same command: what was judged is kept",
                    )
                if progress is not None:
                    progress.update(len(known))
        about = {"rows": len(keys), **tally.about(), "not_asked": len(waiting), "endpoint": self.endpoint.host}
        return [known.get(key) for key in keys], about

    def _tokens(self, question: Question, reply: Completion) -> tuple[int, int]:
        """What the server counted; where it counted nothing, the forecast."""
        asked = reply.prompt_tokens if reply.prompt_tokens is not None else estimated_tokens(question)
        return asked, reply.output_tokens if reply.output_tokens is not None else self.answer_tokens


class _Tally:
    """What was asked, what came back, and what it cost."""

    def __init__(self, asker: Questioner):
        self.asker = asker
        self.judged = self.nonsense = self.asked = self.answered = 0
        self.failures: collections.Counter[str] = collections.Counter()

    def add(self, reading: Reading) -> None:
        self.judged += reading.value is not None
        self.nonsense += reading.value is None
        self.asked += reading.asked
        self.answered += reading.answered

    def affordable(self, questions: list[Question]) -> int:
        """How many of the next questions can be asked without going above the limit whatever is answered."""
        limit = self.asker.max_cost
        asked, answered = self.asked, self.answered
        for number, question in enumerate(questions):
            asked, answered = asked + estimated_tokens(question), answered + self.asker.answer_tokens
            money = self.asker.cost(asked, answered)
            if limit is not None and money is not None and money > limit:
                return number
        return len(questions)

    def about(self) -> dict[str, Any]:
        return {
            "judged": self.judged,
            "nonsense": self.nonsense,
            "failed": dict(sorted(self.failures.items())),
            "input_tokens": self.asked,
            "output_tokens": self.answered,
            "cost": self.asker.cost(self.asked, self.answered),
        }


def estimated_tokens(question: Question) -> int:
    """Tokens of a request, forecast on the safe side: 3 bytes each, where English has 4, and 8 around the message."""
    return 8 + math.ceil(sum(len(m["content"].encode("utf-8", "replace")) for m in question) / 3)


def cut(text: str, most: int) -> str:
    """A long text without its middle, so that beginning and end are read."""
    return text if len(text) <= most else f"{text[: most // 2]}\n[...]\n{text[-(most // 2) :]}"


def _short(reply: Completion) -> str:
    """A failure as a key to count by: without what the server says of the single request."""
    return (reply.error or "no answer").partition(":")[0]
