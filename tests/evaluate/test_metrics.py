"""Metrics against the libraries people know, offline, and what empty and missing mean."""

import math
import socket

import numpy as np
import pyarrow as pa
import pytest

from tamis import schema
from tamis.evaluate import metrics
from tamis.evaluate.measure import delta_of_answers, of_answers, sliced
from tamis.evaluate.metrics import Answers, lookup

TRUE = ["track", "cancel", "track", "refund", "cancel", "track", "refund", "track"] * 6
SAID = ["track", "cancel", "cancel", "refund", None, "track", "track", "other"] * 6
HYPOTHESES = ["the cat sat on the mat", "a quick brown fox", "", "it is what it is", "numbers: 1,234.5"]
REFERENCES = [
    "the cat sat on a mat",
    "the quick brown fox jumps",
    "nothing here",
    "it is what it is",
    "1,234.5 numbers",
]


def answers(expected, said, **columns):
    rows = []
    for place, (right, answer) in enumerate(zip(expected, said, strict=True)):
        row = {
            "id": f"{place:03d}",
            "batch": 0,
            "prompt": "",
            "prompt_sha256": "",
            "output": answer,
            "answer": answer,
            "expected": right,
            "correct": answer == right,
            "parsed": answer is not None,
            "finish": "stop",
            "component": place,
        }
        rows.append(row | {k: v[place] for k, v in columns.items()})
    return Answers(pa.Table.from_pylist(rows, schema=schema.SAMPLES))


def judged_by_somebody(given):
    """The same answers, with what a judge said of each."""
    wins = {"judge_win": pa.array([1.0] * len(given.table)), "judge_consistent": pa.array([True] * len(given.table))}
    for name, column in wins.items():
        given = Answers(given.table.append_column(name, column))
    return given


def value(id, given):
    return of_answers(given, lookup(id)).value


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a metric opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_every_metric_of_answers_is_computed_without_a_socket():
    numbers = [repr(float(i)) for i in range(8)]
    likelihood = {"nll": [1.0 + i for i in range(8)], "nll_tokens": [4] * 8, "nll_bytes": [9] * 8}
    given = judged_by_somebody(answers(numbers, numbers[::-1], **likelihood))
    for id in (*(m.id for m in metrics.REGISTRY.values() if m.quality), "regex:1", "forbidden:7.0"):
        assert of_answers(given, lookup(id)).n == 8, id
        metrics.signature(id)


def test_accuracy_and_macro_f1_agree_with_scikit_learn():
    from sklearn.metrics import accuracy_score, f1_score

    given = answers(TRUE, SAID)
    said = [s or "(none)" for s in SAID]

    assert value("accuracy", given) == pytest.approx(accuracy_score(TRUE, said))
    assert value("macro_f1", given) == pytest.approx(f1_score(TRUE, said, labels=sorted(set(TRUE)), average="macro"))


def test_bleu_and_chrf_agree_with_sacrebleu_to_the_last_digit():
    import sacrebleu

    given = answers(REFERENCES, HYPOTHESES)

    assert value("bleu", given) == sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score
    assert value("chrf", given) == sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score


def test_rouge_agrees_with_rouge_score_on_ascii():
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    theirs = [scorer.score(r, h)["rougeL"].fmeasure for r, h in zip(REFERENCES, HYPOTHESES, strict=True)]

    assert value("rouge_l", answers(REFERENCES, HYPOTHESES)) == pytest.approx(np.mean(theirs), abs=1e-9)


@pytest.mark.parametrize(
    ("reference", "output", "score"),
    [
        ("đơn hàng đã hủy", "đơn hàng đã hủy", 1.0),
        ("đơn hàng đã hủy", "đàn hồng đủ hạy", 0.0),  # the same ASCII skeleton: rouge-score itself says 1.0
        ("má", "mà", 0.0),
        ("đơn hàng", "đơn hàng", 1.0),  # composed against decomposed
        ("東京タワー", "東京タワー", 1.0),  # rouge-score itself says 0.0
        ("مرحبا بالعالم", "مرحبا بالعالم", 1.0),
    ],
)
def test_rouge_reads_every_script(reference, output, score):
    assert value("rouge_l", answers([reference], [output])) == score


def test_every_text_metric_has_a_signature():
    assert "tok:13a" in metrics.signature("bleu")
    assert "nc:6" in metrics.signature("chrf")
    assert "unicode" in metrics.signature("rouge_l")
    assert metrics.signature("accuracy") is None


