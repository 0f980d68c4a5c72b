"""The commands of the README and the guides, typed one after the other in one folder, as a reader would.

What is not typed is named here with the reason, so a block of the docs is either run or known not to be.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tamis import data
from tamis.evaluate.policy import parse_policy
from tamis.recipe import Recipe
from tests.tamis.calling import Done, tamis

ROOT = Path(__file__).parents[2]
# In the order in which a reader comes to them; further pages follow by name.
FIRST = ["README.md", "docs/quickstart.md", "docs/guides/shrink-a-data-set.md", "docs/guides/train-on-one-gpu.md"]
OTHERS = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))
PAGES = {page: (ROOT / page).read_text(encoding="utf-8") for page in dict.fromkeys([*FIRST, *OTHERS])}
TICKETS = Path(next(iter(data.__path__))) / "tickets.jsonl"
# Commands that are not typed here, each with the reason.
NOT_TYPED = {
    "make demo": "CI's: it sets up an environment and takes minutes",
    "make test": "what runs this test",
    "tamis report runs/tickets --serve": "serves until it is stopped; tests/reports/test_app.py opens its pages",
    "git clone REPOSITORY tamis && cd tamis": "the reader has a clone, and so has this test",
    "pip install tamis -c constraints.txt": "asks the package registry; tests/tamis/test_install.py installs the wheel",
    "tamis import base=a/samples_gsm8k_DATE.jsonl tuned=b/samples_gsm8k_DATE.jsonl --filter strict-match"
    " --run runs/have": "the files are the reader's; tests/evaluate/test_interchange.py imports real ones",
    "tamis gate runs/have --policy policy.yaml": "what the line above would have imported",
    "tamis import tuned=benchmarks.json --hardware 'one H100' --run runs/load": (
        "the file is the reader's; tests/evaluate/test_interchange.py imports real ones"
    ),
    "tamis import ours=benchmarks.json --run runs/load --hardware 'NVIDIA H100'": "as above",
    "tamis evaluate recipe.yaml --freeze eval.jsonl": "wants every row reviewed; tests/curate/test_draft.py does",
    "tamis study recipe.yaml": "trains dozens of models; tests/tamis/test_study.py does, on little",
    "tamis study recipe.yaml --proxy --even-so": "45 fits; tests/tamis/test_study.py does fewer",
    "tamis sweep recipe.yaml": "trains a dozen models; tests/tamis/test_sweep.py does",
}
# Pages of which no line is typed here.
NOT_TYPED_PAGES = {
    "docs/guides/deploy.md": (
        "it serves until it is stopped: tests/tamis/test_monitor_served.py and test_monitor.py type every line but the "
        "three that start vLLM and Ollama, which are programs of their own; the page says so"
    )
}
# Blocks that hold nothing to type: their first line, and what they are.
NO_COMMANDS = {
    "curate  ->  train  ->  evaluate  ->  gate  ->  report": "the five stages",
    "y = W x + (alpha / r) · B A x        A: r × in,  B: out × r": "a formula",
    "repository/": "a folder",
    "gate/policy.yaml       what a release must show": "a file of it",
    "gate/champion.json     the last release: one file, written by tamis promote": "a file of it",
}
SHELLS = {"console", "bash", "sh", "shell"}
PROGRAM = re.compile(r"(make|tamis|pip|python) ")
# What a gate's first word exits with. A model of random weights may get any of them.
EXITS = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3, "INVALID": 4}


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every block of a page: the word after its fence and its lines; an indented line is a block of its own."""
    fence, lines = None, []
    for line in text.splitlines():
        if line.startswith("```"):
            if fence is not None:
                yield fence, lines
            fence, lines = (line[3:].strip() or "text", []) if fence is None else (None, [])
        elif fence is not None:
            lines.append(line)
        elif line.startswith("    ") and line.strip():
            yield "indented", [line.strip()]


def commands(text: str) -> list[str]:
    """The commands of a page, comments taken off, in their order.

    A fence of a shell's name holds commands (in a `console`, the lines with a prompt). An indented line is one if it
    begins with the name of a program of ours; what stands after a gap says what it does.
    """
    found = []
    for fence, lines in blocks(text):
        for line in lines:
            if fence == "indented" and PROGRAM.match(line):
                found.append(shlex.join(shlex.split(re.split(r"\s{2,}", line)[0])))
            elif fence in SHELLS and (fence != "console" or line.startswith("$ ")):
                found.append(shlex.join(shlex.split(line.removeprefix("$ "), comments=True)).replace("'&&'", "&&"))
            elif fence == "yaml" and (step := re.match(r"\s*- run: (.+)", line)):
                found.append(step[1])
    return [command for command in found if command]


def examples(text: str) -> Iterator[str]:
    """The YAML of a page."""
    return ("\n".join(lines) for fence, lines in blocks(text) if fence == "yaml")


EVERY = list(dict.fromkeys(c for page in PAGES if page not in NOT_TYPED_PAGES for c in commands(PAGES[page])))
TYPED = [c for c in EVERY if c not in NOT_TYPED]


