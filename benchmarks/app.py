"""The app over a million ledger rows, in a real browser, timed inside of it; plotly draws the same points beside it.

    python benchmarks/app.py                       (Debian's chromium and chromedriver must be installed: make browser)
    python benchmarks/app.py --plotly VENV/bin/python      (an environment of its own: pip install plotly numpy)
    python benchmarks/app.py --run FOLDER                  (a run folder that was made before, by make_run.py say)
    python benchmarks/app.py --parts first switch          (some of: first switch rows plotly)

The run is the one that the tests of the pages use (`tests/reports/make_run.py`), with a million rows. A time is from
the click, or from the address, to the frame in which the thing that was asked for stands on the screen.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq

from tamis.reports.launch import command, environment, stop
from tamis.reports.page_html import write_html
from tamis.reports.projection import project
from tamis.run import Run

ROWS = 1_000_000
TIMES = 5
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--window-size=1400,1000",
)  # fmt: skip
# What stands on a page once it is there; looked for in shadow roots too.
THERE = {
    "": "Release report",
    "compare": "What changed per item",
    "examples": "Nearest training rows",
    "curation": "By",
    "review": "In a spreadsheet",
    "map": "[data-drawn]",
    "training": "What was trained",
    "method": "The four verdicts",
}
HELPERS = """
window.deep = (root, test) => {
  for (const e of root.querySelectorAll('*')) {
    if (test(e)) return e;
    if (e.shadowRoot) { const f = deep(e.shadowRoot, test); if (f) return f; }
  }
};
window.says = (what) => (e) => [...e.childNodes].some(n => n.nodeType === 3 && n.data.includes(what));
window.there = (what) => what.startsWith('[') ? deep(document, e => e.matches(what)) : deep(document, says(what));
window.idle = () => document.querySelector('[data-testid=stApp][data-test-script-state=notRunning]');
"""
# The first row of the table, how many pass, and the page as the table says it; null while it is replaced.
SHOWN = """
window.shown = () => {
  const row = deep(document, e => e.matches('b[data-key]'));
  const total = document.body.innerText.match(/([\\d,]+) rows; click one/)?.[1];
  return row && total ? [row.dataset.key, total, row.closest('table').caption.textContent] : null;
};
window.changed = (...which) => { const now = shown(); return now && which.every(i => now[i] != window.before[i]); };
"""
# Polls once a frame, so that a time has the browser's own grain and not that of the wire.
POLL = """
const [act, seen, done] = arguments;
const start = performance.now();
const until = new Function('return ' + seen);
if (act) new Function(act)();
const look = () => {
  if (until()) requestAnimationFrame(() => done((performance.now() - start) / 1000)); else requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


def builder() -> ModuleType:
    """The tests' builder of run folders."""
    file = Path(__file__).parents[1] / "tests" / "reports" / "make_run.py"
    spec = importlib.util.spec_from_file_location("make_run", file)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["make_run"] = found
    spec.loader.exec_module(found)
    return found


def browser(folder: Path) -> Any:
    """A browser with nothing in its cache."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    options.page_load_strategy = "none"  # else the clock starts when all is loaded
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(60)
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": HELPERS})
    return driver


def opened(driver: Any, address: str, what: str) -> float:
    """Seconds from asking for an address to seeing something on its page."""
    driver.get("about:blank")
    start = time.monotonic()
    driver.get(address)
    while not driver.execute_script("return window.there && document.body && !!there(arguments[0])", what):
        time.sleep(0.01)
        if time.monotonic() - start > 120:
            raise TimeoutError(f"{address}: {what!r} never came")
    return time.monotonic() - start


def acted(driver: Any, act: str, seen: str) -> float:
    """Seconds from an act in the page to the frame that shows what it leads to."""
    driver.execute_async_script(POLL, "", "!!idle()")
    time.sleep(0.3)
    return float(driver.execute_async_script(POLL, act, seen))


def switched(driver: Any, page: str) -> float:
    """Seconds from a click in the sidebar to the other page."""
    other = "/method" if page != "method" else "/runs"
    acted(driver, f"document.querySelector('[data-testid=stSidebarNav] a[href$=\"{other}\"]').click()", "!!idle()")
    end = f"/{page}" if page else "/"
    click = f"[...document.querySelectorAll('[data-testid=stSidebarNav] a')].find(a => a.pathname == '{end}').click()"
    return acted(driver, click, f"location.pathname == '{end}' && !!there('{THERE[page]}')")


def first_switch(driver: Any, address: str) -> float:
    """Seconds from a click in the sidebar to the map, in a tab that has not drawn it yet."""
    opened(driver, f"{address}/method", THERE["method"])
    click = "[...document.querySelectorAll('[data-testid=stSidebarNav] a')].find(a => a.pathname == '/map').click()"
    return acted(driver, click, f"location.pathname == '/map' && !!there('{THERE['map']}')")


def report(name: str, seconds: list[float], limit: float | None) -> None:
    """One line of the table."""
    asked = f"{limit:.1f} s" if limit else "–"
    verdict = "" if limit is None else "holds" if max(seconds) < limit else "MISSED"
    print(f"| {name} | {asked} | {statistics.median(seconds):.2f} s | {max(seconds):.2f} s | {verdict} |", flush=True)


def first_pages(address: str, folder: Path) -> None:
    """The pages that one comes in by."""
    cold = browser(folder / "cold")
    first = [opened(cold, address + "/", THERE[""])]
    cold.quit()
    driver = warmed(address, folder)
    report("first page, browser's cache empty", first, None)
    report("first page", [opened(driver, address + "/", THERE[""]) for _ in range(TIMES)], 2.0)
    report("map drawn, from its address", [opened(driver, address + "/map", THERE["map"]) for _ in range(TIMES)], 2.0)
    driver.quit()


def warmed(address: str, folder: Path) -> Any:
    """A browser that has seen every page of a server that has been asked for every page."""
    driver = browser(folder / "warm")
    for page, what in THERE.items():
        opened(driver, f"{address}/{page}", what)
    return driver


def switches(address: str, folder: Path) -> None:
    """From one page to another by the sidebar."""
    driver = warmed(address, folder)
    opened(driver, address + "/", THERE[""])
    report("switch to map, the first since the app was opened", [first_switch(driver, address) for _ in range(3)], 1.0)
    for page in THERE:
        report(f"switch to {page or 'overview'}", [switched(driver, page) for _ in range(TIMES)], 1.0)
    driver.quit()


def rows(address: str, folder: Path) -> None:
    """A filter of the million rows, and their next page."""
    driver = warmed(address, folder)
    opened(driver, address + "/curation", "rows; click one")
    driver.execute_script(SHOWN)
    near = "document.querySelector('input[aria-label^=\"Closest to a limit\"]').click()"

    def after(act: str, seen: str) -> float:
        driver.execute_async_script(POLL, "", "!!idle()")
        driver.execute_script("window.before = shown()")
        return acted(driver, act, seen)

    report(
        "filter: what passes is counted, its rows stand there",
        [after(near, "changed(0, 1)") for _ in range(2 * TIMES)],
        0.2,
    )
    for order in ("", ", closest to a limit first"):
        if order:
            after(near, "changed(0, 1)")
        times = []
        for number in range(2, 2 + TIMES):
            pages = "[...document.querySelectorAll('[data-testid=stPaginationPage]')]"
            times.append(after(f"{pages}.find(b => b.innerText == '{number}').click()", "changed(0, 2)"))
        report(f"next page of rows{order}", times, 0.2)
    driver.quit()


PARTS = {"first": first_pages, "switch": switches, "rows": rows}


def plotly(python: str, run: Run, folder: Path, every: int) -> None:
    """Every so many of the same points as plotly's scattergl, in a page of its own without any server."""
    import numpy as np
    from selenium.common.exceptions import WebDriverException

    shown = project(run)
    np.save(folder / "xy.npy", shown.xy[::every])
    code = (
        "import sys, numpy as np, plotly, plotly.graph_objects as go; xy = np.load(sys.argv[1]);"
        "f = go.Figure(go.Scattergl(x=xy[:, 0].astype('f4'), y=xy[:, 1].astype('f4'), mode='markers', "
        "marker={'size': 2, 'color': np.arange(len(xy)) % 9}));"
        # what is given as post_script runs once the promise of the drawing is kept
        "f.write_html(sys.argv[2], include_plotlyjs=True, "
        "post_script=\"document.body.setAttribute('data-drawn', '')\");"
        "print(plotly.__version__)"
    )
    page = folder / "plotly.html"
    made = subprocess.run([python, "-c", code, folder / "xy.npy", page], capture_output=True, text=True, check=True)
    driver = browser(folder / "plotly")
    size = page.stat().st_size / 1e6
    name = f"plotly {made.stdout.strip()}: {len(shown.xy[::every]):,} points from a file of {size:.0f} MB"
    try:
        report(name, [opened(driver, f"file://{page}", "[data-drawn]") for _ in range(3)], None)
    except (TimeoutError, WebDriverException) as error:
        print(f"| {name} | – | not drawn: {str(error).splitlines()[0][:80]} | | |")
    driver.quit()


def main() -> None:
    """Build the run, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--run", type=Path, help="a run folder; default: one is made")
    parser.add_argument("--plotly", help="a python that has plotly")
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, "plotly"], default=[*PARTS, "plotly"])
    asked = parser.parse_args()
    os.environ["SE_OFFLINE"] = "true"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        make_run = builder()
        sizes = make_run.Sizes(read=asked.rows, kept=5_000, items=448, requests=80)
        run = Run(asked.run) if asked.run else make_run.make_run(folder / "run", sizes)
        rows = pq.read_metadata(run.curate / "ledger.parquet").num_rows
        size = write_html(run, folder / "report.html").stat().st_size
        print(f"HTML report with {rows:,} ledger rows behind it: {size / 1000:.0f} kB\n")
        print("| what | asked | median | slowest | |\n|---|---|---|---|---|")
        for part in (PARTS[name] for name in asked.parts if name in PARTS):
            with subprocess.Popen(
                command(0), env=environment(run), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as server:
                assert server.stdout is not None
                port = next(m[1] for line in server.stdout if (m := re.search(r"http://[\w.]+:(\d+)", line)))
                try:
                    part(f"http://127.0.0.1:{port}", folder / part.__name__)
                finally:
                    stop(server)
        if asked.plotly and "plotly" in asked.parts:
            for every in (10, 1):
                plotly(asked.plotly, run, folder, every)


if __name__ == "__main__":
    main()
