"""The command line: arguments in, data on stdout, progress on stderr, an exit code out.

Exit codes: 0 done or PASS, 1 FAIL, 2 wrong usage, 3 INCONCLUSIVE, 4 INVALID, 5 the run failed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import textwrap
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from tamis import schema
from tamis.errors import ExitCode, TamisError, UserError, of_disk
from tamis.recipe import Recipe
from tamis.reports.visible_text import visible
from tamis.run import Run

if TYPE_CHECKING:
    from tamis import loop

# Nothing Tamis starts may call home; a user who wants it sets these first.
for name, value in {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DAFT_ANALYTICS_ENABLED": "0",
    "DO_NOT_TRACK": "true",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(name, value)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Shrink an instruction data set to the rows that matter, and say with numbers whether that is enough.",
)

What = Annotated[str, typer.Argument(help="A recipe (.yaml), or a run folder to go on with.", metavar="RECIPE")]
RunFolder = Annotated[Path | None, typer.Option("--run", help="The run folder; default runs/NAME.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option(help="No progress.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Rows, tokens, minutes, memory and money; nothing is done.")]


def main() -> None:
    """Entry point: turns Tamis's errors into a message and an exit code, without a traceback for a user's mistake."""
    try:
        app(standalone_mode=True)
    except TamisError as error:
        _fail(error)
    except KeyboardInterrupt:
        print(f"\nstopped; what is done is kept. To go on: {' '.join(['tamis', *sys.argv[1:]])}", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if isinstance(error, OSError) and (told := of_disk(error)):
            _fail(told)
        traceback.print_exc()
        print("failed: this is a defect of Tamis; what is done is kept", file=sys.stderr)
        sys.exit(int(ExitCode.STAGE_FAILED))


def _fail(error: TamisError) -> NoReturn:
    print(f"{'error' if isinstance(error, UserError) else 'failed'}: {visible(error, None)}", file=sys.stderr)
    sys.exit(int(error.exit_code))


def _say(lines: list[str]) -> None:
    # what data, models and names hold must not act on a terminal
    print(visible("\n".join(lines), None))


def _counts(values: dict[str, int], most: int = 8) -> str:
    shown = ", ".join(f"{k} {n:,}" for k, n in list(values.items())[:most])
    return shown + (f" and {len(values) - most} more" if len(values) > most else "") or "none"


@app.command("inspect")
def inspect_data(
    data: Annotated[list[str], typer.Argument(help="Files, folders or globs.")], as_json: AsJson = False
) -> None:
    """What is in the data and what is wrong with it. Base install, no torch."""
    from tamis.curate.look import look
    from tamis.tables import Source

    found = look(Source(list(data)))
    if as_json:
        print(json.dumps(dataclasses.asdict(found), ensure_ascii=False))
        return
    bad = sum(found.quarantined.values())
    lines = [
        f"{found.rows:,} rows, shapes: {_counts(found.formats)}",
        f"languages    {_counts(found.languages)}",
        f"labels       {len(found.labels):,}: {_counts(found.labels, 5)}" if found.labels else "labels       none",
        f"tokens       median {found.tokens['median']:,}, 99th percentile {found.tokens['p99']:,}, "
        f"longest {found.tokens['max']:,} (estimated)",
        f"copies       {found.exact_copies:,} exact, about {found.near_copies:,} near",
        f"conflicts    {found.conflicts:,} prompts with more than one answer",
        f"problems     {_counts(found.problems)}",
        f"unreadable   {bad:,}" + (f": {_counts(found.quarantined)}" if bad else ""),
        *[f"             {place}" for place in found.first_bad],
        f"next: tamis curate {data[0]} --rows {max(1, found.rows // 10)} -o small.jsonl",
    ]
    _say(lines)


@app.command()
def curate(
    what: Annotated[str, typer.Argument(help="A recipe (.yaml), or a data file.")],
    rows: Annotated[str | None, typer.Option(help="How much to keep: 1000, '200k tokens', '10%'.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the kept rows: .jsonl or .parquet.")
    ] = None,
    run: RunFolder = None,
    embedder: Annotated[str | None, typer.Option(help="lsa, auto or a sentence-transformers model.")] = None,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Shrink a data set; every row's fate is in the ledger."""
    from tamis import loop
    from tamis.curate.pipeline import curate as work
    from tamis.curate.pipeline import training_source
    from tamis.writing import write_rows

    overrides = {k: v for k, v in {"curate.select.size": rows, "embedder": embedder}.items() if v is not None}
    direct = not what.endswith((".yaml", ".yml"))
    if not direct:
        recipe = Recipe.load(what, overrides)
    else:
        raw: dict[str, Any] = {"name": Path(what).name.split(".")[0] or "data", "data": {"path": what}}
        if rows is not None:
            raw["curate"] = {"select": {"size": rows}}
        if embedder is not None:
            raw["embedder"] = embedder
        recipe = Recipe.check(raw, where="command line")
    if dry_run:
        told = loop.forecast_scoring(recipe)
        _answer(told, _scoring(told), as_json)
        _refused(told)
        return
    folder = Run(run or Path("runs") / recipe.name)
    if direct and run is None and any((folder.path / "arms").glob("*/train")):
        raise UserError(
            "this folder holds a model that was trained and judged on other rows",
            where=str(folder.path),
            hint=f"--run {folder.path}-curated keeps both; --run {folder.path} replaces the curation",
        )
    recipe = _reviewed(recipe, folder)
    with folder.lock():
        with loop.written_down(folder, recipe):
            found = work(folder, recipe, quiet=quiet)
        if output is not None:
            import pyarrow.compute as pc
            import pyarrow.parquet as pq

            ledger = pq.read_table(folder.curate / "ledger.parquet", columns=["id", "verdict"])
            ids = ledger.filter(pc.equal(ledger["verdict"], "kept"))["id"].to_pylist()
            write_rows(folder.curate / "records", ids, training_source(recipe), output)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    drops = [f"  {stage:<14}{_counts(reasons)}" for stage, reasons in found["dropped"].items() if reasons]
    lines = [
        f"kept {found['kept']:,} of {found['read']:,} rows"
        + (" (nothing changed, nothing done)" if found["skipped"] else ""),
        *drops,
        f"  suspected wrong labels among the survivors: {found['suspect_labels']:,}" if found["suspect_labels"] else "",
        f"ledger  {folder.curate / 'ledger.parquet'}",
        f"rows    {output}" if output else "",
        f"next: tamis why {folder.path} ROW-ID",
    ]
    _say([line for line in lines if line])


