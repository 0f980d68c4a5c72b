"""The features scorer and its card."""

import json
from pathlib import Path

import numpy as np
import pytest

from tamis.curate import quality as module
from tamis.curate.quality import features, quality
from tamis.curate.scorer_card import Pairs, card, matched, preferred

REVISIONS = Path(__file__).parents[3] / "shared" / "data" / "coachlm_expert_revisions.json"
ASKED = "Name two ways to save water."
GOOD = "Here are two ways to save water:\n\n- Turn off the tap while you brush.\n\n- Fix leaks early."

# For each sign: a worse and a better version that differ in that sign alone.
SIGNS = {
    "spaced": ("Water:\n- tap\n- leaks", "Water:\n\n- tap\n\n- leaks"),
    "upper": ("turn off the tap.", "Turn off the tap."),
    "edges": ("Turn off the tap. \nFix leaks. \nAct.", "Turn off the tap.\nFix leaks.\nAct."),
    "spacing": ("Turn off  the tap , and fix leaks .", "Turn off the tap, and fix leaks."),
    "slips": ("Turn off the the tap and buy an tank.", "Turn off the tap and buy a tank."),
    "escape": ("Turn off the tap.\\n Fix leaks.", "Turn off the tap. Fix leaks."),
    "bold": ("Tap: turn it off.", "**Tap**: turn it off."),
    "opening": ("Two ways are these.", "Here are two ways."),
    "reader": ("Turn off taps while one brushes.", "Turn off taps while you brush."),
}


@pytest.mark.parametrize("sign", SIGNS)
def test_each_sign_is_seen_and_tells_the_better_version(sign):
    worse, better = SIGNS[sign]
    assert features(ASKED, worse)[sign] != features(ASKED, better)[sign]
    assert quality(ASKED, better) > quality(ASKED, worse)


def test_weights_are_named_as_features_are_and_none_counts_against_its_meaning():
    assert list(module.WEIGHTS) == list(features("", ""))
    assert all(module.WEIGHTS[name] >= 0 for name in module.MERITS)
    assert all(module.WEIGHTS[name] <= 0 for name in module.FAULTS)
    assert all(module.WEIGHTS[name] == value for name, value in module.BY_HAND.items())


@pytest.mark.parametrize("text", ["", " ", "\n", "a", "?", "ạ" * 9, "x" * 100_000, "<b>" * 5000, "\ud800"])
def test_any_text_has_a_finite_quality(text):
    assert 0 <= quality(text, text) < 1
    assert all(np.isfinite(v) for v in features(text, text).values())


def test_saying_it_twice_is_no_better():
    once = "Turn off the tap while brushing. Fix leaks early and water plants at night."
    assert quality(ASKED, f"{once} {once}") <= quality(ASKED, once)


def test_what_begins_a_line_with_spaces_is_no_slip():
    assert features(ASKED, "if dry:\n    water()\n    wait()")["spacing"] == 0


def test_a_card_counts_ties_half_and_looks_at_pairs_of_like_length_apart():
    pairs = Pairs(
        worse=[("q", "a b c"), ("q", "a b c"), ("q", "a"), ("q", "one two three four five six seven eight nine ten")],
        better=[("q", "x y z"), ("q", "c d e"), ("q", "z z z z z z"), ("q", "two")],
    )
    found = card(pairs, lambda _, answer: float(answer[0] in "xt"))
    assert found["raw"]["pairs"] == 4
    assert found["raw"]["accuracy"]["value"] == pytest.approx((1 + 0.5 + 0.5 + 1) / 4)
    assert found["raw"]["word_count"]["value"] == pytest.approx((0.5 + 0.5 + 1 + 0) / 4)
    assert found["matched"]["pairs"] == 2
    assert found["matched"]["accuracy"]["value"] == 0.75
    assert found["matched"]["difference"]["value"] == pytest.approx(0.25)


def test_the_edge_of_what_is_matched_and_scores_that_are_missing():
    assert matched(np.array([[90, 89, 0], [100, 100, 0]])).tolist() == [True, False, True]
    assert preferred(np.array([[1, np.nan, 2], [2, 1, 1]])).tolist() == [1, 0.5, 0]


def test_a_card_of_nothing_says_that_it_is_missing():
    found = card(Pairs([], []), quality)
    assert np.isnan(found["raw"]["accuracy"]["value"])
    assert found["length_rank_correlation"] is None


def test_length_alone_gets_no_credit_on_pairs_of_like_length():
    revisions = _revisions()
    found = card(revisions, lambda _, answer: float(len(answer.split())))
    assert found["matched"]["difference"]["value"] == 0
    assert found["length_rank_correlation"] == 1


def test_expert_revisions_of_like_length_are_told_from_raw_rows():
    """The shipped weights have seen these rows; benchmarks/scorers_card.py measures on rows they have not."""
    found = card(_revisions(), quality)
    assert found["matched"]["pairs"] > 300
    assert found["matched"]["accuracy"]["value"] >= 0.76
    assert found["matched"]["difference"]["lower"] > 0.1


def test_escapes_do_not_give_the_better_version_away():
    """92 of 254 worse versions in the test of CaR hold literal escapes against 1 of the better: who looks for them
    shines there. Here they may be spelt out on both sides and the card stays what it is."""

    def spelt(side):
        return [(p, a.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')) for p, a in side]

    pairs = _revisions()
    there = card(Pairs(spelt(pairs.worse), spelt(pairs.better)), quality)
    as_found = card(pairs, quality)
    for part in ("raw", "matched"):
        assert abs(there[part]["accuracy"]["value"] - as_found[part]["accuracy"]["value"]) <= 0.01


def _revisions():
    if not REVISIONS.is_file():
        pytest.skip(f"needs {REVISIONS.name}")
    rows = json.loads(REVISIONS.read_text(encoding="utf-8"))
    sides = [
        [(f"{r[f'{v} Instruction']}\n{r[f'{v} Input']}".strip(), r[f"{v} Response"]) for r in rows]
        for v in ("Raw", "Revised")
    ]
    return Pairs(*sides)
