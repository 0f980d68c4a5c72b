"""The curve of a study as SVG, as the report draws it.

python benchmarks/study/plot.py runs/study-dirty/study/result.json benchmarks/study/dirty.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

from tamis.reports import figures, study_html
from tamis.reports.study_view import study_view
from tamis.schema import read_json


def main() -> None:
    file, out = map(Path, sys.argv[1:])
    svg = study_html.curve(study_view(file.parent.name, read_json(file)))
    if svg is None:
        raise SystemExit("there is nothing to draw")
    # alone, outside of the report's page, a figure needs a ground of its own
    ground = f'<rect width="100%" height="100%" fill="{figures.LIGHT["ground"]}"/>'
    out.write_text(svg.replace(">", f">{ground}", 1), encoding="utf-8")


if __name__ == "__main__":
    main()
