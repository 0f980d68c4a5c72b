"""Every kind of task from file to numbers on a small model: its question, its extractor, its metrics."""

import pyarrow as pa
import pytest

from tamis import schema
from tamis.evaluate import metrics
from tamis.evaluate.evidence import find
from tamis.evaluate.stage import evaluate_arm
from tamis.recipe import Recipe
from tamis.run import Run
from tamis.schema import read_json

TASKS = {
    "generate": {"template": None, "texts": [("Name a city", "Huế"), ("Name a river", "Sông Hương")]},
    "summarise": {
        "template": "Summarise:\n{prompt}\nSummary:",
        "texts": [("Đơn hàng của tôi đến muộn ba ngày.", "Đơn hàng muộn"), ("It came broken.", "Broken")],
    },
    "translate": {
        "template": "Translate:\n{prompt}\nTranslation:",
        "texts": [("thank you", "cảm ơn"), ("hello", "xin chào")],
    },
    "regress": {"template": "{prompt}\nNumber:", "texts": [("3 + 4", "#### 7"), ("1,000 + 5", "the sum is 1,005")]},
}


def items_of(texts, turns=()):
    def message(role, content):
        return {"role": role, "content": content, "rest": None}

    rows = [
        {
            "id": f"i{place}",
            "messages": [*(message(*t) for t in turns), message("user", asked), message("assistant", answer)],
            "label": None,
            "language": None,
            "component": place,
            "key": None,
        }
        for place, (asked, answer) in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=schema.EVAL)


def evaluated(run, kind, template, items, model):
    task = {"kind": kind, "template": template, "max_tokens": 12}
    recipe = Recipe.check(
        {
            "name": "x",
            "data": {"path": "x"},
            "model": str(model),
            "train": {"method": "lora", "quantisation": "none"},
            "evaluate": {"task": task, "latency": {"requests": 0}},
        }
    )
    evaluate_arm(run, recipe, "main", items, None, ["base"], quiet=True)
    told = read_json(run.evaluate("main", "base") / "metrics.json")
    return told, find(run, "main", "base").answers


@pytest.mark.parametrize("kind", TASKS)
def test_a_task_is_asked_read_and_measured_by_its_kind(tmp_path, tiny_model, kind):
    task = TASKS[kind]
    texts = task["texts"] * 3
    told, answers = evaluated(Run(tmp_path), kind, task["template"], items_of(texts), tiny_model)

    wanted = set(metrics.DEFAULTS[kind]) | {"perplexity", "bits_per_byte"}
    assert wanted <= told["metrics"].keys()
    for id in wanted:
        assert told["metrics"][id]["n"] == 6
    asked = (task["template"] or "{prompt}").replace("{prompt}", texts[0][0])
    assert asked in answers["prompt"][0]
    if kind == "regress":
        assert answers["expected"][:2] == ["7.0", "1005.0"]
    else:
        assert answers["expected"][0] == texts[0][1]
    assert (answers["correct"][0] is None) == (kind in ("summarise", "translate"))


def test_a_chat_is_asked_with_all_its_earlier_turns(tmp_path, tiny_model):
    turns = [("system", "Be kind."), ("user", "Where is order 7?"), ("assistant", "In Huế."), ("user", "And order 8?")]
    turns += [("assistant", "In Hà Nội.")]
    told, answers = evaluated(Run(tmp_path), "chat", None, items_of([("Thanks!", "Gladly.")] * 4, turns), tiny_model)

    prompt = answers["prompt"][0]
    assert [prompt.index(text) for _, text in turns] == sorted(prompt.index(text) for _, text in turns)
    assert prompt.index("Thanks!") > prompt.index("In Hà Nội.")
    assert "Gladly." not in prompt
    assert answers["expected"][0] == "Gladly."
    assert {"chrf", "rouge_l", "perplexity"} <= told["metrics"].keys()
