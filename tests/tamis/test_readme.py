"""The README's commands, typed one after the other in one folder, as a reader would."""

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
from tests.tamis.calling import Done, tamis

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
TICKETS = Path(next(iter(data.__path__))) / "tickets.jsonl"
# Commands that are not typed here, each with the reason.
NOT_TYPED = {
    "make demo": "CI's: it sets up an environment and takes minutes",
    "make test": "what runs this test",
    "tamis report runs/tickets --serve": "serves until it is stopped; tests/reports/test_app.py opens its pages",
}
SHELLS = {"console", "bash", "sh", "shell"}
# What a gate's first word exits with. A model of random weights may get any of them.
EXITS = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3, "INVALID": 4}


def commands(text: str) -> list[str]:
    """The commands of shell blocks, comments taken off, in their order.

    A fence of a shell's name holds commands (in a `console`, the lines with a prompt); an indented block does where a
    line begins with the name of a program of ours.
    """
    found, fence = [], None
    for line in text.splitlines():
        if line.startswith("```"):
            fence = line[3:].strip() or "text" if fence is None else None
        elif (fence in SHELLS and (fence != "console" or line.startswith("$ "))) or (
            fence is None and re.match(r" {4}(make|tamis|pip|python) ", line)
        ):
            found.append(shlex.join(shlex.split(line.removeprefix("$ "), comments=True)))
    return [command for command in found if command]


TYPED = [c for c in commands(README) if c not in NOT_TYPED]


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
    recipe.write_text(yaml.safe_dump(raw))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[dict[str, Done]]:
    """Every command and what came of it."""
    folder = tmp_path_factory.mktemp("reader")
    lines = TICKETS.read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / TICKETS.name).write_text("".join(lines[::2]), encoding="utf-8")  # half of them: 1,000 can still be kept
    (run,) = re.findall(r"^\$ tamis gate runs/(\S+)", README, re.MULTILINE)
    found = {}
    with contextlib.chdir(folder):
        for command in TYPED:
            program, *arguments = shlex.split(command)
            assert program == "tamis", f"{command}: type it here, or say in NOT_TYPED why not"
            found[command] = tamis(*arguments)
            if arguments[0] == "init":
                small(Path("recipe.yaml"), run, tiny_model)
        yield found


@pytest.mark.parametrize("command", TYPED)
def test_a_command_of_the_readme_does_what_it_says(done: dict[str, Done], command: str) -> None:
    code, out, err = done[command]

    assert out.strip(), err
    assert code == (EXITS[out.split()[0]] if command.startswith("tamis gate ") else 0), err
    following = re.search(r"^next: (.+)$", out, re.MULTILINE)
    assert following is None or following[1].startswith(("tamis ", "sh "))


def test_what_is_not_typed_is_in_the_readme_and_has_a_reason() -> None:
    assert set(NOT_TYPED) - set(commands(README)) == set()
    assert all(NOT_TYPED.values())
    assert len(TYPED) >= 8


def test_commands_are_found_in_every_kind_of_block() -> None:
    fences = ("console\n$ tamis doctor   # this\nok", "sh\ntamis why a 'b c'", "\ntamis is a word here")
    text = "    make demo  # all\n\n" + "\n".join(f"```{inside}\n```" for inside in fences)
    assert commands(text) == ["make demo", "tamis doctor", "tamis why a 'b c'"]
