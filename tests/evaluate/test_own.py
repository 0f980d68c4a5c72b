"""The user's own metrics: intervals and gates like ours, and a crash that names file and line."""

import datetime
import json

import numpy as np
import pytest

from tamis import intervals
from tamis.errors import EvidenceError, PolicyError, UserError
from tamis.evaluate.evidence import find
from tamis.evaluate.gate import judge
from tamis.evaluate.measure import delta, of_answers
from tamis.evaluate.metrics import lookup
from tamis.evaluate.policy import load_policy

TODAY = datetime.date(2026, 11, 24)
MINE = '''\
"""Ten lines of a user."""


def polite(output: str) -> bool:
    """Share of polite answers."""
    return "please" in output


def length_ratio(output: str, expected: str) -> float:
    return min(1.0, len(output) / len(expected))


length_ratio.span = (0.0, 1.0)


def words(output) -> float:
    return len(output.split())


words.direction = "down"
words.unit = "words"


def crashes(output: str, expected: str) -> float:
    if output == "bad":
        return 1 / 0
    return 1.0


def gives_nan(output) -> float:
    return float("nan")


def gives_none(output) -> bool:
    return None


def gives_half(output) -> bool:
    return 0.5


def leaves(output) -> bool:
    raise SystemExit(0)


def untyped(output):
    return True


def greedy(output, weights) -> bool:
    return True


def outside(output) -> float:
    return 2.0


outside.span = (0, 1)
'''


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.py").write_text(MINE)
    return lambda name: f"{tmp_path / 'run' / 'mine.py'}:{name}"


def ruled(evaluated, metric, require, **gate):
    gate = json.dumps({"id": "a", "metric": metric, "require": require, **gate})
    policy = load_policy(evaluated.policy(f"requires: {{same: [], checks: []}}\ngates: [{gate}]"))
    verdict = judge(evaluated.run, policy, today=TODAY)
    return verdict["exit_code"], verdict["arms"]["main"]["gates"][0]


def test_a_yes_or_no_gets_wilson_and_tango(evaluated, mine):
    said = ["please wait" if i % 10 else "wait" for i in range(200)]
    evaluated.add(right=[1] * 200, output=said)
    evaluated.add(system="base", right=[1] * 200, output="wait")

    code, row = ruled(evaluated, "mine.py:polite", "lower >= 0.8")  # counted from the policy
    assert (code, row["value"], row["method"]) == (0, 0.9, "wilson")
    assert (row["lower"], row["upper"]) == pytest.approx(intervals.wilson(180, 200))
    code, row = ruled(evaluated, mine("polite"), "delta.lower > 0.5")
    assert (code, row["method"]) == (0, "tango")


def test_a_score_gets_a_clustered_t_interval_within_its_span(evaluated, mine):
    said = ["x" * (1 + i % 3) for i in range(120)]
    evaluated.add(right=[1] * 120, output=said, expected="yes", component=[i // 2 for i in range(120)])

    _, row = ruled(evaluated, mine("length_ratio"), "lower >= 0.5")

    assert row["value"] == pytest.approx(np.mean([(1 + i % 3) / 3 for i in range(120)]))
    assert row["over"] == "clusters"
    assert row["method"].startswith("t, clustered")


def test_direction_and_unit_are_the_users(evaluated, mine):
    evaluated.add(right=[1] * 50, output=["a b c" if i % 2 else "a b" for i in range(50)])

    assert ruled(evaluated, mine("words"), "upper <= 3 words")[0] == 0
    with pytest.raises(PolicyError, match="wrong way round"):
        ruled(evaluated, mine("words"), "lower >= 3 words")
    with pytest.raises(PolicyError, match="has a unit"):
        ruled(evaluated, mine("words"), "upper <= 3")


def test_slices_of_an_own_metric_are_judged_and_asked_for_once(evaluated, mine, tmp_path):
    log = tmp_path / "calls"
    file = tmp_path / "run" / "counting.py"
    file.write_text(f"def m(output) -> bool:\n    open({str(log)!r}, 'a').write('x')\n    return True\n")
    evaluated.add(right=[1] * 200)

    code, row = ruled(evaluated, f"{file}:m", "lower >= 0.8", by="language")

    assert code == 0
    assert {s["slice"] for s in row["slices"]} == {"en", "vi"}
    assert len(log.read_text()) == 200


@pytest.mark.parametrize(
    ("name", "line", "says"),
    [
        ("crashes", 26, "ZeroDivisionError"),
        ("gives_nan", 30, "nan"),
        ("gives_none", 34, "None"),
        ("gives_half", 38, "0.5"),
        ("leaves", 43, "SystemExit"),
        ("outside", 54, "2.0"),
    ],
)
def test_a_crash_is_invalid_with_file_line_and_item(evaluated, mine, name, line, says):
    evaluated.add(right=[1] * 60, output=["bad" if i == 7 else "good" for i in range(60)])

    code, row = ruled(evaluated, mine(name), "value >= 0")

    assert code == 4
    assert f"mine.py:{line}" in row["note"]
    assert says in row["note"]
    assert ("item item-0007" in row["note"]) == (name == "crashes")


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        ("mine.py:polit", "no function 'polit'"),
        ("mime.py:polite", "cannot be read"),
        ("mine.py:untyped", "-> bool or -> float"),
        ("mine.py:greedy", "is given no 'weights'"),
        ("regex:(", "no regular expression"),
        ("regex:", "regex:PATTERN"),
        ("json_schema:gone.json", "cannot be read"),
        ("accuracy:x", "unknown metric"),
    ],
)
def test_what_is_no_metric_is_refused_before_any_number(evaluated, mine, metric, says):
    evaluated.add(right=[1] * 60)

    with pytest.raises(UserError) as caught:
        ruled(evaluated, metric, "lower >= 0.1")
    assert says in str(caught.value)
    assert int(caught.value.exit_code) == 2
    assert not evaluated.run.verdict.exists()


