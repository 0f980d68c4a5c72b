"""The judge against a server on loopback: what is read, kept, counted, paid and refused."""

import time

import numpy as np
import pytest

from tamis.curate import judge as module
from tamis.curate.judge import Judge, mark_of
from tamis.endpoint import Endpoint
from tamis.errors import StageFailed, UserError
from tamis.questions import estimated_tokens
from tests.curate import desks


class Judging(desks.Desk):
    """Marks a row by its answer: "good" 5, "poor" 1; others get what their words ask for."""

    def reply(self, body):
        asked = body["messages"][-1]["content"].split("[assistant]\n")[-1]
        self.server.asked.append(asked)
        self.server.keys.add(self.headers.get("authorization"))
        if self.server.down:
            self.send_error(400)
            return
        if "busy" in asked and not self.server.relieved:
            self.server.relieved = True
            self.send_response(429)
            self.send_header("retry-after", "0")
            self.end_headers()
            return
        if "broken" in asked:
            self.send_error(400)
            return
        if "slow" in asked:
            time.sleep(0.8)
        said = next((r for word, r in self.server.says.items() if word in asked), "3")
        self.say(said, usage={"prompt_tokens": 100, "completion_tokens": 1})


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    says = {"good": "5", "poor": "1", "chatty": "I would give this a 4.", "huge": "55"}
    with desks.opened(Judging, asked=[], keys=set(), down=False, relieved=False, says=says) as server:
        yield server


def turns(answer):
    return [{"role": "user", "content": "Where is my parcel?"}, {"role": "assistant", "content": answer}]


def judge_of(desk, **given):
    given = {"retries": 1, "timeout_s": 0.3, **given}
    prices = {k: given.pop(k) for k in ("max_cost", "input_per_million", "output_per_million") if k in given}
    return Judge(Endpoint(desk.url, "m", **given), **prices)


@pytest.mark.parametrize(
    ("reply", "mark"),
    [
        ("4", 4),
        (" 5.\n", 5),
        ("Score: 3", 3),
        ("2/5", 2),
        ("6", None),
        ("0", None),
        ("4 or 5", None),
        ("", None),
        ("10", None),
        ("I would give it a 4", None),
        ("**4**", None),
        ("4.5", None),
        ("-4", None),
    ],
)
def test_a_reply_is_one_mark_or_none(reply, mark):
    assert mark_of(reply) == mark


def test_marks_become_scores_and_nonsense_and_failures_are_counted(desk):
    rows = [turns(a) for a in ("good", "poor", "chatty", "huge", "broken", "slow", "plain", "busy good")]
    values, about = judge_of(desk).score(rows)
    expected = [1.0, 0.0, None, None, None, None, 0.5, 1.0]
    assert [None if np.isnan(v) else v for v in values] == expected
    assert (about["judged"], about["nonsense"]) == (4, 2)
    assert about["failed"] == {"HTTP 400": 1, "no answer within 0.3 s": 1}


def test_what_was_judged_is_not_asked_again_and_what_failed_is(desk):
    rows = [turns(a) for a in ("good", "chatty", "broken")]
    judge_of(desk).score(rows)
    desk.asked.clear()
    values, about = judge_of(desk).score(rows)
    assert [a.split("\n")[0] for a in desk.asked] == ["broken"]
    assert (about["judged"], about["nonsense"]) == (1, 1)
    assert values[0] == 1.0


def test_the_key_comes_from_the_environment_and_no_file_holds_it_or_a_row(desk, tmp_path, monkeypatch):
    monkeypatch.setenv("DESK_KEY", "sk-very-secret")
    judge_of(desk, key_env="DESK_KEY").score([turns("good parcel 4711")], folder=tmp_path / "run")
    assert desk.keys == {"Bearer sk-very-secret"}
    written = b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    assert b"[5" in written
    assert b"secret" not in written
    assert b"4711" not in written


def test_a_key_that_is_not_set_stops_before_a_request(desk, monkeypatch):
    monkeypatch.delenv("DESK_KEY", raising=False)
    with pytest.raises(UserError, match="DESK_KEY"):
        judge_of(desk, key_env="DESK_KEY").score([turns("good")])
    assert not desk.asked


def test_no_request_is_sent_that_could_break_the_limit(desk):
    rows = [turns(f"good {i}") for i in range(20)]
    each = estimated_tokens(module.question(rows[0]))
    priced = judge_of(desk, input_per_million=1e6 / each, output_per_million=0.0, max_cost=5.0, concurrency=1)
    values, about = priced.score(rows)
    assert about["cost"] <= 5.0
    assert about["judged"] == len(desk.asked) >= 4
    assert about["not_asked"] == 20 - about["judged"]
    assert int(np.isnan(values).sum()) == about["not_asked"]
    _, again = priced.score(rows)  # what was paid for counts on
    assert again["cost"] <= 5.0


def test_a_judge_that_is_down_stops_the_run_and_keeps_what_was_judged(desk):
    judge_of(desk).score([turns("good")])
    desk.down = True
    with pytest.raises(StageFailed, match="answers none"):
        judge_of(desk).score([turns("good"), turns("poor"), turns("plain")])
    desk.down = False
    desk.asked.clear()
    values, _ = judge_of(desk).score([turns("good"), turns("poor"), turns("plain")])
    assert values.tolist() == [1.0, 0.0, 0.5]
    assert len(desk.asked) == 2


def test_another_model_is_another_judge(desk):
    judge_of(desk).score([turns("good")])
    other = Judge(Endpoint(desk.url, "other"))
    other.score([turns("good")])
    assert len(desk.asked) == 2
