"""Each evaluation is a look at the items: counted over the runs of a folder, and shown."""

import json
from pathlib import Path

import yaml

from tamis.evaluate import looks
from tamis.run import Run
from tamis.schema import read_json
from tests.evaluate.loaded_server import serving
from tests.tamis.calling import tamis


def test_looks_are_counted_over_runs_on_the_same_items_and_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    items = [{"prompt": f"Question {i}?", "completion": "so a"} for i in range(4)]
    Path("items.jsonl").write_text("".join(json.dumps(i) + "\n" for i in items))

    def evaluated(name, url, *systems):
        told = [{"name": s, "endpoint": url, "model": "m"} for s in systems]
        evaluate = {"task": {"kind": "generate"}, "systems": told, "latency": {"requests": 0}}
        raw = {"name": name, "eval": {"path": "items.jsonl"}, "evaluate": evaluate}
        Path("recipe.yaml").write_text(yaml.safe_dump(raw))
        done = tamis("evaluate", "recipe.yaml", "--quiet")
        assert done.code == 0, done.err
        return done.out, read_json(Path("runs") / name / "comparison.json")["looks"]

    with serving(ttft_ms=1, itl_ms=0) as url:
        _, first = evaluated("one", url, "a", "b")
        assert (first["looks"], first["runs"]) == (2, 1)
        _, same = evaluated("one", url, "a", "b")
        assert same == first  # nothing was evaluated, so nothing was looked at
        out, second = evaluated("two", url, "c")
    assert (second["looks"], second["runs"]) == (3, 2)
    assert "looks   3 at these items, in 2 runs" in out
    assert "looked at 3 times" in Path("runs/two/report/report.html").read_text()
    with Path("runs/one/looks.jsonl").open("a") as file:
        file.write('{"eval_set_sha')  # cut short by a kill
    assert looks.told(Run(Path("runs/two")), read_json(Path("runs/two/comparison.json"))["eval_sha256"]) == second
    assert looks.told(Run(Path("runs/two")), "another set")["looks"] == 0