@app.command()
def why(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    row: Annotated[str, typer.Argument(help="A row's id, the key you gave it, or FILE:LINE.")],
    as_json: AsJson = False,
) -> None:
    """The fate of one row: kept or dropped, by what, for which other row."""
    from tamis.curate.why import fate, sentence

    found = fate(Run(run).curate / "ledger.parquet", row)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        _say([sentence(found)])


@app.command("why-not")
def why_not(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    row: Annotated[str, typer.Argument(help="A row's id, the key you gave it, or FILE:LINE.")],
    check: Annotated[
        bool, typer.Option("--check", help="Curate again with the changes and see; takes as long.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What would have kept a row: the threshold, the size, the rule or the other row that decided, with its value."""
    from tamis.curate import why_not as counterfactual

    found = (counterfactual.settle if check else counterfactual.why_not)(Run(run), row)
    _answer(dataclasses.asdict(found), counterfactual.sentences(found), as_json)


@app.command()
def diff(
    run_a: Annotated[Path, typer.Argument(help="A run folder.")],
    run_b: Annotated[Path, typer.Argument(help="Another.")],
    as_json: AsJson = False,
) -> None:
    """Rows that one run keeps and the other does not, by reason; rows are matched by id."""
    from tamis.diff import diff as compare

    found = compare(Run(run_a).curate / "ledger.parquet", Run(run_b).curate / "ledger.parquet", None if as_json else 5)
    lines = [
        f"A {run_a}: {found.rows['a']:,} rows, B {run_b}: {found.rows['b']:,} rows",
        *[f"  {fate:<32}{count:,}" for fate, count in found.fates.items()],
        f"only A keeps, B: {_counts(found.only_a)}",
        f"only B keeps, A: {_counts(found.only_b)}",
        f"dropped by both for another reason: {found.moved:,}",
        *[f"  {e['kept_in'].upper()} keeps {e['id']} ({e['file']}:{e['line']}), {e['reason']}" for e in found.examples],
    ]
    _answer(dataclasses.asdict(found), lines, as_json)


@app.command()
def grow(
    run: Annotated[Path, typer.Argument(help="The run folder; it stays as it is.")],
    data: Annotated[list[str], typer.Argument(help="New rows: files, folders or globs.")],
    into: Annotated[Path | None, typer.Option("--run", help="The folder of the grown run; default RUN-grown.")] = None,
    rows: Annotated[
        str | None, typer.Option(help="New rows to keep: 1000, '200k tokens', '10%'; default the run's own share.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write all kept rows: .jsonl or .parquet.")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Add new rows to a curated run: of those it has not seen, the ones that add most; what is decided stays."""
    from tamis import growth

    Run(run).require()  # before the lock, which makes the grown folder
    folder = Run(into or run.with_name(f"{run.resolve().name}-grown"))
    with folder.lock():
        found = growth.grow(Run(run), folder, data, rows, output, quiet=quiet)
    _answer(found, growth.grown_lines(found, run, folder.path, output), as_json)


@app.command()
def monitor(
    run: Annotated[Path, typer.Argument(help="The run that was released.")],
    url: Annotated[str, typer.Option("--endpoint", help="The live endpoint, up to /v1.")],
    model: Annotated[str | None, typer.Option(help="The model to ask for; default the one it serves.")] = None,
    log: Annotated[Path | None, typer.Option(help="Recent prompts, JSONL: has what is asked changed?")] = None,
    metrics: Annotated[str | None, typer.Option(help="The server's Prometheus page (vLLM's names).")] = None,
    policy: Annotated[Path | None, typer.Option(help="A policy; default the one that the run passed.")] = None,
    arm: Annotated[str | None, typer.Option(help="The released arm; default that of the verdict.")] = None,
    system: Annotated[str | None, typer.Option(help="The released system; default that of the verdict.")] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the endpoint's key.")] = None,
    external: Annotated[bool, typer.Option("--external", help="The items may leave this machine.")] = False,
    margin: Annotated[
        float, typer.Option(min=1e-6, max=1, help="Loss against the release that is tolerated: 0.05 is 5 points.")
    ] = 0.05,
    slower: Annotated[float, typer.Option(min=1, help="Times the first check's median time that is tolerated.")] = 2.0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Is the model in production still the one that passed the gate? The exit code is the verdict, as the gate's."""
    from tamis import monitor as work
    from tamis.evaluate.canary import Limits

    limits = Limits(margin, slower)
    wanted = work.Wanted(url, model, log, metrics, policy, arm, system, key_env, external, limits)
    folder = Run(run)
    folder.require()  # before the lock, which makes any folder a run
    with folder.lock():
        found = work.monitor(folder, wanted, quiet=quiet)
    _answer(found, work.lines(found, folder), as_json)
    raise typer.Exit(int(found["exit_code"]))


@app.command()
def sql(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    query: Annotated[str, typer.Argument(help="One SELECT; `show tables` lists what there is.")],
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated, with a header.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask the run's tables with DuckDB: ledger, samples, "order" (or orders), eval, records. Nothing is written."""
    from csv import writer

    from tamis.sql import ask

    found = ask(Run(run), query)
    if as_json:
        _answer({"columns": found.columns, "rows": found.records()}, [], as_json)
    elif csv:
        out = writer(sys.stdout, lineterminator="\n")
        out.writerow(found.columns)
        out.writerows(found.rows)
    else:
        _say(_columns([found.columns, *[["" if v is None else str(v) for v in row] for row in found.rows]]))


def _columns(rows: list[list[str]]) -> list[str]:
    """Rows as aligned columns, no wider than the terminal; see `tamis.columns`."""
    from tamis.columns import columns

    return columns(rows)


@app.command()
def gaps(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    arm: Annotated[str | None, typer.Option(help="Whose answers; default the first arm.")] = None,
    system: Annotated[str | None, typer.Option(help="Whose answers; default tuned, else the first.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write empty rows to fill in, as JSONL.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Clusters where the evaluation fails and nothing was kept, and how many rows to write there."""
    from tamis.curate.gaps import find, write_template

    found = find(Run(run), arm, system)
    lines = [f"{found.wrong:,} of {found.items:,} items wrong ({found.arm}, {found.system}); {len(found.gaps):,} gaps"]
    lines += [gap.sentence() for gap in found.gaps[:_ROOM]]
    if len(found.gaps) > _ROOM:
        lines.append(f"and {len(found.gaps) - _ROOM} more (--json lists all)")
    if output is not None and found.gaps:
        written = write_template(found, Run(run), output)
        lines.append(f"wrote {written:,} empty rows to {output}")
        lines.append(f"next: fill them in, then data.path: [..., {output}] and curate.select.must_keep: {output}")
    elif found.gaps:
        lines.append(f"next: tamis gaps {run} -o gaps.jsonl")
    _answer(dataclasses.asdict(found), lines, as_json)


def _opened(what: str, run: Path | None) -> tuple[Recipe, Run, list[loop.Arm]]:
    """A recipe and its run folder, or a run folder with the recipe and the arms it was made with."""
    from tamis import loop

    if Path(what).is_dir():
        made = Run(Path(what))
        made.require()
        folder = Run(run) if run else made
        return _reviewed(Recipe.of_run(what), folder), folder, loop.arms_of(made)
    recipe = Recipe.load(what)
    folder = Run(run or Path("runs") / recipe.name)
    return _reviewed(recipe, folder), folder, list(loop.MAIN)


def _reviewed(recipe: Recipe, run: Run) -> Recipe:
    """The recipe with what was decided on the run's review page, where it names no decisions of its own."""
    from tamis.annotations import adopted

    named = adopted(run.path, recipe.curate.annotations)
    return recipe.changed({"curate.annotations": named}) if named else recipe


def _closing(run: Run, found: dict[str, Any]) -> list[str]:
    """The numbers of a run, at most ten lines."""
    lines = ["nothing changed, nothing done"] if found["skipped"] else []
    if found["funnel"]:
        kept, read = found["funnel"]["kept"], found["funnel"]["read"]
        lines.append(f"kept {kept:,} of {read:,} rows; {found['seconds']:.0f} s in all")
    # what was trained first: of more systems than there is room for, these are what the run is about
    systems = sorted(found["comparison"]["systems"], key=lambda s: s["system"] not in ("tuned", "merged"))
    for system in systems[:_ROOM]:
        main = system["metrics"].get("accuracy") or next(iter(system["metrics"].values()))
        if main["lower"] is not None:
            lines.append(f"  {system['name']:<22} {main['value']:.3f} [{main['lower']:.3f}, {main['upper']:.3f}]")
    if len(systems) > _ROOM:
        lines.append(f"  and {len(systems) - _ROOM} more systems in the report")
    lines += [f"  {s['name']}: {why}" for s in systems for why in s["failed_metrics"].values()][:1]
    if verdict := found["verdict"]:
        lines += [
            f"gate: arm {n} {a['verdict']} (tamis gate would exit {a['exit_code']})" for n, a in verdict["arms"].items()
        ]
    looks = found["comparison"]["looks"]
    if looks["looks"] > len(systems):
        lines.append(f"looks   {looks['looks']} at these items, in {looks['runs']} runs since {looks['since']}")
    return [*lines, f"report  {found['report']}", f"next: tamis gate {run.path}"]


_ROOM = 5  # systems in the closing lines: ten lines in all


def _work_through(recipe: Recipe, folder: Run, arms: list[loop.Arm], quiet: bool, dry_run: bool, as_json: bool) -> None:
    """Do everything, or say what everything would take."""
    from tamis import loop

    if dry_run:
        _forecast(loop.forecast(folder, recipe, arms), as_json)
        return
    with folder.lock():
        found = loop.run_all(folder, recipe, arms, quiet=quiet)
    _answer(found | {"report": str(found["report"])}, _closing(folder, found), as_json)


def _scoring(found: dict[str, Any]) -> list[str]:
    """What curating would take, as lines."""
    lines = [f"curate: {found['rows']:,} rows, keeping {found['size']}"]
    for cost in found["scorers"]:
        money = "no price known" if cost["money"] is None else f"about {cost['money']:,.2f} {found['currency']}"
        lines += [
            f"score {cost['scorer']}: {cost['rows']:,} rows, {cost['tokens']:,} tokens, on {cost['where']}",
            f"  about {_minutes(60 * cost['minutes'])}, {money} ({cost['note']})",
        ]
    return lines if found["scorers"] else [*lines, "score: no scorer of this recipe costs time or money"]


def _refused(found: dict[str, Any]) -> None:
    """A dry run of what would not start ends as starting it would."""
    if why := found["refused"]:
        print(f"error: this would not start: {visible(why, None)}", file=sys.stderr)
        raise typer.Exit(int(ExitCode.USAGE))


def _forecast(found: dict[str, Any], as_json: bool) -> None:
    lines = _scoring(found["scoring"]) if found["scoring"] else []
    if not found["curated"]:
        lines.append("not curated yet: rows drawn at random stand in for those that would be chosen")
    told: list[Any] = []
    for name, arm in found["train"].items():
        lines += [
            f"train {name}: {arm['rows']:,} rows, {arm['tokens']:,} tokens ({arm['trained_tokens']:,} trained), "
            f"{arm['steps']:,} steps",
            f"  about {_minutes(arm['seconds'])} on {arm['device']}, {arm['memory_gb']:.1f} GB of "
            f"{arm['free_gb']:.0f} GB free",
        ]
        if (why := (arm["choices"], arm["warnings"])) in told:
            continue  # two arms of like rows are planned alike
        told.append(why)
        sentences = [f"{choice['name']} {choice['value']}: {choice['why']}" for choice in arm["choices"]]
        for text in (*sentences, *(f"warning: {warning}" for warning in arm["warnings"])):
            lines += textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="    ")
    lines.append(
        f"evaluate: {'about ' * found['held_out']}{found['items']:,} items, {found['requests']:,} questions in all; "
        "time depends on the answers"
        if found["items"] is not None
        else "evaluate: the recipe names no evaluation set"
    )
    for one in found["asking"]:
        price = "no price known" if one["money"] is None else f"up to {one['money']:,.2f} {found['currency']}"
        lines.append(f"ask {one['system']} at {one['host']}: {one['requests']:,} requests, {price}")
    if found["money"] is not None:
        lines.append(f"money: about {found['money']:.4f} {found['currency']} of machine time to train")
    _answer(found, lines, as_json)
    if found["scoring"]:
        _refused(found["scoring"])
    _refused(found)


def _labels(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Rows with their trained text marked: in colour on a terminal that wants it, else between signs."""
    from tamis.train.show_labels import MARKS, Segment, painted

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    marked = painted([Segment("green" if colour else "marked", True)], colour=colour)
    lines = [f"{marked} is what the model learns to say; the rest is what it is told"]
    for row in rows:
        lines += ["", f"-- {row['heading']}", painted(row["segments"], colour=colour)]
    if as_json:
        _answer({"rows": rows, "marks": MARKS}, lines, as_json)
    else:  # painted: what the rows hold is written out already, and the colours are ours
        print("\n".join(lines))


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _answer(found: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """Data on stdout: one JSON object, or lines to read."""
    if as_json:
        print(json.dumps(schema.jsonable(found), ensure_ascii=False, default=str))
    else:
        _say(lines)


@app.command("run")
def run_recipe(
    recipe: What, run: RunFolder = None, quiet: Quiet = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Everything: curate, train, evaluate, gate, report. Resumable: type it again after a stop."""
    _work_through(*_opened(recipe, run), quiet, dry_run, as_json)


@app.command()
def demo(run: RunFolder = None, quiet: Quiet = False, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """The loop on built-in data, offline: 300 rows chosen against 300 drawn at random."""
    from tamis import loop
    from tamis.data import generate  # beside which the recipe lies, in a wheel too

    recipe = Recipe.load(Path(generate.__file__).with_name("demo_recipe.yaml"))
    arms = [loop.Arm("chosen"), loop.Arm("random", "found", 300)]
    folder = Run(run or Path("runs") / "demo")
    _work_through(_reviewed(recipe, folder), folder, arms, quiet, dry_run, as_json)


@app.command()
def train(
    recipe: What,
    run: RunFolder = None,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    show_labels: Annotated[
        int | None, typer.Option(min=1, help="Show so many rows and what of them is trained; nothing is done.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train alone: curates if that is not done yet, then QLoRA on the kept rows."""
    from tamis import loop

    settings, folder, arms = _opened(recipe, run)
    if show_labels is not None:
        _labels(loop.show_labels(folder, settings, arms[0], show_labels), as_json)
        return
    if dry_run:
        _forecast(loop.forecast(folder, settings, arms), as_json)
        return
    with folder.lock():
        loop.prepare(folder, settings, arms, quiet=quiet)
        found = loop.train(folder, settings, arms, quiet=quiet)
    if not found:
        raise UserError(
            "this recipe trains nothing", where="evaluate.systems", hint="add tuned to the systems under test"
        )
    lines = []
    for name, arm in found.items():
        lines += [
            f"arm {name}: {arm['rows']:,} rows, {arm['steps']:,} steps, loss {arm['final_loss']:.3f}, "
            f"{_minutes(arm['seconds'])}" + (" (nothing changed, nothing done)" if arm["skipped"] else ""),
            f"  adapter  {folder.train(name) / 'adapter'}",
            f"  memory   {arm['peak_mb']:,.0f} MB at the peak, {arm['estimate_mb']:,.0f} MB planned",
        ]
    _answer({"arms": found}, [*lines, f"next: tamis evaluate {recipe}"], as_json)


@app.command()
def sweep(
    recipe: What, run: RunFolder = None, quiet: Quiet = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Try learning rates, then ranks, alphas and target modules, on items that no gate will see."""
    from tamis import sweep as work

    with _curated(recipe, run, quiet, dry_run) as (settings, folder):
        if dry_run:
            told = work.forecast(folder, settings)
            stages = [f"  {key}: {told['planned'][key]} as planned, {_listed(v)}" for key, v in told["stages"].items()]
            _answer(told, [_arms_line(told), *stages, f"items: {told['items']:,}, {told['origin']}"], as_json)
            return
        found = work.sweep(folder, settings, quiet=quiet)
    grid, lines = work.closing(found)
    _answer(found, [*_columns(grid), *lines], as_json)


@app.command()
def compare(
    recipe: What, run: RunFolder = None, quiet: Quiet = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Base, LoRA, QLoRA, full tuning and the quantisations on the same items: quality, memory, speed, forgetting."""
    from tamis import methods as work

    with _curated(recipe, run, quiet, dry_run) as (settings, folder):
        if dry_run:
            told = work.forecast(folder, settings)
            lines = [
                f"  {name}: {arm['error']}"
                if "error" in arm
                else f"  {name}: about {_minutes(arm['seconds'])}, {arm['memory_gb']:.1f} of {arm['free_gb']:.0f} GB"
                for name, arm in told["arms"].items()
            ]
            _answer(told, [f"train {len(lines)} arms, about {_minutes(told['seconds'])}", *lines], as_json)
            return
        found = work.compare(folder, settings, quiet=quiet)
    grid, lines = work.closing(found)
    _answer(found, [*_columns(grid), *lines], as_json)


@app.command()
def study(
    recipe: What,
    run: RunFolder = None,
    proxy: Annotated[bool, typer.Option(help="Logistic regression on embeddings in place of training.")] = False,
    even_so: Annotated[bool, typer.Option(help="Go on with too few items for the margin.")] = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """How few rows are enough, and is choosing them better than chance? Sizes x methods x seeds, with intervals."""
    from tamis import study as work
    from tamis import study_words

    with _curated(recipe, run, quiet, dry_run) as (settings, folder):
        if dry_run:
            told = work.forecast(folder, settings, proxy=proxy, even_so=even_so)
            _answer(told, study_words.foretold(told, _minutes), as_json)
            return
        found = work.study(folder, settings, proxy=proxy, even_so=even_so, quiet=quiet)
    grid, lines = study_words.closing(found)
    _answer(found, [*_columns(grid), *lines], as_json)
    raise typer.Exit(int(ExitCode.DONE if found["settled"] else ExitCode.INCONCLUSIVE))


@app.command()
def choose(
    recipe: What, run: RunFolder = None, quiet: Quiet = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Which base model? Ruled out by constraint, then asked your items by halving; a recipe with it is written."""
    from tamis import choose as work
    from tamis import choose_words

    with _curated(recipe, run, quiet, dry_run) as (settings, folder):
        if dry_run:
            told = work.forecast(folder, settings)
            _answer(told, choose_words.foretold(told), as_json)
            return
        found = work.choose(folder, settings, quiet=quiet)
    grid, lines = choose_words.closing(found)
    _answer(found, [*_columns(grid), *lines], as_json)


@contextlib.contextmanager
def _curated(what: str, run: Path | None, quiet: bool, dry_run: bool) -> Iterator[tuple[Recipe, Run]]:
    """A recipe and its run folder, locked, curated if that was not done yet. A dry run curates nothing."""
    from tamis import loop
    from tamis.curate.pipeline import stage_of

    settings, folder, arms = _opened(what, run)
    if settings.data is None:
        raise UserError("this recipe trains on nothing", where="data", hint="data: {path: FILE}")
    if dry_run and not stage_of(folder, settings).complete():
        where = f" --run {run}" if run else ""
        raise UserError("nothing is curated yet, so nothing can be foretold", hint=f"tamis curate {what}{where}")
    with folder.lock():
        if not dry_run:
            loop.prepare(folder, settings, arms, quiet=quiet)
        loop.eval_items(folder)
        yield settings, folder


def _arms_line(told: dict[str, Any]) -> str:
    left = told["arms"] - told["done"]
    return f"train {left} arms of {told['rows']:,} rows, about {_minutes(told['seconds'])}; {told['done']} are done"


def _listed(values: list[Any]) -> str:
    return ", ".join("+".join(v) if isinstance(v, list) else f"{v}" for v in values)


@app.command()
def evaluate(
    recipe: What,
    run: RunFolder = None,
    build: Annotated[
        Path | None, typer.Option(help="Instead: draft an evaluation set from the data into this file, for review.")
    ] = None,
    items: Annotated[int, typer.Option(min=1, help="With --build: how many.")] = 400,
    freeze: Annotated[
        Path | None,
        typer.Option(help="Instead: freeze a reviewed draft; its hash is written beside it."),
    ] = None,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate alone: every system of the recipe, also models and adapters that Tamis did not train."""
    from tamis import loop

    if build or freeze:
        _eval_set(Recipe.load(recipe), build, items, freeze, as_json)
        return
    started = time.monotonic()
    settings, folder, arms = _opened(recipe, run)
    if dry_run:
        _forecast(loop.forecast(folder, settings, arms), as_json)
        return
    loop.refuse_asking(settings)
    with folder.lock():
        funnel = loop.prepare(folder, settings, arms, quiet=quiet)
        summaries = loop.evaluate(folder, settings, arms, quiet=quiet)
        found = {"funnel": funnel, **loop.conclude(folder, settings)}
    skipped = all(s["skipped"] for s in summaries) and not found["changed"]
    found |= {"skipped": skipped, "seconds": time.monotonic() - started}
    _answer(found | {"report": str(found["report"])}, _closing(folder, found), as_json)


def _eval_set(recipe: Recipe, build: Path | None, items: int, freeze: Path | None, as_json: bool) -> None:
    """Draft an evaluation set, or freeze a reviewed one."""
    from tamis.curate import draft, pipeline

    if build and freeze:
        raise UserError("first --build, then review the file, then --freeze")
    if build:
        found = pipeline.build_eval(recipe, build, items)
        strata = list(found["strata"].items())
        lines = [
            f"drafted {found['items']:,} items of {found['components']:,} that are no near-duplicates of each other",
            *[f"  {name:<22} {count:,}" for name, count in strata[:_ROOM]],
            *([f"  and {len(strata) - _ROOM} more strata"] if len(strata) > _ROOM else []),
            f"  {found['leaving']:,} of {found['rows']:,} rows would leave training: these and their near-duplicates",
            f'review {build}: "ok" or "drop" in every row',
            f"next: tamis evaluate RECIPE --freeze {build}",
        ]
    else:
        assert freeze is not None
        found = draft.freeze(freeze)
        lines = [
            f"frozen {found['items']:,} items, {found['dropped']:,} dropped; SHA-256 {found['sha256'][:12]}",
            f"next: write into the recipe  eval: {{path: {found['path']}, frozen: {found['frozen']}}}",
        ]
    _answer(found, lines, as_json)


@app.command("export")
def export_run(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    arm: Annotated[str | None, typer.Option(help="The arm to export; default the first.")] = None,
    to: Annotated[str, typer.Option(help="merged (whole weights in bf16) or adapter.")] = "merged",
    merged: Annotated[bool | None, typer.Option("--merged/--adapter", help="Short for --to.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The folder to make; default beside the arm's adapter.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write what can be served, checked against what was evaluated; refused where the two answer differently."""
    from tamis import loop

    if merged is not None:
        to = "merged" if merged else "adapter"
    folder = Run(run)
    recipe = Recipe.of_run(run)
    with folder.lock():
        found = loop.export(folder, recipe, arm, to, output)
    parity = found["parity"]
    lines = [
        f"exported arm {found['arm']} as {found['kind']} from {found['base']['name']}",
        f"  parity   KL {parity['kl']:.2g} nats per token, greedy agreement {parity['agreement']:.2%} "
        f"({parity['tokens']:,} answer tokens of {parity['rows']:,} rows)",
        *[f"  warning: vLLM refuses this adapter: {problem}" for problem in found["vllm_problems"]],
        f"  files    {len(found['files'])}, {sum(f['bytes'] for f in found['files'].values()) / 1e6:,.0f} MB, "
        f"hashes in {Path(found['folder']) / 'manifest.json'}",
        f"next: sh {Path(found['folder']) / 'serve.sh'} transformers",
    ]
    _answer(found, lines, as_json)


@app.command()
def init(
    data: Annotated[str, typer.Argument(help="Your training file.")] = "data.jsonl",
    task: Annotated[str, typer.Option(help="classify, generate, summarise, translate, regress or chat.")] = "classify",
    eval_file: Annotated[
        str | None, typer.Option("--eval", help="Your evaluation file; else a tenth is held out.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Write over files that are there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a commented recipe.yaml and a policy.yaml to start from."""
    from tamis.starter import write_starter

    written = [str(f) for f in write_starter(task, Path(), data, eval_file, force=force)]
    lines = [*[f"wrote {f}" for f in written], "next: tamis run recipe.yaml --dry-run"]
    _answer({"written": written}, lines, as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """What this machine has, what will run where, and what to type where something is missing."""
    from tamis.doctor import examine, verdict

    checks = []
    for check in examine():
        checks.append(check)
        if not as_json:
            print(f"{_MARKS[check.state]} {check.name:<11} {check.found}")
            if check.mend:
                print(f"{'':<15} mend: {check.mend}")
    if as_json:
        print(json.dumps({"checks": [dataclasses.asdict(c) for c in checks]}, ensure_ascii=False))
    verdict(checks)


_MARKS = {"ok": "ok ", "absent": "-  ", "broken": "BAD"}


@app.command()
def gate(
    run: Annotated[Path | None, typer.Argument(help="The run folder; --plan and --explain can do without.")] = None,
    policy: Annotated[Path | None, typer.Option(help="A policy file; default that of the run's recipe.")] = None,
    arm: Annotated[str | None, typer.Option(help="The arm whose verdict counts; default the first.")] = None,
    format: Annotated[str, typer.Option(help="text, json, junit, github or md.")] = "text",
    plan: Annotated[bool, typer.Option("--plan", help="Items each gate needs, before anything is spent.")] = False,
    power: Annotated[float, typer.Option(help="With --plan: the chance to pass if the truth is as assumed.")] = 0.8,
    discordance: Annotated[
        float | None, typer.Option(help="With --plan: share of items on which the two differ; default from the run.")
    ] = None,
    headroom: Annotated[float, typer.Option(help="With --plan: how far beyond its limit the truth is.")] = 0.03,
    explain: Annotated[bool, typer.Option("--explain", help="What each gate asks, and why it ruled so.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="The stored verdict again, from the files alone.")] = False,
) -> None:
    """Judge a run by a policy; the exit code is the verdict."""
    from tamis import loop
    from tamis.errors import did_you_mean
    from tamis.evaluate import render

    if format not in render.FORMATS:
        raise UserError(f"unknown format {format!r}", where="--format", hint=did_you_mean(format, render.FORMATS))
    if plan + explain + replay > 1 or (replay and (policy or arm)):
        raise UserError("--plan, --explain and --replay exclude one another; a replay has its own policy and arm")
    folder = None if run is None else Run(run)
    if plan:
        found = loop.plan_gates(folder, _policy_of(folder, policy), arm, power, discordance, headroom)
        _answer(found, found.pop("lines"), format == "json")
        raise typer.Exit(int(ExitCode.DONE if found["enough"] else ExitCode.INCONCLUSIVE))
    if explain and folder is None:
        print(loop.explain_policy(_policy_of(folder, policy)))
        return
    if folder is None:
        raise UserError("which run?", hint="tamis gate RUN --policy FILE")
    verdict = loop.replay(folder) if replay else loop.judge(folder, _policy_of(folder, policy), arm, keep=False)
    text = loop.explain_policy(_policy_of(folder, policy), verdict) if explain else render.FORMATS[format](verdict)
    print(text if format in ("json", "junit") else visible(text, None))
    if format == "github":
        _to_job_summary(render.markdown(verdict))
    if replay:
        print("replayed: the same verdict from the same files", file=sys.stderr)
    raise typer.Exit(int(verdict["exit_code"]))


def _policy_of(run: Run | None, policy: Path | None) -> Path:
    """The policy named on the command line, else that of the run's recipe."""
    if policy is None and run is not None and run.recipe_file.is_file():
        named = Recipe.of_run(run.path).gate
        policy = Path(named) if named else None
    if policy is None:
        where = None if run is None else str(run.path)
        raise UserError("there is no policy to judge by", where=where, hint="tamis gate RUN --policy FILE")
    return policy


def _to_job_summary(table: str) -> None:
    """GitHub shows what is appended to this file on the page of the job."""
    if file := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(file).open("a", encoding="utf-8") as summary:
            summary.write(table)


@app.command("import")
def import_results(
    systems: Annotated[list[str], typer.Argument(help="NAME=FILE, several for one name too.", metavar="NAME=FILE...")],
    run: Annotated[Path, typer.Option("--run", help="The run folder.")],
    metric: Annotated[str | None, typer.Option(help="Of lm-eval: what says right or wrong.")] = None,
    filter: Annotated[str | None, typer.Option(help="Of lm-eval: strict-match, flexible-extract, ...")] = None,
    hardware: Annotated[str | None, typer.Option(help="What served the models; else no clock is compared.")] = None,
    as_json: AsJson = False,
) -> None:
    """Results you have already: lm-eval samples and GuideLLM reports become systems to compare and to gate."""
    from tamis import loop

    files: dict[str, list[Path]] = {}
    for given in systems:
        name, _, file = given.partition("=")
        if not name or not file or "/" in name:
            raise UserError(
                f"{given!r} is not NAME=FILE", hint="tamis import base=samples_a.jsonl tuned=samples_b.jsonl"
            )
        files.setdefault(name, []).append(Path(file))
    folder = Run(run)
    with folder.lock():
        found = loop.bring_in(folder, files, metric, filter, hardware)
    lines = [f"{n}: {s['items']:,} items, {s['loads']} loads" for n, s in found["systems"].items()]
    lines += [f"report  {found['report']}", f"next: tamis gate {run} --policy FILE"]
    _answer({"systems": found["systems"], "report": str(found["report"])}, lines, as_json)


@app.command()
def promote(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    system: Annotated[str | None, typer.Option(help="The system; default the candidate of the verdict.")] = None,
    arm: Annotated[str | None, typer.Option(help="Its arm; default that of the verdict.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The champion file; default champion.json beside the policy.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why, where no gate passed it; goes into the file.")] = None,
    outputs: Annotated[bool, typer.Option(help="Keep the texts of the answers.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make a run the champion that later gates compare with: one file to commit, no weights in it."""
    from tamis import loop

    found = loop.promote(Run(run), system, arm, output, reason, outputs)
    lines = [
        f"champion  {found['champion']}  ({found['items']:,} items, {found['bytes'] / 1000:,.0f} kB)",
        f"  {found['name']}, on {found['hardware']} with {found['engine']}",
        *([f"  promoted without a PASS: {reason}"] if reason else []),
        "commit it, and write  evidence: {baseline: champion}  into the policy",
    ]
    _answer(found, lines, as_json)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    html: Annotated[Path | None, typer.Option(help="Where to write; default report/report.html in the run.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="As .html, .md, .json or .csv (items).")] = None,
    redact: Annotated[bool, typer.Option(help="Leave out personal data and raw text.")] = False,
    serve: Annotated[bool, typer.Option(help="Open the app instead, on this machine only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the report as one file, or show the app."""
    if serve:
        from tamis.reports.launch import serve as show

        raise typer.Exit(show(Run(run)))
    from tamis.reports.export import default_path, write_report

    path = html or output or default_path(Run(run), redact)
    view = write_report(Run(run), path, form=".html" if html else None, redact=redact)
    for problem in view.problems[:_ROOM]:
        said = f"{problem.what} ({problem.where}). To mend it: {problem.repair}"
        print(visible(said, None), file=sys.stderr)
    _answer({"report": str(path), "problems": [dataclasses.asdict(p) for p in view.problems]}, [str(path)], as_json)


if __name__ == "__main__":
    main()
