"""What every page of the app starts from: which run, which arm, which baseline. All three live in the URL."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path

import streamlit as st

from tamis.reports import html_parts
from tamis.reports import written_numbers as written
from tamis.reports.examples_view import Examples
from tamis.reports.folder import Folder, Problem
from tamis.reports.launch import ROOT_VARIABLE
from tamis.reports.section import section
from tamis.reports.tries_view import TITLES
from tamis.reports.view import ReportView, load
from tamis.reports.visible_text import in_streamlit
from tamis.reports.visible_text import line as one_line
from tamis.run import Run
from tamis.schema import LEDGER

WANTED = "run_wanted"  # what the page of all runs leaves here is chosen when the sidebar is drawn next
# A folder is a run if it holds one of these: only Tamis writes them, and a damaged or half-copied run has one left. A
# recipe alone is the user's own, and a folder named `curate` may be anything.
MARKS = (
    "verdict.json",
    "curate/ledger.parquet",
    "curate/funnel.json",
    "curate/progress.json",
    "arms/*/*/*.json*",
    "arms/*/evaluate/*/*.json*",
)
STATES = {
    "complete": "✓ complete",
    "running": "… running",
    "stopped": "! stopped",
    "partial": "… not evaluated",
    "empty": "empty",
}


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What the sidebar says: the run and its view."""

    run: Run
    view: ReportView


def root() -> Path:
    """The folder that the app shows: one run, or a folder of runs."""
    return Path(os.environ.get(ROOT_VARIABLE, "runs"))


def is_run(path: Path) -> bool:
    """Whether a folder looks like a run."""
    return path.is_dir() and (Run(path).begun() or any(any(path.glob(mark)) for mark in MARKS))


def quoted(path: Path) -> str:
    """A path as it is typed in a shell."""
    return shlex.quote(str(path))


def found_runs(folder: Path) -> list[Path]:
    """The runs to choose from, the newest first. A run folder shows itself only."""
    if is_run(folder):
        return [folder]
    try:
        runs = [p for p in folder.iterdir() if is_run(p)]
    except OSError:
        return []
    return sorted(runs, key=lambda p: (-_changed(p), p.name))


def _changed(path: Path) -> float:
    return max((p.stat().st_mtime for p in (path, path / "verdict.json") if p.exists()), default=0.0)


def sidebar() -> None:
    """Draw the choices. Called by app.py, outside of the pages, so that they stay when the page changes."""
    runs = found_runs(root())
    st.session_state["runs"] = runs
    if (wanted := st.session_state.pop(WANTED, None)) is not None:
        st.session_state["run"] = wanted  # a widget can only be set before it is drawn
    if not runs:
        st.session_state["chosen"] = None
        return
    with st.sidebar:
        name = st.selectbox("Run", [p.name for p in runs], key="run", bind="query-params", format_func=one_line)
        path = next((p for p in runs if p.name == name), runs[0])
        run = Run(path)
        first = current(run, None, None)
        arm = None
        if len(arms := [a.name for a in first.arms] or run.arms()) > 1:
            arms.sort(key=lambda a: a != first.arm)
            arm = st.selectbox("Arm", arms, key="arm", bind="query-params", format_func=one_line)
        baseline = None
        others = _baselines(first)
        if len(others) > 1:
            baseline = st.selectbox("Baseline", others, key="baseline", bind="query-params", format_func=one_line)
        view = current(run, arm, baseline)
        st.caption(f"{STATES[view.state]} · {in_streamlit(view.made)}")
    st.session_state["chosen"] = Chosen(run, view)


def _baselines(view: ReportView) -> list[str]:
    """Systems to compare with; the policy's own first."""
    names = dict.fromkeys(s.system for s in view.systems.systems if s.system != view.candidate) if view.systems else {}
    return sorted(names, key=lambda n: n != view.baseline)


def current(run: Run, arm: str | None, baseline: str | None) -> ReportView:
    """The view of a run as it is now; read again only when one of its files has changed."""
    return _loaded(str(run.path), arm, baseline, signature(run))


@st.cache_resource(max_entries=32, show_spinner="Reading the run")
def _loaded(path: str, arm: str | None, baseline: str | None, at: tuple[float, ...]) -> ReportView:
    return load(Run(Path(path)), arm=arm, baseline=baseline)


def all_examples(found: Chosen) -> Examples | None:
    """Every evaluation item, for the pages that filter and count them."""
    view = found.view
    return _all_examples(str(found.run.path), view.arm, view.baseline, signature(found.run))