OUTPUTS = ["Xin chào bạn", "XIN CHÀO", "Xin chao", '{"city": "Huế"}', '{"city": 7}', "NaN", None]


@pytest.mark.parametrize(
    ("metric", "hits"),
    [
        ("contains:xin chào", [1, 1, 0, 0, 0, 0, 0]),  # any case, composed or not
        ("forbidden:xin chào", [1, 1, 0, 0, 0, 0, 1]),  # a failed request gets the worst
        ("regex:^Xin ch[aà]o", [1, 0, 1, 0, 0, 0, 0]),
        ("regex:a:b|Xin", [1, 0, 1, 0, 0, 0, 0]),  # a colon in the pattern
        ("json_schema:{}", [0, 0, 0, 1, 0, 0, 0]),
    ],
)
def test_each_form_says_yes_where_it_should(evaluated, tmp_path, metric, hits):
    schema = tmp_path / "city.json"
    schema.write_text('{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}')
    evaluated.add(right=[1] * 7, output=OUTPUTS, error=[None] * 6 + ["HTTP 500"])
    answers = find(evaluated.run, "main", "tuned").answers

    assert lookup(metric.format(schema)).rows(answers)[:, 0].tolist() == hits


def test_forbidden_is_better_low(evaluated):
    evaluated.add(right=[1] * 400, output="fine")

    assert ruled(evaluated, "forbidden:as an AI", "upper <= 0.02")[0] == 0
    with pytest.raises(PolicyError, match="wrong way round"):
        ruled(evaluated, "forbidden:as an AI", "lower >= 0.02")


def test_a_failed_request_gets_the_worst_score_and_needs_one(evaluated, mine):
    evaluated.add(right=[1] * 60, output=[None] + ["yes"] * 59, error=["HTTP 500"] + [None] * 59, expected="yes")
    answers = find(evaluated.run, "main", "tuned").answers

    assert of_answers(answers, lookup(mine("length_ratio"))).value == pytest.approx(59 / 60)
    with pytest.raises(EvidenceError, match="no worst score"):
        of_answers(answers, lookup(mine("words")))


def test_an_own_metric_is_in_the_paired_comparison(evaluated, mine):
    evaluated.add(right=[1] * 60, output="please")
    evaluated.add(system="base", right=[1] * 60, output="no")
    sides = [find(evaluated.run, "main", s) for s in ("tuned", "base")]

    assert delta(*sides, mine("polite")).value == 1.0


def test_a_recipe_names_them_and_an_evaluation_is_not_asked_again_for_a_new_one(tmp_path, eval_table, train_table):
    from tamis.evaluate.stage import evaluate_arm
    from tamis.recipe import Recipe
    from tamis.run import Run
    from tamis.schema import read_json

    run = Run(tmp_path / "run")
    file = tmp_path / "mine.py"
    file.write_text(MINE)

    def measured(*names):
        task = {"kind": "classify", "max_tokens": 24, "metrics": [f"{file}:{n}" for n in names]}
        settings = {"task": task, "latency": {"requests": 0}}
        recipe = Recipe.check({"name": "x", "data": {"path": "x"}, "evaluate": settings})
        told = evaluate_arm(run, recipe, "main", eval_table(), train_table(), ["majority"], quiet=True)
        return told["systems"]["majority"]["skipped"], read_json(run.evaluate("main", "majority") / "metrics.json")

    skipped, first = measured("polite")
    assert not skipped
    assert first["metrics"][f"{file}:polite"]["value"] == 0
    file.write_text(MINE.replace('"please" in output', '"" in output'))
    skipped, again = measured("polite", "crashes")
    assert skipped
    assert again["metrics"][f"{file}:polite"]["value"] == 1
    assert again["metrics"]["accuracy"] == first["metrics"]["accuracy"]
    file.write_text(MINE.replace('output == "bad"', "True"))
    _, failed = measured("polite", "crashes")
    assert f"{file}:26" in failed["failed_metrics"][f"{file}:crashes"]
    with pytest.raises(UserError, match="no function 'polit'"):
        measured("polit")


def test_a_recipes_own_metrics_are_counted_from_the_recipe(tmp_path):
    from tamis.recipe import Recipe

    names = "[chrf, 'mine.py:f', 'json_schema:s.json', 'regex:a.py:b']"
    text = f"name: x\neval: {{path: e.jsonl}}\nevaluate: {{task: {{metrics: {names}}}}}\n"
    (tmp_path / "recipe.yaml").write_text(text)

    found = Recipe.load(tmp_path / "recipe.yaml").evaluate.task.metrics

    assert found == ["chrf", f"{tmp_path}/mine.py:f", f"json_schema:{tmp_path}/s.json", "regex:a.py:b"]
