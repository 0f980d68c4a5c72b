"""The map in the page: points packed into bytes, a lasso's polygon back."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import streamlit as st

from tamis.reports.map_colours import Colouring
from tamis.reports.projection import Projection
from tamis.reports.visible_text import line as one_line

_component = st.components.v2.component(
    "tamis_map",
    html='<div class="tamis-map"></div>',
    js=(Path(__file__).parent / "map.js").read_text(encoding="utf-8"),
)


@dataclasses.dataclass(frozen=True)
class Picked:
    """What the reader did: the lasso's corners (empty where there is none), a row clicked on, and what is lacking.

    `without` is true where the browser has no WebGL2.
    """

    polygon: list[list[float]]
    row: int | None
    without: bool


def packed(projection: Projection, colours: Colouring) -> bytes:
    """The points as bytes: uint32 header length, header, padding to 4, uint16 x,y pairs, uint8 classes."""
    xy, kinds = projection.xy.astype("<u2").tobytes(), colours.classes.tobytes()
    places = hashlib.blake2b(xy, digest_size=8).hexdigest()
    header = {
        "n": len(projection),
        "names": [one_line(n, 40) for n in colours.names],
        "colours": colours.colours,
        "counts": colours.counts,
        "places": places,
    }
    header["hash"] = hashlib.blake2b(json.dumps(header).encode() + kinds, digest_size=8).hexdigest()
    text = json.dumps(header).encode()
    return struct.pack("<I", len(text)) + text + b"\0" * (-(4 + len(text)) % 4) + xy + kinds


def row_map(projection: Projection, colours: Colouring, key: str = "map") -> Picked:
    """Draw the map and read what was picked."""
    result = _component(
        key=key,
        data=packed(projection, colours),
        on_polygon_change=lambda: None,
        on_row_change=lambda: None,
        on_without_change=lambda: None,
    )
    row = _get(result, "row")
    return Picked(_get(result, "polygon") or [], int(row) if row is not None else None, bool(_get(result, "without")))


def _get(result: Any, name: str) -> Any:
    return getattr(result, name, None)
