"""The map as a component of the app: points in WebGL2, a lasso, a legend. The script is `map_canvas.js`, no library.

What goes to the browser is one block of bytes: the length of a JSON header (uint32, little endian), the header, then
x and y of every point (uint16) and its class (uint8). A million points are 5 MB; texts and ids stay here.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import streamlit as st

from tamis.reports.map_colours import Colouring
from tamis.reports.visible_text import line as one_line

_component = st.components.v2.component(
    "tamis_map",
    html='<div class="place"></div>',
    js=(Path(__file__).parent / "map_canvas.js").read_text(encoding="utf-8"),
)


@dataclasses.dataclass(frozen=True)
class Picked:
    """What a reader has done on the map.

    Attributes:
        polygon: corners of the lasso in the points' coordinates, 0 to 65535; None where the reader has drawn none here.
        point: index of the point that was clicked.
        no_webgl2: the browser cannot draw the map; a picture is wanted.
    """

    polygon: list[list[float]] | None
    point: int | None
    no_webgl2: bool


def packed(xy: npt.NDArray[np.uint16], colours: Colouring, polygon: list[list[float]], stamp: str) -> bytes:
    """The block of bytes described above; 4 bytes + header + 5 n bytes.

    Another `stamp` tells the browser to redraw; where its part before the first dash differs, the rows are others too.
    """
    header = {
        "n": len(xy),
        "names": [one_line(n, 40) for n in colours.names],
        "colours": colours.colours,
        "counts": colours.counts,
        "polygon": polygon,
        "stamp": stamp,
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)  # so that the arrays begin where the browser can read them in place
    block = np.uint32(len(text)).tobytes() + text
    return block + np.ascontiguousarray(xy, "<u2").tobytes() + colours.classes.tobytes()


def canvas(block: bytes, key: str = "map") -> Picked:
    """Show the map; returns what has been picked on it so far."""
    result: Any = _component(
        key=key,
        data=block,
        on_polygon_change=lambda: None,
        on_point_change=lambda: None,
        on_no_webgl2_change=lambda: None,
    )
    polygon = getattr(result, "polygon", None)
    point = getattr(result, "point", None)
    return Picked(
        polygon if isinstance(polygon, list) else None,
        int(point) if isinstance(point, int | float) else None,
        bool(getattr(result, "no_webgl2", False)),
    )
