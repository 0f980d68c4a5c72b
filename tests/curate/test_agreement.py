"""Wrong labels planted in data whose truth is known."""

import numpy as np
import pytest

from tamis.curate import agreement


@pytest.fixture(scope="module")
def planted():
    """Twelve labels around twelve directions, 600 rows; every twentieth label is wrong."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, 64))
    truth = np.arange(600) % 12
    vectors = centres[truth] + 0.8 * rng.normal(size=(600, 64))
    vectors = np.rint(127 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.int8)
    wrong = np.arange(600) % 20 == 7
    given = np.where(wrong, (truth + 5) % 12, truth)
    return vectors, [f"l{g}" for g in given], np.arange(600), wrong


def test_wrong_labels_are_found_and_right_ones_are_left_alone(planted):
    vectors, labels, copies, wrong = planted
    found = agreement.label_margin(vectors, labels, copies) > agreement.MARGIN
    assert (found & wrong).sum() >= 0.9 * wrong.sum()
    assert (found & ~wrong).sum() <= 0.05 * found.sum()


def test_the_likelier_label_of_a_wrong_one_is_the_true_one(planted):
    vectors, labels, copies, wrong = planted
    found = agreement.challenge(vectors, labels, copies)
    truth = np.array([f"l{i % 12}" for i in range(600)])
    suspected = wrong & (found.margin > agreement.MARGIN)
    assert (found.rival[suspected] == truth[suspected]).mean() > 0.95
    assert not (found.rival == np.array(labels)).any(), "no label is its own rival"


def test_leaving_out_in_closed_form_is_training_without_the_row(planted):
    vectors, labels, copies, _ = planted
    margin = agreement.label_margin(vectors, labels, copies)
    names, codes = np.unique(labels, return_inverse=True)
    x = np.hstack([vectors / 127, np.ones((600, 1))])
    for row in (0, 7, 123):
        others = np.arange(600) != row
        y = np.eye(len(names))[codes[others]]
        gram = x[others].T @ x[others] + agreement.PENALTY * np.eye(65)
        said = x[row] @ np.linalg.solve(gram, x[others].T @ y)
        rest = np.delete(said, codes[row]).max()
        assert margin[row] == pytest.approx(rest - said[codes[row]], abs=1e-4)


def test_copies_do_not_vouch_for_one_another(planted):
    """A wrong label in twenty copies is as suspect as in one: a row's copies are left out with it."""
    vectors, labels, copies, wrong = planted
    row = int(np.flatnonzero(wrong)[0])
    many = np.vstack([vectors, np.repeat(vectors[row : row + 1], 20, 0)])
    again = agreement.label_margin(many, labels + [labels[row]] * 20, np.append(copies, [copies[row]] * 20))
    assert again[row] == pytest.approx(agreement.label_margin(vectors, labels, copies)[row], abs=1e-4)
    assert (again[600:] == again[row]).all()


def test_the_order_of_rows_changes_nothing(planted):
    vectors, labels, copies, _ = planted
    mixed = np.random.default_rng(1).permutation(600)
    there = agreement.label_margin(vectors[mixed], [labels[i] for i in mixed], copies[mixed])
    assert (there == agreement.label_margin(vectors, labels, copies)[mixed]).all()


@pytest.mark.parametrize(
    "labels", [[None] * 8, ["a"] * 8, [f"l{i}" for i in range(8)], ["a"] * 4 + [None] * 4, ["a", "b"] + [None] * 6]
)
def test_where_there_is_nothing_to_compare_nothing_is_suspected(labels):
    vectors = np.eye(8, dtype=np.int8) * 127
    assert np.isnan(agreement.label_margin(vectors, labels, np.arange(8))).all()


def test_rows_without_a_label_teach_nothing_and_are_not_judged(planted):
    vectors, labels, copies, _ = planted
    some = [None if i % 3 == 0 else label for i, label in enumerate(labels)]
    margin = agreement.label_margin(vectors, some, copies)
    assert np.isnan(margin[::3]).all()
    left = np.arange(600) % 3 != 0
    alone = agreement.label_margin(vectors[left], [label for label in some if label], copies[left])
    assert (margin[left] == alone).all()