@st.cache_resource(max_entries=8, show_spinner="Reading the answers")
def _all_examples(path: str, arm: str, baseline: str, at: tuple[float, ...]) -> Examples | None:
    return load(Run(Path(path)), arm=arm, baseline=baseline, examples=None).examples


def signature(run: Run) -> tuple[float, ...]:
    """When the files that a view is made of were last written."""
    files = [run.recipe_file, run.comparison, run.verdict, run.curate / "funnel.json", run.curate / "ledger.parquet"]
    files += [run.path / kind / "result.json" for kind in TITLES]
    files.append(run.path / "choose" / "result.json")
    files += sorted(run.path.glob("**/stage.json")) + sorted(run.path.glob("**/progress.json"))
    files += [run.path / home / "result.json" for home in ("study", "proxy")]
    files += [*sorted(run.path.glob("arms/*/evaluate/*/samples.parquet")), run.curate / "eval.parquet"]
    return tuple(f.stat().st_mtime for f in files if f.exists())


def chosen() -> Chosen:
    """The run that the pages show; where there is none, the page says so and ends."""
    found = st.session_state.get("chosen")
    if found is None:
        _no_run()
        st.stop()
    return found  # type: ignore[no-any-return]


def titled(title: str) -> Chosen:
    """The run that a page shows, its title, and what could not be read: a page that looks whole may lack a part."""
    found = chosen()
    st.title(title)
    if found.view.damaged:
        section(html_parts.problem_list(found.view.damaged), "damaged")
    return found


def _no_run() -> None:
    st.title("No run here yet")
    st.write("Looked in:")
    st.code(str(root().resolve()), language=None)
    st.write("These make one, the first offline and within minutes:")
    st.code("tamis demo\ntamis init --task classify\ntamis run recipe.yaml", language="bash")
    st.write("To show another folder:")
    st.code("tamis report RUN --serve", language="bash")


@st.fragment(run_every="1s")
def progress() -> None:
    """How far a running job is, refreshed each second; the page is drawn anew when a stage ends."""
    found = st.session_state.get("chosen")
    if found is None:
        return
    view = load(found.run, examples=0)
    for stage in view.stages:
        if stage.state == "running":
            share = min(1.0, stage.done / stage.total) if stage.done is not None and stage.total else 0.0
            left = f", {written.duration(stage.eta_s)} left" if stage.eta_s is not None else ""
            far = f"{written.count(stage.done)} of {written.count(stage.total)} {stage.unit}"
            st.progress(share, text=in_streamlit(f"{stage.name}: {far}{left}"))
    before = st.session_state.get("stages_seen")
    now = [(s.name, s.state) for s in view.stages]
    st.session_state["stages_seen"] = now
    if before is not None and before != now:
        st.rerun()


def turn_back(key: str) -> None:
    """Show the first page again, where `key` is that of the pagination."""
    st.session_state[key] = 1


def newly_clicked(choice: object, key: str) -> int | None:
    """The row of a table that was clicked in this very rerun. A selection stays; what is chosen since must win."""
    rows = choice["selection"]["rows"]  # type: ignore[index]
    row = rows[0] if rows else None
    before, st.session_state[f"clicked-{key}"] = st.session_state.get(f"clicked-{key}"), row
    return row if row != before else None


def has_ledger(run: Run) -> bool:
    """Whether there are rows to ask for; where not, the view's problems say why."""
    return Folder(run).check(run.curate / "ledger.parquet", "the ledger", LEDGER.names)


def nothing(what: str, view: ReportView) -> None:
    """Say what a page lacks and which command makes it."""
    st.info(what)
    if view.state == "running":
        progress()
    if not view.damaged and view.problems:  # what is damaged is said under the title
        section(html_parts.problem_list(view.problems), "what-is-missing")


def damaged(part: Path, what: str, view: ReportView, key: str = "") -> None:
    """Say that a part of the run cannot be read, and the command that makes it anew.

    Args:
        part: the folder to throw away.
        what: what lies in it, as it is called in the sentence.
        view: the run.
        key: tells apart several such sentences on one page.
    """
    damaged_in(Run(Path(view.path)), part, what, key)


def damaged_in(run: Run, part: Path, what: str, key: str = "") -> None:
    """The same of a part of any run."""
    folder = Folder(run)
    missing = not part.exists() or not any(part.iterdir())
    word = "not made yet" if missing else "cannot be read"
    repair = folder.rerun if missing else folder.redo(part)
    problem = Problem(f"{what} {word}", folder.relative(part), repair, "missing" if missing else "damaged")
    section(html_parts.problem_list([problem]), f"damaged-{what}-{key}")
