"""The champion: a file without weights that says, for a gate, what the run it came from would say."""

import datetime
import json

import pytest

from tamis.errors import EvidenceError, UserError
from tamis.evaluate import champion
from tamis.evaluate.evidence import find
from tamis.evaluate.gate import judge
from tamis.evaluate.policy import load_policy
from tamis.run import Run

TODAY = datetime.date(2026, 11, 24)
GATES = """
gates:
  - {id: no-loss, metric: accuracy, require: "delta.lower > -0.05"}
  - {id: f1, metric: macro_f1, require: "delta.lower > -0.1"}
  - {id: exact, metric: exact_match, require: "delta.lower > -0.05"}
  - {id: text, metric: chrf, require: "delta.lower > -9"}
  - {id: nll, metric: bits_per_byte, require: "delta.upper < 0.2"}
  - {id: speed, metric: latency.e2e.p50, require: "ratio.upper <= 1.5"}
  - {id: load, metric: load.throughput, require: "ratio.lower >= 0.5"}
  - {id: slices, metric: accuracy, by: language, require: "delta.lower > -0.2"}
"""


@pytest.fixture
def last_week(evaluated, tmp_path):
    """An earlier run, judged and passed."""
    made = type(evaluated)(Run(tmp_path / "last-week"))
    filled(made, [int(i % 10 > 0) for i in range(300)])
    policy = made.policy('requires: {same: []}\ngates: [{id: a, metric: accuracy, require: "lower >= 0.8"}]')
    judge(made.run, load_policy(policy), today=TODAY)
    return made


def filled(made, right):
    likelihoods = {"nll": [0.5 + i % 7 / 10 for i in range(len(right))], "nll_tokens": 2, "nll_bytes": 3}
    made.add(right=right, times=[0.1 + i % 5 / 100 for i in range(100)], **likelihoods)


def promoted(made, file, **more):
    verdict = json.loads(made.run.verdict.read_text())
    return champion.promote(
        made.run, find(made.run, "main", "tuned"), file, verdict=verdict, **{"reason": None, **more}
    )


def judged(made, baseline, name="policy.yaml"):
    file = made.run.path.parent / name
    file.write_text(
        f"requires: {{same: [eval_set], checks: [complete]}}\nevidence: {{baseline: '{baseline}'}}\n{GATES}"
    )
    return judge(made.run, load_policy(file), today=TODAY)


def test_a_champion_rules_exactly_as_the_run_it_came_from(evaluated, last_week, tmp_path):
    filled(evaluated, [int(i % 9 > 0) for i in range(300)])
    promoted(last_week, tmp_path / "champion.json")

    from_run = judged(evaluated, f"{last_week.run.path}:tuned")
    from_file = judged(evaluated, "champion")

    assert from_file["arms"]["main"]["gates"] == from_run["arms"]["main"]["gates"]
    assert all(row["n"] for row in from_file["arms"]["main"]["gates"])
    assert from_run["arms"]["main"]["requires"] == []


def test_a_champion_may_have_any_name_and_is_counted_from_the_policy(evaluated, last_week, tmp_path, monkeypatch):
    filled(evaluated, [1] * 300)
    promoted(last_week, tmp_path / "last.json")
    monkeypatch.chdir("/")

    found = judged(evaluated, "last.json")

    assert found["arms"]["main"]["gates"][0]["verdict"] == "PASS"
    assert found["arms"]["main"]["evidence"][1]["name"] == "champion (last-week, main / tuned)"


def test_it_holds_neither_prompts_nor_weights_and_names_engine_and_hardware(last_week, tmp_path):
    made = promoted(last_week, tmp_path / "champion.json")

    assert "question 7" not in (tmp_path / "champion.json").read_text()
    assert made["about"]["environment"] == {"engine": "transformers 5", "hardware": "a machine", "machine": "a machine"}
    assert made["about"]["eval_set_sha256"] == "e" * 64
    assert made["judged"]["verdict"] == "PASS"


def test_one_changed_answer_is_noticed(evaluated, last_week, tmp_path):
    filled(evaluated, [1] * 300)
    promoted(last_week, tmp_path / "champion.json")
    text = (tmp_path / "champion.json").read_text()
    (tmp_path / "champion.json").write_text(text.replace('"correct": true', '"correct": false', 1))

    found = judged(evaluated, "champion")

    assert found["exit_code"] == 4
    assert "changed after it was made" in found["arms"]["main"]["requires"][0]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"verdict": "PASS"}'])
