"""Opens pages of the app for the tests of this folder."""

import json

from streamlit.testing.v1 import AppTest

from tamis.reports.launch import APP, ROOT_VARIABLE

PAGES = [
    "overview",
    "compare",
    "examples",
    "slices",
    "curation",
    "review",
    "diff",
    "map",
    "training",
    "monitor",
    "study",
    "choose",
    "runs",
    "method",
]


def opened(monkeypatch, path, page: str = "overview", **query: str) -> AppTest:
    monkeypatch.setenv(ROOT_VARIABLE, str(path))
    app = AppTest.from_file(str(APP), default_timeout=30)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    if page != "overview":  # a test cannot open a page directly, and the first page forgets what only others know
        for name, value in query.items():
            app.query_params[name] = value
        app.switch_page(f"views/{page}.py").run()
    assert not app.exception, app.exception[0].value
    return app


def sections(app: AppTest) -> str:
    """The HTML of every section on the page."""
    return "".join(part.proto.json for part in app.get("bidi_component"))


def html_of(app: AppTest) -> str:
    """The same as it reaches the browser's parser; the map, which is bytes, has none."""
    return "".join(json.loads(part.proto.json)["html"] for part in app.get("bidi_component") if part.proto.json)
