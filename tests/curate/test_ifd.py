"""IFD by a tiny model: the same number by hand, for any batch, order and interruption."""

import math

import numpy as np
import pytest

from tamis.curate import ifd as module
from tamis.curate.ifd import Example, Ifd, Likelihood
from tamis.models import resolve

pytest.importorskip("transformers")

PAIRS = [
    ("Where is my parcel?", "It was due on Monday."),
    ("Please block my card, it was stolen.", "block card"),
    ("Repeat: refund refund refund", "refund"),
    ("Tôi muốn khóa thẻ vì bị mất.", "khóa thẻ"),
    ("How do I change the delivery address of an order that was sent on Monday?", "In the app, under orders."),
    ("a", "b"),
]


def turns(prompt, answer):
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


@pytest.fixture
def scorer(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    return Ifd(resolve(str(tiny_model)), window=128, dtype="float32")


def many(count=40):
    return [turns(f"{p} {i} {'again ' * (i % 7)}", f"{a} {i % 5}") for i in range(count) for p, a in [PAIRS[i % 6]]]


def test_the_score_is_the_papers_ratio_over_the_answers_own_tokens(scorer):
    import torch

    prompt, answer = PAIRS[0]
    tokenizer, model = scorer.tokenizer, scorer.loaded
    asked = tokenizer.encode(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)
    header = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
    said = tokenizer.encode(answer, add_special_tokens=False)

    def mean_nll(before):
        with torch.inference_mode():
            logits = model(torch.tensor([before + said])).logits[0].log_softmax(-1)
        return -float(np.mean([float(logits[len(before) - 1 + i, t]) for i, t in enumerate(said)]))

    values, _ = scorer.score([turns(prompt, answer)])

    assert scorer.header == header
    assert values[0] == pytest.approx(math.exp(mean_nll(asked)) / math.exp(mean_nll(header)), abs=1e-3)


def test_the_answer_is_found_by_ids_where_its_text_stands_in_the_prompt_too(scorer):
    example = scorer.example(turns("Say refund. refund", "refund"))
    start, end = example.spans[0]
    assert scorer.tokenizer.decode(example.ids[start:end]) == "refund"
    assert end == len(example.ids)  # the last of the three, and the turn's end token is not counted
    assert scorer.tokenizer.decode(example.ids[:start]).endswith("<|im_start|>assistant\n")


def test_one_row_at_a_time_scores_as_sixteen_do(scorer):
    examples = [scorer.example(t) for t in many()]
    alone = [scorer.measure([e])[0] for e in examples]
    together = [r for start in range(0, len(examples), 16) for r in scorer.measure(examples[start : start + 16])]
    np.testing.assert_allclose([a.ifd for a in alone], [b.ifd for b in together], rtol=0, atol=1.1e-4)


def test_a_score_does_not_depend_on_the_order_of_rows(scorer, monkeypatch, tmp_path):
    rows = many()
    forward, _ = scorer.score(rows)
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "other"))
    backward, _ = scorer.score(rows[::-1])
    assert forward.tolist() == backward[::-1].tolist()


def test_rows_that_are_added_leave_most_batches_alone(scorer):
    rows = {str(i): scorer.example(t) for i, t in enumerate(many(400))}
    keys = {module.json_sha256([e.ids, e.spans]): e for e in rows.values()}
    fewer = dict(list(keys.items())[:-4])
    before = {tuple(b) for b in scorer.plan(fewer)}
    after = {tuple(b) for b in scorer.plan(keys)}
    assert len(before & after) >= len(before) - 12
    assert max(map(len, after)) <= 16


def test_a_killed_scorer_goes_on_where_it_stopped(scorer, monkeypatch):
    rows, calls = many(), []
    whole = Ifd.measure

    def dies(self, examples):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(len(examples))
        return whole(self, examples)

    monkeypatch.setattr(Ifd, "measure", dies)
    with pytest.raises(KeyboardInterrupt):
        scorer.score(rows)
    batches = len(scorer.plan({module.json_sha256([e.ids, e.spans]): e for e in map(scorer.example, rows)}))
    cache = next(p for p in module.ScoreCache("ifd", scorer.identity()).file.parent.iterdir())
    cache.write_bytes(cache.read_bytes()[:-7])  # and the last line was cut short
    again = []
    monkeypatch.setattr(Ifd, "measure", lambda self, e: again.append(len(e)) or whole(self, e))
    resumed, _ = scorer.score(rows)
    assert len(again) == batches - 2
    again.clear()
    assert scorer.score(rows)[0].tolist() == resumed.tolist()
    assert not again


def test_empty_answers_have_no_score_and_are_counted(scorer):
    values, about = scorer.score([turns("a", "  "), turns("a", "refund"), []])
    assert np.isnan(values).tolist() == [True, False, True]
    assert (about["no_answer"], about["not_finite"]) == (2, 0)


def test_numbers_that_are_not_finite_are_no_score():
    assert math.isnan(Likelihood(math.nan, 1.0, 3).ifd)
    assert math.isnan(Likelihood(math.inf, 1.0, 3).ifd)
    assert math.isnan(Likelihood(0.0, 0.0, 0).ifd)
    assert Likelihood(3.0, 3.0, 2).ifd == 1.0


def test_all_assistant_turns_count_token_by_token(scorer):
    chat = [*turns(*PAIRS[0]), *turns(*PAIRS[4])]
    example = scorer.example(chat)
    found = scorer.measure([example])[0]
    assert len(example.spans) == 2
    assert found.tokens == sum(b - a for a, b in example.spans)
    apart = [scorer.measure([scorer.example(turns(*PAIRS[i]))])[0] for i in (0, 4)]
    assert found.alone == pytest.approx(sum(a.alone for a in apart), rel=1e-3)


def test_long_rows_are_cut_to_the_window_and_keep_answer_and_prompt(scorer):
    long = scorer.example(turns("again " * 200, "refund " * 200))
    assert len(long.ids) <= 128
    assert long.cut
    assert 64 <= sum(b - a for a, b in long.spans) < 128
    assert long.spans[0][0] > 0
    short = scorer.example(turns("again " * 200, "refund"))
    assert scorer.tokenizer.decode(short.ids[short.spans[0][0] :]) == "refund"
    assert module._cut(Example([1, 2], [(1, 2)], False), 128) == Example([1, 2], [(1, 2)], False)
