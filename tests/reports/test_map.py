"""The map page's parts: what lies inside a lasso, what a colour means, what is sent to the browser."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis.reports import ledger_query, map_colours, projection
from tamis.schema import MAP, write_parquet


@pytest.fixture(scope="module")
def mapped(finished):
    """The finished run's map, beside the ledger it was made of."""
    return finished, projection.project(finished)


def test_the_map_of_the_run_is_drawn_where_there_is_one(mapped):
    run, shown = mapped
    table = pq.read_table(run.curate / "map.parquet")
    assert shown.explained is None
    assert len(shown) == len(table)
    assert shown.ids.to_pylist() == sorted(table["id"].to_pylist())
    assert shown.absent == ledger_query.count(run) - len(table)


def test_without_a_map_the_two_widest_axes_are_drawn(copy):
    ids = pq.read_table(copy.curate / "ledger.parquet")["id"].to_pylist()[:50]
    (copy.curate / "map.parquet").unlink()
    rng = np.random.default_rng(0)
    rows = np.zeros((50, 8), np.int8)
    rows[:, 3] = rng.integers(-100, 100, 50)
    rows[:, 5] = rng.integers(-10, 10, 50)
    write_parquet(
        copy.curate / "vectors" / "part-00000.parquet",
        pa.table(
            {"id": ids, "vector": list(rows)}, schema=pa.schema([("id", pa.string()), ("vector", pa.list_(pa.int8()))])
        ),
    )
    shown = projection.project(copy)
    assert shown.explained == pytest.approx(1.0)
    assert np.corrcoef(shown.xy[:, 0], rows[:, 3])[0, 1] ** 2 > 0.99


SQUARE = [[1000.0, 1000.0], [3000.0, 1000.0], [3000.0, 3000.0], [1000.0, 3000.0]]
NOTCHED = [[0.0, 0.0], [4000.0, 0.0], [4000.0, 4000.0], [2000.0, 500.0], [0.0, 4000.0]]
POINTS = np.array([[2000, 2000], [500, 500], [3500, 2000], [2000, 3900]], np.uint16)


@pytest.mark.parametrize(("polygon", "held"), [(SQUARE, [0]), (NOTCHED, [1, 2]), ([], []), (SQUARE[:2], [])])
def test_a_lasso_holds_what_lies_inside_notches_excepted(polygon, held):
    assert projection.inside(POINTS, polygon).tolist() == held


def test_colours_by_fate_count_what_the_ledger_counts(mapped):
    run, shown = mapped
    found = map_colours.colouring(run, shown.ids, "fate")
    assert found.names[0] == "kept"
    assert found.colours[0] == map_colours.KEPT
    assert found.counts[0] == ledger_query.count(run, ledger_query.Filter(verdict="kept"))
    assert sum(found.counts) == len(shown)


@pytest.mark.parametrize("by", ["label", "cluster", "language", "source", "score quality"])
def test_every_point_has_a_class_with_a_name_and_a_colour(mapped, by):
    run, shown = mapped
    found = map_colours.colouring(run, shown.ids, by)
    assert len(found.classes) == len(shown)
    assert len(found.names) == len(found.colours) <= 16  # the shader's palette
    assert found.classes.max() < len(found.names)


def test_each_point_has_the_class_of_its_own_row(mapped):
    run, shown = mapped
    found = map_colours.colouring(run, shown.ids, "label")
    table = pq.read_table(run.curate / "ledger.parquet", columns=["id", "label"])
    label = dict(zip(*(table[c].to_pylist() for c in ("id", "label")), strict=True))
    assert [found.names[k] for k in found.classes[:200]] == [label[i] for i in shown.ids.to_pylist()[:200]]


def test_a_search_finds_what_messages_say(mapped):
    run, shown = mapped
    found = map_colours.by_search(run, shown.ids, "MỞ KHÓA")
    hits = [i for i, k in zip(shown.ids.to_pylist(), found.classes, strict=True) if k == 0]
    assert hits
    assert all("mở khóa" in ledger_query.said(run, [i])[i][0] for i in hits[:3])


def test_a_million_points_are_five_megabytes_and_no_text(mapped):
    from tamis.reports.map_canvas import packed

    xy = np.zeros((1000, 2), np.uint16)
    xy[7] = (258, 65535)
    colours = map_colours.Colouring(np.full(1000, 3, np.uint8), ["a", "b", "c", "<b>\u202e"], ["#000000"] * 4)
    block = packed(xy, colours, SQUARE, "s")
    size = int.from_bytes(block[:4], "little")
    header = json.loads(block[4 : 4 + size])
    assert len(block) == 4 + size + 5 * 1000
    assert size % 4 == 0
    assert header["names"][3] == "<b>⟦U+202E⟧"
    assert np.frombuffer(block, "<u2", 2000, 4 + size).reshape(-1, 2)[7].tolist() == [258, 65535]


def test_the_picture_for_old_browsers_is_darker_where_rows_are_many():
    xy = np.concatenate([np.full((500, 2), 10_000, np.uint16), np.full((5, 2), 50_000, np.uint16)])
    picture = projection.density(xy, 100)
    assert picture[100 - 16, 15] < picture[100 - 77, 76] < 255


def test_the_maps_schema_is_that_of_the_file(mapped):
    run, _ = mapped
    assert pq.read_schema(run.curate / "map.parquet").names == MAP.names
