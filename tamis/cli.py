"""The command line: arguments in, data on stdout, progress on stderr, an exit code out.

Exit codes: 0 done or PASS, 1 FAIL, 2 wrong usage, 3 INCONCLUSIVE, 4 INVALID, 5 the run failed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from tamis.errors import ExitCode, TamisError, UserError
from tamis.recipe import Recipe
from tamis.run import Run

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

RunFolder = Annotated[Path | None, typer.Option("--run", help="The run folder; default runs/NAME.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def main() -> None:
    """Entry point: turns Tamis's errors into a message and an exit code, without a traceback for a user's mistake."""
    try:
        app(standalone_mode=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(int(error.exit_code))
    except TamisError as error:
        print(f"failed: {error}", file=sys.stderr)
        sys.exit(int(error.exit_code))
    except KeyboardInterrupt:
        print(f"\nstopped; what is done is kept. To go on: {' '.join(['tamis', *sys.argv[1:]])}", file=sys.stderr)
        sys.exit(130)
    except Exception:
        traceback.print_exc()
        print("failed: this is a defect of Tamis; what is done is kept", file=sys.stderr)
        sys.exit(int(ExitCode.STAGE_FAILED))


def _say(lines: list[str]) -> None:
    print("\n".join(lines))


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
    quiet: Annotated[bool, typer.Option(help="No progress.")] = False,
    as_json: AsJson = False,
) -> None:
    """Shrink a data set; every row's fate is in the ledger."""
    from tamis.curate.pipeline import curate as work
    from tamis.tables import Source
    from tamis.writing import write_rows

    overrides = {k: v for k, v in {"curate.select.size": rows, "embedder": embedder}.items() if v is not None}
    if what.endswith((".yaml", ".yml")):
        recipe = Recipe.load(what, overrides)
    else:
        raw: dict[str, Any] = {"name": Path(what).name.split(".")[0] or "data", "data": {"path": what}}
        if rows is not None:
            raw["curate"] = {"select": {"size": rows}}
        if embedder is not None:
            raw["embedder"] = embedder
        recipe = Recipe.check(raw, where="command line")
    folder = Run(run or Path("runs") / recipe.name)
    with folder.lock():
        (folder.path / "recipe.yaml").write_text(recipe.dump(), encoding="utf-8")
        found = work(folder, recipe, quiet=quiet)
        if output is not None:
            import pyarrow.compute as pc
            import pyarrow.parquet as pq

            ledger = pq.read_table(folder.curate / "ledger.parquet", columns=["id", "verdict"])
            ids = ledger.filter(pc.equal(ledger["verdict"], "kept"))["id"].to_pylist()
            source = Source(recipe.data.paths, recipe.data.format, recipe.data.columns, recipe.data.license)
            write_rows(folder.curate / "records", ids, source, output)
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
    print(json.dumps(found, ensure_ascii=False) if as_json else sentence(found))


def _closing(run: Run, found: dict[str, Any]) -> list[str]:
    """The numbers of a run, at most ten lines."""
    lines = ["nothing changed, nothing done"] if found["skipped"] else []
    lines.append(
        f"kept {found['funnel']['kept']:,} of {found['funnel']['read']:,} rows; {found['seconds']:.0f} s in all"
    )
    for system in found["comparison"]["systems"]:
        main = system["metrics"].get("accuracy") or next(iter(system["metrics"].values()))
        if main["lower"] is not None:
            lines.append(f"  {system['name']:<22} {main['value']:.3f} [{main['lower']:.3f}, {main['upper']:.3f}]")
    if verdict := found["verdict"]:
        lines += [
            f"gate: arm {n} {a['verdict']} (tamis gate would exit {a['exit_code']})" for n, a in verdict["arms"].items()
        ]
    return [*lines, f"report  {found['report']}", f"next: tamis gate {run.path}"]


@app.command("run")
def run_recipe(
    recipe: Path, run: RunFolder = None, quiet: Annotated[bool, typer.Option(help="No progress.")] = False
) -> None:
    """Everything: curate, train, evaluate, gate, report. Resumable: type it again after a stop."""
    from tamis import loop

    settings = Recipe.load(recipe)
    folder = Run(run or Path("runs") / settings.name)
    with folder.lock():
        _say(_closing(folder, loop.run_all(folder, settings, quiet=quiet)))


@app.command()
def demo(run: RunFolder = None, quiet: Annotated[bool, typer.Option(help="No progress.")] = False) -> None:
    """The loop on built-in data, offline: 300 rows chosen against 300 drawn at random."""
    from tamis import data, loop

    settings = Recipe.load(Path(next(iter(data.__path__))) / "demo_recipe.yaml")
    folder = Run(run or Path("runs") / "demo")
    arms = [loop.Arm("chosen"), loop.Arm("random", "found", 300)]
    with folder.lock():
        _say(_closing(folder, loop.run_all(folder, settings, arms, quiet=quiet)))


@app.command()
def gate(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    policy: Annotated[Path | None, typer.Option(help="A policy file; default that of the run's recipe.")] = None,
    arm: Annotated[str | None, typer.Option(help="The arm whose verdict counts; default the first.")] = None,
    format: Annotated[str, typer.Option(help="text, json, junit, github or md.")] = "text",
) -> None:
    """Judge a run by a policy; the exit code is the verdict."""
    from tamis import loop
    from tamis.errors import did_you_mean
    from tamis.evaluate import render

    renderers = {
        "text": render.text,
        "json": render.as_json,
        "junit": render.junit,
        "github": render.github,
        "md": render.markdown,
    }
    if format not in renderers:
        raise UserError(f"unknown format {format!r}", where="--format", hint=did_you_mean(format, renderers))
    folder = Run(run)
    if policy is None and folder.recipe_file.is_file():
        # not Recipe.load: paths in a run's copy are already resolved
        named = Recipe.check(yaml.safe_load(folder.recipe_file.read_text(encoding="utf-8"))).gate
        policy = Path(named) if named else None
    if policy is None:
        raise UserError("there is no policy to judge by", where=str(run), hint="tamis gate RUN --policy FILE")
    verdict = loop.judge(folder, policy, arm)
    print(renderers[format](verdict))
    raise typer.Exit(int(verdict["exit_code"]))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    html: Annotated[Path | None, typer.Option(help="Where to write; default report/report.html in the run.")] = None,
    serve: Annotated[bool, typer.Option(help="Open the app instead, on this machine only.")] = False,
) -> None:
    """Write the one-file HTML report, or show the app."""
    if serve:
        from tamis.reports.launch import serve as show

        raise typer.Exit(show(Run(run)))
    from tamis.reports.page_html import write_html

    print(write_html(Run(run), html))


if __name__ == "__main__":
    main()
