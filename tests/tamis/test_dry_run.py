"""`--dry-run` through the command line: the cost is said, limits hold, and nothing is asked or written."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.curate import desks
from tests.tamis.calling import tamis

WORDS = random.Random(3).sample([f"{a}{b}{c}" for a in "bdfk" for b in "aeiou" for c in ("lm", "rt", "st", "nd")], 80)
ROWS = [
    {"prompt": f"What of {' '.join(WORDS[i::40])} {WORDS[-i]} then?", "completion": f"It is {WORDS[i]}."}
    for i in range(40)
]


class Counting(desks.Desk):
    def reply(self, body: dict[str, Any]) -> None:
        self.server.asked += 1  # type: ignore[attr-defined]
        self.say("4")


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a recipe over forty rows with a judge that has a price."""
    monkeypatch.chdir(tmp_path)
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def write(url: str, **judge: Any) -> str:
        scorer = {"name": "judge", "endpoint": url, "model": "m", "input_per_million": 2.0, "output_per_million": 10.0}
        raw = {
            "name": "r",
            "data": {"path": "data.jsonl"},
            "embedder": "lsa",
            "eval": {"holdout": 0.2},
            "curate": {"scorers": [scorer | judge]},
            "evaluate": {"task": {"kind": "generate"}, "systems": ["majority"], "price": {"currency": "EUR"}},
        }
        Path("recipe.yaml").write_text(yaml.safe_dump(raw))
        return "recipe.yaml"

    return write


@pytest.mark.parametrize("command", ["curate", "run"])
def test_a_paid_scorer_shows_its_price_and_is_not_asked(recipe, command):
    with desks.opened(Counting, asked=0) as desk:
        done = tamis(command, recipe(desk.url), "--dry-run", "--json")

        assert done.code == 0, done.err
        found = json.loads(done.out)
        (cost,) = (found if command == "curate" else found["scoring"])["scorers"]
        assert (cost["rows"], cost["where"], desk.asked) == (40, "127.0.0.1", 0)
        assert 0.001 < cost["money"] < 1
        assert not Path("runs").exists()
        lines = tamis(command, recipe(desk.url), "--dry-run").out
        assert "score judge: 40 rows" in lines
        assert f"about {cost['money']:,.2f} EUR" in lines


@pytest.mark.parametrize("command", ["curate", "run"])
def test_a_dry_run_of_what_costs_too_much_ends_as_the_run_would(recipe, command):
    with desks.opened(Counting, asked=0) as desk:
        done = tamis(command, recipe(desk.url, max_cost=0.0001), "--dry-run")

        assert done.code == 2
        assert "this would not start: scoring would cost about" in done.err
        assert "the limit is 0.0001" in done.err
        assert "score judge: 40 rows" in done.out
        if command == "curate":
            assert tamis(command, recipe(desk.url, max_cost=0.0001), "--quiet").code == 2
        assert desk.asked == 0


def test_a_dry_run_without_paid_scorers_says_so(recipe):
    recipe("http://127.0.0.1:9/v1")

    done = tamis("curate", "data.jsonl", "--rows", "10", "--dry-run")

    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "curate: 40 rows, keeping 10 rows",
        "score: no scorer of this recipe costs time or money",
    ]
