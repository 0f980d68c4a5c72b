"""A/A: a system asked the same again, and how often it says something else."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tamis.schema import read_json
from tests.curate import desks
from tests.tamis.calling import tamis

ITEMS = 60


class Wavering(desks.Desk):
    """Says yes, in other words each time; of the items that it wavers on, it says no from the second time on."""

    def reply(self, body):
        text = body["messages"][-1]["content"]
        number = int(re.findall(r"\d+", text)[-1])
        seen = self.server.seen
        seen[number] = seen.get(number, 0) + 1
        if number in self.server.wavers and seen[number] > 1:
            self.say("no")
        else:
            self.say("yes" if seen[number] == 1 else "Yes.")


@pytest.mark.parametrize(("wavers", "rate"), [(range(0), 0.0), (range(ITEMS), 1.0), (range(0, ITEMS, 4), 0.25)])
def test_answers_that_change_are_counted_wordings_are_not(tmp_path, monkeypatch, wavers, rate):
    monkeypatch.chdir(tmp_path)
    words = [f"{chr(97 + i % 26) * 9} {chr(97 + i // 3) * 9} {i}" for i in range(1, ITEMS + 1)]
    rows = [{"prompt": text, "label": "yes"} for text in words]
    Path("items.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    with desks.opened(Wavering, seen={}, wavers={i + 1 for i in wavers}) as desk:
        raw = {
            "name": "r",
            "eval": {"path": "items.jsonl"},
            "evaluate": {
                "task": {"kind": "classify", "labels": ["yes", "no"]},
                "systems": [{"name": "api", "endpoint": desk.url, "model": "m"}],
                "latency": {"requests": 0},
                "again": ITEMS,
            },
        }
        Path("recipe.yaml").write_text(yaml.safe_dump(raw))
        done = tamis("evaluate", "recipe.yaml", "--quiet")

    assert done.code == 0, done.err
    about = read_json(Path("runs/r/arms/main/evaluate/api/metrics.json"))
    # the probe has asked the shortest item once before: it may waver once too early
    assert about["metrics"]["flip_rate"]["value"] == pytest.approx(rate, abs=0.02)
    assert about["metrics"]["flip_rate"]["upper"] > about["metrics"]["flip_rate"]["value"] - 1e-9
    assert about["again"]["items"] == ITEMS
    assert len(about["again"]["changed"]) == pytest.approx(rate * ITEMS, abs=1)
