"""Docs that cannot rot: every command parses, every link leads somewhere, every quoted message is one we write."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from tamis.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
# Named in a decision as what a later version will have; a user is never told to type them.
LATER: set[str] = set()

COMMAND = re.compile(r"^\$ (tamis .+?)(?:\s{2,}#.*)?$|`(tamis [a-z][^`]*)`", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def commands(page: Path) -> list[str]:
    """Every command line that a page shows, in blocks after a prompt and between backticks."""
    found = [block or inline for block, inline in COMMAND.findall(page.read_text(encoding="utf-8"))]
    return [" ".join(c.split()) for c in found]


def parse(line: str) -> None:
    """Parse a command line as the program would; nothing is run."""
    words = shlex.split(re.split(r" > | \|\| ", line)[0])[1:]
    commands = typer.main.get_command(app).commands
    if words[0] not in commands:
        raise ValueError(f"no such command: {words[0]}")
    commands[words[0]].make_context(words[0], words[1:])


CASES = [(p.relative_to(ROOT).as_posix(), c) for p in PAGES for c in dict.fromkeys(commands(p))]


@pytest.mark.parametrize(("page", "line"), CASES)
def test_every_command_of_the_docs_is_one_that_the_program_has(page, line):
    if line.split()[1] in LATER and "decisions" in page:
        pytest.skip("a decision speaks of a command to come")
    if len(line.split()) == 2:  # `tamis run` as a name in a sentence: the command must exist
        assert line.split()[1] in typer.main.get_command(app).commands
    else:
        parse(line)


def test_there_are_commands_to_check_and_a_wrong_one_is_found():
    assert len(CASES) > 20
    for wrong in ("tamis curat data.jsonl", "tamis report runs/x --sreve", "tamis why runs/x"):
        with pytest.raises(Exception, match=r"(?i)no such|missing"):
            parse(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}, target


def test_no_page_waits_to_be_filled_in():
    pages = [*PAGES, *ROOT.glob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
    waiting = [p for p in pages if re.search(r"(?<!\$)\{\{", p.read_text(encoding="utf-8"))]
    assert not waiting


def test_every_page_of_the_docs_can_be_reached_from_its_first():
    seen, left = set(), [ROOT / "docs" / "README.md"]
    while left:
        page = left.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = [t.partition("#")[0] for t in LINK.findall(page.read_text(encoding="utf-8")) if ":" not in t]
        left += [(page.parent / t).resolve() for t in links if t]
    alone = [p for p in (ROOT / "docs").rglob("*.md") if p not in seen and "decisions" not in p.parts]
    assert not alone


def sources() -> str:
    folders = ("tamis", "curate", "train", "evaluate", "reports")
    return "\n".join(f.read_text(encoding="utf-8") for d in folders for f in sorted((ROOT / d).rglob("*.py")))


def test_every_message_of_troubleshooting_is_written_somewhere_in_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[0].lstrip("| ") for line in page.splitlines() if line.startswith("| `")]
    quoted = [q for row in rows for q in re.findall(r"`([^`]+)`", row)]
    text = sources()
    assert len(quoted) > 25
    lost = [q for q in quoted if not all(part.strip() in text for part in re.split(r"\.\.\.", q) if part.strip())]
    assert not lost