def test_a_file_that_is_no_champion_is_refused(tmp_path, text):
    (tmp_path / "champion.json").write_text(text)

    with pytest.raises(EvidenceError, match=r"no champion|cannot be read"):
        champion.load(tmp_path / "champion.json")


def test_another_evaluation_set_is_invalid_even_where_the_ids_agree(evaluated, last_week, tmp_path):
    evaluated.add(right=[1] * 300, about={"eval_set_sha256": "f" * 64})
    promoted(last_week, tmp_path / "champion.json")

    assert judged(evaluated, "champion")["exit_code"] == 4


def test_a_champion_from_another_machine_is_compared_by_answers_and_not_by_the_clock(evaluated, last_week, tmp_path):
    evaluated.add(right=[1] * 300, times=[0.1] * 100, about={"environment": {"hardware": "a CI runner"}})
    promoted(last_week, tmp_path / "champion.json")

    rows = {row["id"]: row["verdict"] for row in judged(evaluated, "champion")["arms"]["main"]["gates"]}

    assert rows["no-loss"] == "PASS"
    assert rows["speed"] == rows["load"] == "INVALID"


def test_a_price_by_the_hour_is_not_compared_across_machines_and_one_by_the_token_is(evaluated, tmp_path):
    tokens = {"input_per_million": 1.0, "output_per_million": 2.0}
    for system, hardware in (("tuned", "here"), ("base", "there")):
        about = {"environment": {"hardware": hardware}, "token_prices": tokens}
        evaluated.add(system=system, right=[1] * 300, about=about)
    evaluated.price()
    text = 'requires: {same: []}\ngates: [{id: a, metric: cost.usd_per_1k, require: "ratio.upper <= 1.5"}]'

    assert judge(evaluated.run, load_policy(evaluated.policy(text)))["arms"]["main"]["gates"][0]["value"] == 1
    evaluated.add(system="base", right=[1] * 300, about={"environment": {"hardware": "there"}})
    assert judge(evaluated.run, load_policy(evaluated.policy(text)))["exit_code"] == 4


def test_without_texts_it_is_smaller_and_text_metrics_are_invalid_not_zero(evaluated, last_week, tmp_path):
    filled(evaluated, [1] * 300)
    promoted(last_week, tmp_path / "champion.json", outputs=False)

    rows = {row["id"]: row for row in judged(evaluated, "champion")["arms"]["main"]["gates"]}

    assert rows["no-loss"]["verdict"] == "PASS"
    assert rows["f1"]["verdict"] != "INVALID"
    assert rows["exact"]["verdict"] == rows["text"]["verdict"] == "INVALID"
    assert "no column 'output'" in rows["exact"]["note"]


def test_what_no_gate_passed_needs_a_reason_and_the_reason_is_kept(evaluated, tmp_path):
    evaluated.add(right=[0] * 100)
    file = tmp_path / "champion.json"
    with pytest.raises(UserError, match="no gate has judged"):
        champion.promote(evaluated.run, find(evaluated.run, "main", "tuned"), file, verdict=None, reason=None)
    policy = evaluated.policy('requires: {same: []}\ngates: [{id: a, metric: accuracy, require: "lower >= 0.8"}]')
    judge(evaluated.run, load_policy(policy))
    with pytest.raises(UserError, match="is FAIL"):
        promoted(evaluated, file)

    assert not file.exists()
    assert promoted(evaluated, file, reason="the first one")["reason"] == "the first one"


def test_a_verdict_on_other_answers_does_not_promote_these(last_week, tmp_path):
    last_week.add(right=[1] * 300)

    with pytest.raises(UserError, match="not about these answers"):
        promoted(last_week, tmp_path / "champion.json")


def test_another_arm_of_another_run_can_be_the_baseline(evaluated, last_week):
    last_week.add(arm="second", right=[1] * 300)
    filled(evaluated, [1] * 300)

    found = judged(evaluated, f"{last_week.run.path}:second/tuned")

    assert found["arms"]["main"]["evidence"][1]["name"] == "second / tuned"
