"""Smaller view-models: nearest rows, slices, training."""

import json
import math

from tamis.reports import nearest
from tamis.reports.folder import Folder
from tamis.reports.latency_view import durations_ms
from tamis.reports.slices_view import FEW, slice_counts
from tamis.reports.training_view import training_view
from tamis.reports.view import load


def test_the_nearest_rows_say_the_same_in_like_words(finished):
    found = nearest.build(finished, "kept").nearest("lost my card 4321, stop it", 3)
    assert found[0].label == "block card"
    assert found[0].reason is None
    assert [n.similarity for n in found] == sorted((n.similarity for n in found), reverse=True)


def test_dropped_rows_come_with_their_reason(finished):
    assert all(n.reason for n in nearest.build(finished, "dropped").nearest("where is my parcel", 5))


def test_a_text_that_shares_nothing_has_no_nearest_row(finished):
    assert nearest.build(finished, "kept").nearest("ØØØØ") == []


def test_slice_counts_add_up_to_the_items_and_to_the_changes(finished):
    examples = load(finished, examples=None).examples
    counts = slice_counts(examples.rows, "label")
    assert sum(s.items for s in counts) == examples.total
    assert sum(s.fixed for s in counts) == examples.counts.get("fixed", 0)
    assert all(s.too_few == (s.items < FEW) for s in counts)


def test_training_shows_the_step_at_which_the_loss_was_no_number(copy):
    log = copy.train("chosen") / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[9]["loss"] = math.nan
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 58, "lo')
    view = training_view(Folder(copy), "chosen")
    assert view.bad_step == 10
    assert view.unread_lines == 1
    assert len(view.curves["loss"]) == len(lines) - 1
    assert ("r", "16", "capacity for 9,120 loss tokens") in view.choices


def test_durations_leave_warm_up_out(finished):
    values = durations_ms(Folder(finished), "chosen", "tuned")
    assert len(values) == 78
    assert all(math.isfinite(v) and v > 0 for v in values)
    assert durations_ms(Folder(finished), "chosen", "no such system") == []
