"""`make docs`: the pages are built, and a link that leads nowhere is found, whatever it looks like."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
assert _spec is not None
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)


def test_every_link_of_the_documentation_leads_somewhere(tmp_path, capsys):
    assert build.main([str(tmp_path)]) == 0, capsys.readouterr().err
    first = (tmp_path / "docs" / "README.html").read_text()
    assert 'href="quickstart.html"' in first
    assert ".md" not in "".join(part.split('"')[0] for part in first.split('href="')[1:])
    assert (tmp_path / "docs" / "report.png").is_file()
    assert "https://" not in first.split("<style>")[1].split("</style>")[0]


@pytest.fixture
def repository(tmp_path) -> Path:
    """A repository of two pages whose links are all right."""
    (tmp_path / "docs" / "guides").mkdir(parents=True)
    (tmp_path / "docs" / "a.png").write_bytes(b"x")
    (tmp_path / "README.md").write_text("# Top\n\n[docs](docs/README.md) ![a](docs/a.png)\n")
    (tmp_path / "docs" / "README.md").write_text(
        "# One\n\n## What `x` is: *this*\n\n## Twice\n\n## Twice\n\n"
        "[up](../README.md#top) [a](#what-x-is-this) [b](#twice-1) [web](https://example.org/x) [g][guide]\n\n"
        "[guide]: guides/b.md\n\n```\n[no link](nowhere.md)\n```\n"
    )
    (tmp_path / "docs" / "guides" / "b.md").write_text("# Guide\n\n| a |\n|---|\n| [back](../README.md) |\n")
    return tmp_path


def outcome(repository: Path, capsys) -> tuple[int, str]:
    code = build.main([str(repository / "out"), "--root", str(repository)])
    return code, capsys.readouterr().err


def test_what_is_right_is_right(repository, capsys):
    assert outcome(repository, capsys) == (0, "")
    built = (repository / "out" / "docs" / "README.html").read_text()
    assert '<h2 id="what-x-is-this">' in built
    assert '<h2 id="twice-1">' in built
    assert 'href="guides/b.html"' in built


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("[x](guides/c.md)", "guides/c.md: there is no such file"),
        ("[x](Guides/b.md)", "Guides/b.md: there is no such file"),
        ("![x](b.png)", "b.png: there is no such file"),
        ("[x](#nowhere)", "#nowhere: the page has no such heading"),
        ("[x](guides/b.md#what-x-is-this)", "the page has no such heading"),
        ("[x](#twice-2)", "the page has no such heading"),
        ("[x](../../etc/passwd)", "lies outside the repository"),
        ("[x](https://)", "no address of the web"),
        ("[x](file:///etc/passwd)", "[x](file:///etc/passwd): is no link"),
        ("[x](htps://example.org)", "no address of the web"),
        ("[x][unknown]", "[x][unknown]: is no link"),
        ("| a |\n|---|\n| [x](gone.md) |", "gone.md: there is no such file"),
    ],
)
def test_a_wrong_link_is_named_with_its_place(repository, capsys, wrong, why):
    page = repository / "docs" / "README.md"
    page.write_text(page.read_text() + f"\n{wrong}\n")
    code, said = outcome(repository, capsys)
    assert code == 1
    assert why in said
    assert said.startswith("docs/README.md:")
    assert len(said.splitlines()) == 1