def small(recipe: Path, name: str, tiny: Path) -> None:
    """The recipe that `tamis init` wrote, for a model that trains in a second."""
    model = Path(shutil.copytree(tiny, "model"))
    config = json.loads((model / "config.json").read_text())
    # Room for real tickets and examples of them; its positions are rotations, so no weights belong to them.
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    raw = yaml.safe_load(recipe.read_text())
    raw |= {"name": name, "model": str(model)}
    raw["eval"] |= {"limit": 16}
    raw["curate"]["select"] = {"size": 40}
    # A rate that settles what the model says: exporting refuses where rounding decides between two words
    raw["train"] = {"epochs": 1, "r": 4, "lr": 0.05}
    raw["evaluate"]["task"]["max_tokens"] = 24  # its tokens are shorter than those of a real model
    raw["evaluate"] |= {"latency": {"requests": 2, "warmup": 1}}
    # of the catalogue only the packaged model is here, and asking it takes minutes
    raw["choose"] = {"catalogue": False, "rounds": [4, 8, 16], "max_tokens_per_word": None}
    recipe.write_text(yaml.safe_dump(raw))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[dict[str, Done]]:
    """Every command and what came of it."""
    folder = tmp_path_factory.mktemp("reader")
    lines = TICKETS.read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / TICKETS.name).write_text("".join(lines[::2]), encoding="utf-8")  # half of them: 1,000 can still be kept
    (folder / "new.jsonl").write_text("".join(lines[1:200:2]), encoding="utf-8")
    (run,) = set(re.findall(r"\btamis (?:gate|report|why) runs/(\S+)", "\n".join(EVERY[:20])))
    (folder / "gate").mkdir()
    policy = next(examples(PAGES["docs/guides/gate-in-ci.md"]))
    (folder / "gate" / "policy.yaml").write_text(policy, encoding="utf-8")
    found = {"folder": Done(0, str(folder), "")}
    with contextlib.chdir(folder):
        for command in TYPED:
            program, *arguments = shlex.split(command)
            assert program == "tamis", f"{command}: type it here, or say in NOT_TYPED why not"
            found[command] = tamis(*arguments)
            if arguments[0] == "init":
                small(Path("recipe.yaml"), run, tiny_model)
        yield found


@pytest.mark.parametrize("command", TYPED)
def test_a_command_of_the_docs_does_what_it_says(done: dict[str, Done], command: str) -> None:
    code, out, err = done[command]

    if command == "tamis promote runs/tickets":  # a model of random weights has passed no gate
        assert code == 2
        assert "--reason" in err
        return
    assert out.strip(), err
    if re.match("tamis gate (?!.*--(plan|explain))", command):
        assert code == EXITS[re.search("|".join(EXITS), out)[0]], err
    else:
        assert code in ((0, 3) if "--plan" in command else (0,)), err
    following = re.search(r"^next: (.+)$", out, re.MULTILINE)
    assert following is None or following[1].startswith(("tamis ", "sh "))


def test_a_trained_run_is_not_curated_over_by_a_short_command(
    done: dict[str, Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(done["folder"].out)
    ledger = Path("runs/tickets/curate/ledger.parquet").read_bytes()

    code, _, err = tamis("curate", "tickets.jsonl", "--rows", "20")

    assert code == 2
    assert "--run runs/tickets-curated" in err
    assert Path("runs/tickets/curate/ledger.parquet").read_bytes() == ledger


@pytest.mark.parametrize("page", [p for p, text in PAGES.items() if any(examples(text))])
def test_every_yaml_of_the_docs_is_read_by_what_it_is_for(done: dict[str, Done], page: str, tmp_path: Path) -> None:
    for text in examples(PAGES[page]):
        raw = yaml.safe_load(text)
        if "jobs" in raw:  # a workflow: its steps are typed above
            steps = commands(f"```yaml\n{text}\n```")
            assert set(steps) <= {*TYPED, *NOT_TYPED}
            assert len(steps) == text.count("run: ")
        elif "gates" in raw:
            assert parse_policy(text, tmp_path / "policy.yaml").gates
        else:
            (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"name": "x", "data": {"path": str(TICKETS)}} | raw))
            assert Recipe.load(tmp_path / "recipe.yaml")


def test_what_is_not_typed_is_in_the_docs_and_has_a_reason() -> None:
    assert set(NOT_TYPED) - set(EVERY) == set()
    assert set(NOT_TYPED_PAGES) <= set(PAGES)
    assert all([*NOT_TYPED.values(), *NOT_TYPED_PAGES.values()])
    assert len(TYPED) >= 25


def idle(text: str) -> list[str]:
    """The first lines of a page's blocks that are neither typed nor read by anything."""
    read = {*SHELLS, "yaml"}
    return [
        lines[0].strip() if lines else fence
        for fence, lines in blocks(text)
        if fence not in read and not (fence == "indented" and PROGRAM.match(lines[0]))
    ]


def test_every_block_of_the_docs_is_typed_or_read_or_said_to_hold_nothing_to_type() -> None:
    found = {line for text in PAGES.values() for line in idle(text)}
    assert found == set(NO_COMMANDS)
    fences = ("\ncurl http://x", "text\n$ ls", "python\nimport tamis")
    assert idle("".join(f"```{f}\n```\n" for f in fences) + "\n    vllm serve x\n    make demo") == [
        "curl http://x", "$ ls", "import tamis", "vllm serve x",
    ]  # fmt: skip
    # a fence that stands in a list or a quotation would not be seen as one
    assert not [p for p, text in PAGES.items() if re.search(r"^[ >]+(```|~~~)|^~~~", text, re.MULTILINE)]


def test_commands_are_found_in_every_kind_of_block() -> None:
    fences = ("console\n$ tamis doctor   # this\nok", "sh\ntamis why a 'b c'", "\ntamis is a word here")
    text = "    make demo  # all\n\n" + "\n".join(f"```{inside}\n```" for inside in fences)
    step = "```yaml\nsteps:\n  - run: tamis gate a\n  - run: pip install b\n```"
    found = ["make demo", "tamis doctor", "tamis why a 'b c'", "tamis gate a", "pip install b"]
    assert commands(f"{text}\n{step}") == found
