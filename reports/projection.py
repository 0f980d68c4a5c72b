"""Where each row lies on the map: from `map.parquet` where the run holds one, else the first two principal components.

Principal components are a straight look at the vectors from their widest side: what is far apart here is far apart in
truth, but what lies together here may still be far apart. The page says so, with the share of variance shown.
"""

from __future__ import annotations

import dataclasses

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tamis.reports.ledger_query import ledger_file
from tamis.run import Run

FULL = 65_535  # coordinates are sent as 16-bit integers: finer than any screen
# Points beyond these quantiles are drawn at the edge, so that one outlier does not shrink all others to a dot.
EDGE = 0.001
CHUNK = 65_536  # vectors held as floats at a time


@dataclasses.dataclass(frozen=True)
class Projection:
    """Rows with a place on the map, in order of id.

    Attributes:
        ids: row ids, strings in rising order.
        xy: shape (n, 2), uint16.
        explained: share of the vectors' variance that the two axes show; None where `map.parquet` gave them.
        absent: rows of the ledger that have no vector (they fell before they were embedded).
    """

    ids: pa.Array
    xy: npt.NDArray[np.uint16]
    explained: float | None
    absent: int

    def __len__(self) -> int:
        return len(self.ids)


def has_map(run: Run) -> bool:
    """Whether there is anything to place rows by."""
    return (run.curate / "map.parquet").is_file() or any((run.curate / "vectors").glob("*.parquet"))


def project(run: Run) -> Projection:
    """Place the rows of a run.

    Raises:
        OSError, pyarrow.ArrowException, duckdb.Error: a file is missing or damaged.
    """
    file = run.curate / "map.parquet"
    if file.is_file():
        table = pq.read_table(file, columns=["id", "x", "y"]).sort_by("id")
        ids = table["id"].combine_chunks()
        places = np.column_stack([table[c].to_numpy() for c in ("x", "y")]).astype(np.float64)
        explained = None
    else:
        ids, vectors = _vectors(run)
        places, explained = principal_axes(vectors)
    total = duckdb.execute("select count(*) from read_parquet(?)", [str(ledger_file(run))]).fetchall()[0][0]
    return Projection(ids, _to_16_bit(places), explained, max(0, int(total) - len(ids)))


def _vectors(run: Run) -> tuple[pa.Array, npt.NDArray[np.int8]]:
    parts = [pq.read_table(f, columns=["id", "vector"]) for f in sorted((run.curate / "vectors").glob("*.parquet"))]
    if not parts:
        raise FileNotFoundError(f"{run.curate / 'vectors'} holds no vectors")
    table = pa.concat_tables(parts).sort_by("id")
    column = table["vector"].combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False).astype(np.int8)
    return table["id"].combine_chunks(), values.reshape(len(column), -1) if len(column) else np.zeros((0, 2), np.int8)


def principal_axes(vectors: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.float64], float]:
    """Coordinates on the two widest axes, and the share of variance they show.

    The covariance is summed in chunks, so a million vectors never lie in memory as floats.
    """
    n, width = vectors.shape
    if n < 3 or width < 2:
        return np.zeros((n, 2)), 1.0
    mean = vectors.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((width, width))
    for start in range(0, n, CHUNK):
        part = vectors[start : start + CHUNK].astype(np.float32) - mean.astype(np.float32)
        covariance += part.T @ part
    variance, axes = np.linalg.eigh(covariance)
    axes = axes[:, ::-1][:, :2]
    # an axis has no direction of its own; fixed, so that the same run gives the same map
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    places = np.concatenate(
        [(vectors[s : s + CHUNK].astype(np.float32) - mean.astype(np.float32)) @ axes for s in range(0, n, CHUNK)]
    )
    total = float(variance.sum())
    return places.astype(np.float64), float(variance[-2:].sum() / total) if total > 0 else 1.0


def _to_16_bit(places: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    if not len(places):
        return np.zeros((0, 2), np.uint16)
    low, high = np.quantile(places, [EDGE, 1 - EDGE], axis=0)
    span = np.where(high > low, high - low, 1.0)
    scaled: npt.NDArray[np.uint16] = np.round(np.clip((places - low) / span, 0, 1) * FULL).astype(np.uint16)
    return scaled


def inside(xy: npt.NDArray[np.uint16], polygon: list[list[float]]) -> npt.NDArray[np.int64]:
    """Indices of the points inside a polygon (even-odd rule), ascending. Fewer than three corners hold nothing."""
    corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    if len(corners) < 3:
        return np.zeros(0, np.int64)
    low, high = corners.min(axis=0), corners.max(axis=0)
    near = np.flatnonzero(((xy >= low) & (xy <= high)).all(axis=1))
    x, y = xy[near, 0].astype(np.float64), xy[near, 1].astype(np.float64)
    odd = np.zeros(len(near), bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 != y2:
            odd ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return near[odd]


def density(xy: npt.NDArray[np.uint16], size: int = 700) -> npt.NDArray[np.uint8]:
    """A picture of how many points lie where, darker where more do; shape (size, size), for screens without WebGL2."""
    counts, _, _ = np.histogram2d(xy[:, 1], xy[:, 0], bins=size, range=[[0, FULL], [0, FULL]])
    shade = np.log1p(counts[::-1])
    picture: npt.NDArray[np.uint8] = (255 - 235 * shade / max(shade.max(), 1e-9)).astype(np.uint8)
    return picture
