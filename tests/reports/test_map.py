"""The map: places, colours, what lies inside a lasso, and the bytes the browser reads."""

import json
import struct

import numpy as np
import pytest

from tamis.reports import map_colours, projection
from tamis.reports.map_component import packed


@pytest.fixture(scope="module")
def points(finished):
    return projection.project(finished)


def test_every_row_with_a_vector_has_one_place(finished, points):
    assert len(points) == len(points.xy) == 2856
    assert points.absent == 3000 - 2856
    assert 0 < points.explained < 1
    assert points.ids == sorted(points.ids)


def test_the_same_run_gives_the_same_map(finished, points):
    assert (projection.project(finished).xy == points.xy).all()


def test_axes_are_those_of_the_widest_spread():
    rng = np.random.default_rng(0)
    vectors = np.round(rng.normal(0, [60, 25, 2, 2], (4000, 4))).clip(-127, 127).astype(np.int8)
    places, explained = projection.principal_axes(vectors)
    assert abs(np.corrcoef(places[:, 0], vectors[:, 0])[0, 1]) > 0.99
    assert abs(np.corrcoef(places[:, 1], vectors[:, 1])[0, 1]) > 0.99
    assert explained > 0.98


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_rows_for_axes_are_no_crash(n):
    places, _ = projection.principal_axes(np.zeros((n, 8), np.int8))
    assert places.shape == (n, 2)


def test_inside_a_polygon_that_is_not_convex():
    grid = np.array([(x, y) for x in range(0, 100, 10) for y in range(0, 100, 10)], np.uint16)
    horseshoe = [[-5, -5], [95, -5], [95, 95], [65, 95], [65, 25], [25, 25], [25, 95], [-5, 95]]
    found = {tuple(p) for p in grid[projection.inside(grid, horseshoe)].tolist()}
    assert found == {(x, y) for x, y in map(tuple, grid.tolist()) if y < 25 or x < 25 or x > 65}


@pytest.mark.parametrize("polygon", [[], [[1, 1]], [[1, 1], [2, 2]]])
def test_a_line_holds_nothing(points, polygon):
    assert len(projection.inside(points.xy, polygon)) == 0


def test_every_way_of_colouring_gives_every_point_a_class_with_a_name(finished, points):
    for by in map_colours.choices(finished):
        colours = map_colours.colouring(finished, points.ids, by)
        assert len(colours.classes) == len(points)
        assert sum(colours.counts) == len(points)
        assert len(colours.names) == len(colours.colours) <= 32  # the shader's table


def test_many_values_share_the_last_colour():
    colours = map_colours.by_value([f"v{i}" for i in range(500)])
    assert colours.names[-1] == "490 others"
    assert colours.counts[-1] == 490


def test_a_search_finds_texts_whatever_their_case(finished, points):
    colours = map_colours.by_search(finished, points.ids, "A HUMAN please")
    assert 0 < colours.counts[0] < len(points)


def test_a_score_that_is_missing_is_grey_and_not_low():
    colours = map_colours.by_score([None, 0.0, 1.0])
    assert [colours.names[k] for k in colours.classes] == ["no score", colours.names[0], colours.names[6]]


def test_the_packed_bytes_can_be_read_back(finished, points):
    colours = map_colours.colouring(finished, points.ids, "fate")
    data = packed(points, colours)
    (length,) = struct.unpack_from("<I", data)
    header = json.loads(data[4 : 4 + length])
    start = -(-(4 + length) // 4) * 4
    xy = np.frombuffer(data, "<u2", 2 * header["n"], start).reshape(-1, 2)
    assert (xy == points.xy).all()
    assert (np.frombuffer(data, np.uint8, header["n"], start + 4 * header["n"]) == colours.classes).all()
    assert packed(points, colours) == data
    other = packed(points, map_colours.colouring(finished, points.ids, "label"))
    other_header = json.loads(other[4 : 4 + struct.unpack_from("<I", other)[0]])
    assert other_header["places"] == header["places"]  # a new colour keeps the lasso
    assert other_header["hash"] != header["hash"]


def test_a_density_picture_is_darkest_where_most_rows_are():
    xy = np.array([[100, 100]] * 50 + [[60_000, 60_000]], np.uint16)
    picture = projection.density(xy, 10)
    assert picture[9, 0] < picture[0, 9] < picture[5, 5] == 255
