"""lm-eval's `hf` backend on the requests of a file; runs in an environment of its own, without Tamis.

PEERS_PYTHON benchmarks/lm_eval_peer.py SPEC.json OUT.json
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    import lm_eval
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    spec = json.loads(Path(sys.argv[1]).read_text())
    with contextlib.redirect_stdout(sys.stderr):
        model = HFLM(pretrained=spec["model"], dtype=spec["dtype"], device="cpu", batch_size=1)

    def ask(task: dict[str, Any], count: int, batch: int) -> tuple[list[Any], float]:
        model.batch_size_per_gpu = batch
        if task["kind"] == "generate":
            settings = {"until": [], "do_sample": False, "max_gen_toks": task["max_tokens"]}
            asked = [(prompt, settings) for prompt in task["prompts"][:count]]
        else:
            asked = list(zip(task["prompts"][:count], task["references"][:count], strict=True))
        kind = "generate_until" if task["kind"] == "generate" else "loglikelihood"
        requests = [Instance(kind, {}, given, n) for n, given in enumerate(asked)]
        started = time.perf_counter()
        answers = getattr(model, kind)(requests, disable_tqdm=True)
        return answers, time.perf_counter() - started

    told: dict[str, Any] = {"lm_eval": lm_eval.__version__, "torch": torch.__version__, "tasks": {}}
    with contextlib.redirect_stdout(sys.stderr):
        for name, task in spec["tasks"].items():
            ask(task, 2, 2)  # warm-up
            trials = {b: min(ask(task, spec["trial"], b)[1] for _ in range(2)) for b in spec["batches"]}
            best = min(trials, key=trials.__getitem__)
            answers, seconds = ask(task, len(task["prompts"]), best)
            if task["kind"] != "generate":
                answers = [a[0] for a in answers]
            told["tasks"][name] = {"trials": trials, "batch": best, "seconds": seconds, "answers": answers}
    Path(sys.argv[2]).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
