"""The parts of curation, each by what it promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.curate import deduplicate, near, rules, sample
from tamis.curate.decontaminate import index
from tamis.curate.features import clarity
from tamis.curate.guard import Guard
from tamis.curate.normal import normalise, words
from tamis.errors import UserError
from tamis.recipe import Quota, Rules, Size


@pytest.mark.parametrize(("reason", "row"), rules.EXAMPLES.items())
def test_each_rule_has_an_example_that_breaks_it(reason, row):
    assert rules.judge(*row, Rules()) == reason


@pytest.mark.parametrize("row", [("ok", "yes"), ("2 + 2", "4"), ("Hi", "greeting"), ("khóa thẻ", "block card")])
def test_short_rows_are_safe(row):
    assert rules.judge(*row, Rules()) is None


def test_a_rule_of_the_user_that_crashes_names_file_and_line(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def rule(record):\n    return 1 / 0\n")
    from tamis.record import Message, Record

    rule = rules.load_custom(f"{file}:rule")
    with pytest.raises(UserError, match=r"mine.py:2") as error:
        rule(Record("x", (Message("user", "a"),)))
    assert "ZeroDivisionError" in str(error.value)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("Where is my parcel?", "where is my parcel", True),
        ("Hello, where is my parcel? Thanks", "where is my parcel", True),
        ("where is my parcel from Leeds", "where is my pracel from Leeds", True),
        ("block my card", "unblock my card", False),
        ("the captcha says 2 + 2", "the captcha says 2 - 2", False),
        ("I have received it", "I have not received it", False),
        ("khóa thẻ", "mở khóa thẻ", False),
        ("tôi hỏi bán hàng", "tôi hỏi bạn hàng", False),
        ("order 48213", "order 48231", False),
    ],
)
def test_similar_is_not_the_same(left, right, same):
    common = ["parcel from leeds", "parcel to leeds", "block unblock card", "received order"]
    assert Guard([left, right, *common]).same(left, right) is same


def brute_jaccard(a, b):
    def grams(t):
        t = t if len(t) >= near.SHINGLE else t + " " * (near.SHINGLE - len(t))
        return {t[i : i + near.SHINGLE] for i in range(len(t) - near.SHINGLE + 1)}

    return len(grams(a) & grams(b)) / len(grams(a) | grams(b))


@given(st.lists(st.text("abc đ", min_size=0, max_size=30), min_size=2, max_size=12))
@settings(max_examples=50, deadline=None)
def test_jaccard_is_the_true_one(texts):
    pairs = np.array([(i, j) for i in range(len(texts)) for j in range(i + 1, len(texts))])
    expected = [brute_jaccard(texts[i], texts[j]) for i, j in pairs]
    assert np.allclose(near.jaccard(texts, pairs), expected)


def test_signatures_do_not_depend_on_the_rows_beside():
    texts = ["a", "where is my parcel", "khóa thẻ", "", "x" * 400]
    together = near.signatures(texts)
    assert all((near.signatures([t])[0] == together[i]).all() for i, t in enumerate(texts))


def test_near_pairs_find_what_comparing_all_pairs_finds():
    rng = np.random.default_rng(0)
    base = ["".join(rng.choice(list("abcdefghij "), 60)) for _ in range(150)]
    texts = base + [t[:20] + "#" + t[21:] for t in base]
    pairs, _ = near.near_pairs(texts, near.signatures(texts), 0.8)
    exact = {
        (i, j) for i in range(300) for j in range(i + 1, 300) if round(brute_jaccard(texts[i], texts[j]), 4) >= 0.8
    }
    assert len(exact) >= 150
    found = {tuple(p) for p in pairs.tolist()}
    # P(proposed) at similarity 0.836 is 1 - (1 - 0.836^6)^16 = 0.9988 by the banding
    assert len(found & exact) >= 0.99 * len(exact)
    assert found <= exact


def test_short_rows_do_not_collapse_into_one():
    """Data-Juicer 1.6 gives all rows under five tokens one signature."""
    pairs, _ = near.near_pairs(["yes", "no", "ok"], near.signatures(["yes", "no", "ok"]), 0.85)
    assert len(pairs) == 0


def table(texts, quality):
    n = len(texts)
    normal = [normalise(t) for t in texts]
    return deduplicate.Rows(
        ids=[f"r{i}" for i in range(n)],
        quality=np.array(quality, float),
        prompts=texts,
        texts=normal,
        answers=["same"] * n,
        labels=[None] * n,
        exact=np.array([hash(t) for t in normal]),
        bands=near.signatures(normal),
        vectors=None,
        truncated=np.zeros(n, bool),
    )


def test_a_chain_leaves_no_removal_uncovered():
    """a~b~c but not a~c: union-find drops c for a, though nothing like c is left (measured: up to 69 % uncovered)."""
    a = "the quick brown fox jumps over the lazy dog near the old river bank today"
    b, c = a + " at noon", a + " at noon with friends"
    fates = deduplicate.deduplicate(table([a, b, c], [0.9, 0.5, 0.7]), near=0.75, semantic=None, guard=False)
    for i in np.flatnonzero(fates.kind >= 0):
        assert fates.kind[fates.witness[i]] < 0
        assert fates.similarity[i] >= 0.75


def test_the_better_copy_is_kept():
    fates = deduplicate.deduplicate(
        table(["Where is it?", "where is it"], [0.2, 0.8]), near=0.85, semantic=None, guard=True
    )
    assert fates.kind.tolist() == [0, -1]
    assert fates.witness[0] == 1


def test_leaks_are_found_inside_longer_rows_and_short_items_only_whole():
    found = index(["e1", "e2"], ["please cancel the order of the blue lamp today", "where is it"])
    assert found.leak("Where is it?")[0] == "leak_exact"
    assert found.leak("so where is it that you send from") is None
    assert found.leak("Hi! Please cancel the order of the blue lamp today, thanks")[0] == "leak_ngram"
    assert found.leak("please cancel the order of the red chair today") is None
    assert found.too_short == 1


@st.composite
def pools(draw):
    n = draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    labels = [f"l{i}" for i in rng.integers(0, 4, n)]
    return sample.Pool(
        [f"r{i:02d}" for i in range(n)],
        rng.integers(-127, 127, (n, 8)).astype(np.int8),
        rng.random(n),
        rng.integers(1, 50, n),
        labels,
        {"label": labels},
    )


@given(pools(), st.sampled_from(["cluster", "random", "longest", "stratified"]))
@settings(max_examples=40, deadline=None)
def test_any_size_is_a_prefix_of_one_order(pool, method):
    ranked, _ = sample.order(pool, method, 7)
    n = len(pool.ids)
    assert sorted(ranked.tolist()) == list(range(n))
    small, k = sample.take(pool, ranked, Size("rows", n // 2 or 1), {}, set())
    large, m = sample.take(pool, ranked, Size("rows", n), {}, set())
    assert set(small[:k].tolist()) <= set(large[:m].tolist())
    assert k == max(n // 2, 1)


@given(pools(), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_minimum_quotas_hold_or_are_explained(pool, least):
    ranked, _ = sample.order(pool, "cluster", 7)
    size = max(len(pool.ids) // 2, 1)
    have = {v: pool.labels.count(v) for v in set(pool.labels)}
    need = sum(min(least, n) for n in have.values())
    if need > size:
        with pytest.raises(UserError, match=f"need {need} rows, the size is {size}"):
            sample.take(pool, ranked, Size("rows", size), {"label": Quota(min=least)}, set())
        return
    final, kept = sample.take(pool, ranked, Size("rows", size), {"label": Quota(min=least)}, set())
    chosen = [pool.labels[i] for i in final[:kept].tolist()]
    assert all(chosen.count(v) >= min(least, n) for v, n in have.items())


def test_a_size_above_the_survivors_says_how_many_there_are():
    pool = sample.Pool(["a"], np.ones((1, 2), np.int8), np.ones(1), np.ones(1), [None], {})
    with pytest.raises(UserError, match="only 1 survive"):
        sample.take(pool, np.array([0]), Size("rows", 5), {}, set())


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Where is my parcel?", 1.0),
        ("khóa thẻ giúp mình với", 1.0),
        ("WHERE IS MY PARCEL", 0.6),  # all capitals
        ("WHERE is it", 0.956),  # 5 of 9 letters
        ("why???? ", 0.56),  # one sign four times, and half of the text are signs
        ("why???? where????", 0.5835),
        ("12345", 0.6),  # no letters
        ("12345 =", 0.6),
        ("", 0.6),
        ("aaaa", 0.8),
        ("a    b", 1.0),
    ],
)
def test_clarity_takes_off_for_shouting_signs_and_runs(prompt, expected):
    assert clarity(prompt) == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 2*(3+4)?", "What is 2*3+4?"),
        ("Expand (a+b)*c", "Expand a+b*c"),
        ("What is 5!", "What is 5"),
        ("print(!ready)", "print(ready)"),
        ("What is x^2", "What is x 2"),
        ("What is a[0]", "What is a(0)"),
        ("Read a|b", "Read a b"),
    ],
)
def test_brackets_and_marks_of_formulas_and_code_tell_rows_apart(one, other):
    assert normalise(one) != normalise(other)
    assert words(one) != words(other), "the guard must see it too"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Thanks!", "thanks"),
        ("Help (urgent)", "help urgent"),
        ("Hi! Where is it?!", "hi where is it"),
        ("Tell me [the price], please", "tell me the price please"),
        ("Wow!!! (really)", "wow really"),
    ],
)
def test_brackets_and_marks_that_only_separate_do_not(one, other):
    assert normalise(one) == normalise(other)
    assert words(one) == words(other)
