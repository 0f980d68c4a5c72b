"""A run folder as one object that every form of the report is written from: HTML, Markdown, JSON, the app.

Reads; computes no statistics. `load` never raises: what cannot be read becomes a problem with the command that repairs
it, and the rest is shown.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import re
from typing import Any, Literal

from tamis.reports import written_numbers as written
from tamis.reports.choose_view import Choosing, choosing_view
from tamis.reports.curation_view import Funnel, funnel_view
from tamis.reports.examples_view import Examples, examples_view
from tamis.reports.finding import finding
from tamis.reports.folder import Folder, Problem, StageState
from tamis.reports.measures import mapping, text
from tamis.reports.study_view import StudyView, homes, study_view
from tamis.reports.systems_view import PairRow, SystemRow, SystemsView, gain_note, honest_notes, systems_view
from tamis.reports.tries_view import Tries, tries
from tamis.reports.verdict_view import ArmVerdict, VerdictView, verdict_view
from tamis.run import Run, package_version
from tamis.schema import LEDGER

RunState = Literal["empty", "running", "stopped", "partial", "complete"]
EXAMPLES = 50


@dataclasses.dataclass(frozen=True)
class ArmView:
    """One arm: its verdict and the system that is judged."""

    name: str
    verdict: ArmVerdict | None
    candidate: SystemRow | None


@dataclasses.dataclass(frozen=True)
class ReportView:
    """Everything a report says. `None` where the run does not hold that part; `problems` says why."""

    name: str
    path: str
    state: RunState
    made: str
    version: str
    seed: int | None
    model: str | None
    finding: str
    arm: str
    candidate: str
    baseline: str
    verdict: VerdictView | None
    systems: SystemsView | None
    arms: tuple[ArmView, ...]
    funnel: Funnel | None
    examples: Examples | None
    stages: tuple[StageState, ...]
    notes: tuple[str, ...]
    method: tuple[str, ...]
    reproduce: str
    problems: tuple[Problem, ...]
    training: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    studies: tuple[StudyView, ...] = ()
    redacted: bool = False
    tries: tuple[Tries, ...] = ()
    choosing: Choosing | None = None

    @property
    def headline(self) -> str:
        """The first words: the verdict, or what is lacking for one."""
        if self.verdict:
            return self.verdict.word
        return {"empty": "Nothing here yet", "running": "Still running", "stopped": "Stopped half-way"}.get(
            self.state, "No verdict yet"
        )

    @property
    def pair(self) -> PairRow | None:
        """Candidate against baseline on the primary metric."""
        if self.systems is None:
            return None
        return self.systems.pair((self.arm, self.candidate), self.baseline)

    @property
    def candidate_row(self) -> SystemRow | None:
        return self.systems.anywhere(self.arm, self.candidate) if self.systems else None

    @property
    def baseline_row(self) -> SystemRow | None:
        return self.systems.anywhere(self.arm, self.baseline) if self.systems else None

    @property
    def damaged(self) -> list[Problem]:
        """Problems that are more than "not made yet"."""
        return [p for p in self.problems if p.severity != "missing"]


def load(
    run: Run, *, arm: str | None = None, baseline: str | None = None, examples: int | None = EXAMPLES
) -> ReportView:
    """Read a run folder.

    Args:
        run: the folder; it may be empty, half-written, damaged or of another version.
        arm: which arm is reported on; default: the one the verdict names, else the first.
        baseline: the system to compare with; default: the policy's.
        examples: most examples to hold; None for all.
    """
    folder = Folder(run)
    arms = folder.arms()
    stages = _stages(folder, arms)
    state = _state(stages, folder)
    verdict = folder.built(run.verdict, "the verdict", folder.regate, verdict_view)
    arm = arm if arm in arms else verdict.arm if verdict and verdict.arm in arms else (arms[0] if arms else "main")
    candidate = verdict.candidate if verdict else "tuned"
    baseline = baseline or (verdict.baseline.rsplit(":", 1)[-1] if verdict else "base")
    systems = folder.built(
        run.comparison, "the comparison", folder.rerun, lambda raw: systems_view(raw, candidate, baseline)
    )
    funnel = folder.built(run.curate / "funnel.json", "the curation funnel", folder.rerun, funnel_view)
    if funnel and not funnel.adds_up:
        folder.say("the funnel does not add up", "curate/funnel.json", folder.redo(run.curate), "damaged")
    if funnel or (run.curate / "stage.json").is_file():
        folder.check(run.curate / "ledger.parquet", "the ledger", LEDGER.names, part=run.curate)
    shown = _examples(folder, systems, arm, candidate, baseline, examples)
    choosing = _choosing(folder)
    studies = _studies(folder)
    recipe = folder.recipe() if state != "empty" else {}
    tried = tries(folder)
    return ReportView(
        name=text(recipe.get("name")) or run.path.resolve().name,
        path=str(run.path),
        state=state,
        made=_made(stages),
        version=_version(),
        seed=recipe.get("seed") if isinstance(recipe.get("seed"), int) else None,
        model=text(recipe.get("model")),
        finding=finding(systems, funnel, arm, candidate, baseline),
        arm=arm,
        candidate=candidate,
        baseline=baseline,
        verdict=verdict,
        systems=systems,
        arms=_arms(arms, verdict, systems, candidate),
        funnel=funnel,
        examples=shown,
        stages=tuple(stages),
        notes=_notes(systems, arm, candidate, baseline),
        method=_method(systems, verdict, funnel),
        reproduce=folder.reproduce,
        problems=tuple(folder.problems),
        studies=studies,
        choosing=choosing,
        training={a: s.summary for a in arms for s in stages if s.name == f"train {a}" and s.summary},
        tries=tried,
    )


def _studies(folder: Folder) -> tuple[StudyView, ...]:
    views = []
    for home in homes(folder):
        file = folder.run.path / home / "result.json"
        views.append(folder.built(file, f"the {home}", folder.rerun, functools.partial(study_view, home)))
    return tuple(v for v in views if v)


def _choosing(folder: Folder) -> Choosing | None:
    """How the base was chosen; None, and no problem, where none was."""
    file = folder.run.path / "choose" / "result.json"
    if not file.is_file():
        return None
    return folder.built(file, "the choice of a base", folder.rechoose, choosing_view)


def _examples(
    folder: Folder, systems: SystemsView | None, arm: str, candidate: str, baseline: str, limit: int | None
) -> Examples | None:
    ours = systems.anywhere(arm, candidate) if systems else None
    if systems is None or ours is None:
        return None
    theirs = systems.anywhere(arm, baseline)
    return examples_view(folder, (ours.arm, ours.system), (theirs.arm, theirs.system) if theirs else None, limit)


def _stages(folder: Folder, arms: list[str]) -> list[StageState]:
    """All stages of the run, in the order they run."""
    run = folder.run
    stages = [folder.stage("curate", run.curate)]
    for arm in arms:
        stages.append(folder.stage(f"train {arm}", run.train(arm)))
        evaluated = run.path / "arms" / arm / "evaluate"
        names = sorted(p.name for p in evaluated.iterdir() if p.is_dir()) if evaluated.is_dir() else []
        stages += [folder.stage(f"evaluate {arm} / {name}", run.evaluate(arm, name)) for name in names]
    return [s for s in stages if s.state != "not run" or s.name == "curate"]


def _state(stages: list[StageState], folder: Folder) -> RunState:
    states = {s.state for s in stages}
    if "running" in states:
        return "running"
    if states <= {"not run"}:
        return "complete" if folder.run.comparison.is_file() else "empty"
    if "stopped" in states:
        return "stopped"
    return "complete" if folder.run.comparison.is_file() else "partial"  # curated or trained alone, say


def _arms(
    names: list[str], verdict: VerdictView | None, systems: SystemsView | None, candidate: str
) -> tuple[ArmView, ...]:
    judged = {a.arm: a for a in verdict.arms} if verdict else {}
    return tuple(
        ArmView(name, judged.get(name), systems.find(name, candidate) if systems else None)
        for name in names
        if name in judged or (systems and systems.find(name, candidate))
    )


def _notes(systems: SystemsView | None, arm: str, candidate: str, baseline: str) -> tuple[str, ...]:
    if systems is None:
        return ()
    notes = honest_notes(systems, arm, candidate)
    gain = gain_note(systems.pair((arm, candidate), baseline))
    failed = [
        f"{written.count(s.errors)} requests of {systems.label(s.arm, s.system)} failed; "
        f"they count as wrong and as infinitely slow."
        for s in systems.systems
        if s.errors
    ]
    again = [
        f"{written.count(s.retries)} requests of {systems.label(s.arm, s.system)} were sent again before an answer "
        f"came; their times count from the first sending."
        for s in systems.systems
        if s.retries
    ]
    return (*notes, *([gain] if gain else []), *failed, *again)


def _method(systems: SystemsView | None, verdict: VerdictView | None, funnel: Funnel | None) -> tuple[str, ...]:
    """What a reader needs to judge the numbers, each line from the run."""
    lines = []
    if systems:
        items, components = systems.items, systems.components
        clusters = f" in {written.count(components)} near-duplicate components" if components else ""
        lines.append(
            f"Every system answered the same {written.count(items)} items{clusters}; intervals are "
            f"{systems.confidence * 100:g}%, and items of one component do not count as independent."
        )
        if systems.looks > len(systems.systems):
            lines.append(
                f"These items have been looked at {written.count(systems.looks)} times, once by each system evaluated: "
                "whoever keeps the best of many by the same items keeps its luck too."
            )
        lines += [f"{named_how}." for named_how in _intervals_used(systems)]
        if environment := _flat(systems.environment):
            lines.append(f"Measured on: {environment}.")
    if funnel:
        clusters = f", {written.count(funnel.clusters)} clusters" if funnel.clusters else ""
        took = f", {written.duration(funnel.seconds)}" if funnel.seconds is not None else ""
        peak = f", peak memory {written.megabytes(funnel.peak_mb)}" if funnel.peak_mb else ""
        lines.append(f"Curated with the embedder {funnel.embedder or 'unknown'}{clusters}{took}{peak}.")
    if verdict:
        lines.append(
            "Gates: the whole interval must be on the good side of the limit to pass and on the bad side to fail; "
            "otherwise the verdict is not certain. Required gates are not adjusted for their number: all must pass."
        )
    return tuple(lines)


def _intervals_used(systems: SystemsView) -> list[str]:
    """Which method made the intervals of which kind of number, once each."""
    used: dict[str, None] = {}
    for row in systems.systems:
        for id_, m in row.metrics.items():
            if m.known and m.method and m.lower is not None:
                used.setdefault(f"{_family(id_)}: {m.method}, over {m.over}")
    for pair in systems.pairs:
        if pair.delta.known and pair.delta.method:
            used.setdefault(f"paired differences: {pair.delta.method}, over {pair.delta.over}")
    return list(used)[:8]


def _family(metric: str) -> str:
    return (
        re.sub(r"\..*", "", metric) if metric.startswith(("latency.", "load.", "cost.")) else metric.replace("_", " ")
    )


def _flat(environment: dict[str, Any]) -> str:
    """Machine, engine, device and versions on one line."""
    parts = [
        str(v)
        for k in ("hardware", "machine", "system", "engine", "device")
        if (v := environment.get(k)) and not isinstance(v, dict)
    ]
    versions = [f"{name} {version}" for name, version in mapping(environment.get("versions")).items() if version]
    return ", ".join([*dict.fromkeys(parts), *versions])


def _made(stages: list[StageState]) -> str:
    """When the newest complete stage finished, UTC; else now."""
    stamps = [s.summary["finished"] for s in stages if isinstance(s.summary.get("finished"), str)]
    stamp = max(stamps, default=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    return stamp.replace("T", " ").replace("Z", " UTC")[:40]


def _version() -> str:
    return package_version("tamis") or "unknown"