def test_mae_and_rmsle_agree_with_scikit_learn():
    from sklearn.metrics import mean_absolute_error, root_mean_squared_log_error

    true, said = [1.0, 10.0, 100.0, 7.0], [2.0, 9.5, 130.0, 7.0]
    given = answers([repr(t) for t in true], [repr(s) for s in said])

    assert value("mae", given) == pytest.approx(mean_absolute_error(true, said))
    assert value("rmsle", given) == pytest.approx(root_mean_squared_log_error(true, said))


def test_a_number_that_is_not_given_costs_what_the_worst_constant_would():
    given = answers(["0.0", "10.0", "4.0"], ["0.0", "10.0", None])

    assert value("mae", given) == pytest.approx(6 / 3)


def test_silence_never_beats_an_honest_error():
    true = ["0.0", "10.0", "4.0"]

    assert value("mae", answers(true, ["0.0", "10.0", "9.0"])) < value("mae", answers(true, ["0.0", "10.0", None]))


def test_perplexity_is_of_the_corpus_not_the_mean_of_texts():
    given = answers(["a", "b"], ["a", "b"], nll=[2.0, 12.0], nll_tokens=[4, 4], nll_bytes=[5, 9])

    assert value("perplexity", given) == pytest.approx(math.exp(14 / 8))
    assert value("bits_per_byte", given) == pytest.approx(14 / (math.log(2) * 14))


def test_perplexity_of_an_endpoint_without_likelihoods_does_not_exist():
    given = answers(["a", "b"], ["a", "b"], nll=[2.0, None], nll_tokens=[4, None], nll_bytes=[5, None])

    assert of_answers(given, lookup("perplexity")).n == 0


def test_failed_requests_are_wrong_answers_and_stay_in_the_denominator():
    given = answers(["a"] * 4, ["a", "a", "a", None], error=[None, None, None, "HTTP 500"])

    assert value("accuracy", given) == 0.75
    assert value("parse_rate", given) == 0.75
    assert value("error_rate", given) == 0.25


@pytest.mark.parametrize("id", [m.id for m in metrics.REGISTRY.values() if m.quality])
def test_no_items_give_no_value(id):
    found = of_answers(answers([], []), lookup(id))

    assert found.n == 0
    assert math.isnan(found.value)


@pytest.mark.parametrize("id", [*metrics.REGISTRY, "cost.vnd_per_1k"])
def test_every_metric_says_what_it_is_and_what_missing_means(id):
    known = lookup(id)

    assert known.what
    assert known.missing
    assert known.direction in ("up", "down")


def test_a_misspelt_metric_names_the_right_one():
    with pytest.raises(KeyError, match="did you mean 'accuracy'"):
        lookup("acuracy")


def test_macro_f1_of_a_perfect_model_has_a_lower_bound_below_one():
    found = of_answers(answers(TRUE, TRUE), lookup("macro_f1"))

    assert found.value == 1
    assert 0.8 < found.lower < 0.99


def test_two_equal_models_differ_by_zero_with_an_interval():
    given = answers(TRUE, SAID)
    for id in ("accuracy", "macro_f1", "rouge_l"):
        found = delta_of_answers(given, given, lookup(id))

        assert found.value == 0
        assert found.lower < -0.01
        assert found.upper > 0.01


def test_durations_leave_out_warmup_and_keep_failures():
    rows = [
        {"warmup": True, "first_s": 9.0, "last_s": 9.0, "status": "ok", "output_tokens": 3},
        {"warmup": False, "first_s": 1.0, "last_s": 3.0, "status": "ok", "output_tokens": 5},
        {"warmup": False, "first_s": 1.0, "last_s": 1.0, "status": "ok", "output_tokens": 1},
        {"warmup": False, "first_s": None, "last_s": None, "status": "error", "output_tokens": None},
    ]
    full = [{"id": "x", "scheduled_s": 0.0, "sent_s": 0.5, **r} for r in rows]
    table = pa.Table.from_pylist(full, schema=schema.REQUESTS)

    assert metrics.durations(table, "e2e").tolist() == [2500, 500, math.inf]
    assert metrics.durations(table, "ttft").tolist() == [500, 500, math.inf]
    assert metrics.durations(table, "tpot").tolist() == [500, math.inf]


def test_slices_hold_every_item_once():
    given = answers(["a"] * 4, ["a"] * 4, language=["en", "vi", None, "en"])
    parts = sliced(given, "language")

    assert {name: len(part) for name, part in parts.items()} == {"(none)": 1, "en": 2, "vi": 1}
