"""The card says what the kept rows are made of; a forbidden licence blocks."""

import json

import pytest

from tamis.curate import card
from tamis.curate.pipeline import curate
from tamis.errors import DataError, ExitCode
from tamis.recipe import Recipe
from tamis.run import Run

ROWS = [
    {"prompt": "Where is my parcel?", "completion": "track", "label": "track", "license": "MIT", "source": "web"},
    {
        "prompt": "Tôi muốn khóa thẻ ngay",
        "completion": "block",
        "label": "block",
        "license": "CC BY-NC 4.0",
        "source": "a|b`c",
    },
    {"prompt": "", "completion": "empty", "label": "other", "license": "cc-by-nc-4.0", "source": "web"},
    {"prompt": "Change my address please", "completion": "address", "label": "address"},
]


def run_on(tmp_path, **curation):
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in ROWS), encoding="utf-8")
    made = Recipe.check({"name": "c", "data": {"path": str(file)}, "embedder": "lsa", "curate": curation})
    run = Run(tmp_path / "run")
    curate(run, made, quiet=True)
    return run


@pytest.fixture
def page(tmp_path):
    run = run_on(tmp_path)
    return json.loads((run.curate / "card.json").read_text()), (run.curate / "card.md").read_text(encoding="utf-8")


def test_rows_of_each_source_licence_language_and_label_are_counted_read_and_kept(page):
    found, _ = page
    assert found["rows"] == {"read": 4, "kept": 3}
    assert found["sources"] == {
        "read": {"web": 2, "a|b`c": 1, "unknown": 1},
        "kept": {"a|b`c": 1, "unknown": 1, "web": 1},
    }
    assert found["licenses"]["read"] == {"CC BY-NC 4.0": 1, "MIT": 1, "cc-by-nc-4.0": 1, "unknown": 1}
    assert found["languages"]["kept"] == {"en": 2, "vi": 1}
    assert found["labels"]["read"]["other"] == 1
    assert "other" not in found["labels"]["kept"]
    assert found["embedder"] == "lsa"
    assert found["settings"]["rules"]["refusal"] is True


def test_the_page_is_whole_and_takes_no_name_from_the_data_for_markup(page):
    _, text = page
    assert text.startswith("# Data card: c\n\n**3 of 4 rows kept.**")
    assert "| `a/b'c` | 1 | 1 |" in text
    assert all(
        f"## {title}" in text for title in ("Sources", "Licences", "Languages", "Labels", "Personal data", "Settings")
    )
    table = [line for line in text.splitlines() if line.startswith("| score")]
    assert table == ["| score | `empty_prompt` | 1 |"]


def test_long_lists_are_cut_and_their_rest_is_counted():
    values = [f"label {i:03d}" for i in range(60)] + ["label 000", None]
    found = card.counts(values)
    assert len(found) == card.MOST + 1
    assert found["label 000"] == 2
    assert found["11 others"] == 11
    assert sum(found.values()) == len(values)


@pytest.mark.parametrize("spelling", ["cc-by-nc-4.0", "CC BY-NC 4.0", "cc-by-nc-*", "*-NC-*"])
def test_a_forbidden_licence_in_any_spelling_refuses_the_run(tmp_path, spelling):
    with pytest.raises(DataError, match="2 of 4 rows have a forbidden licence") as error:
        run_on(tmp_path, forbid_licenses=[spelling])
    assert error.value.exit_code == ExitCode.USAGE
    assert "in.jsonl:2" in str(error.value)
    assert "CC BY-NC 4.0: 1 rows; cc-by-nc-4.0: 1 rows" in str(error.value)


def test_a_refused_run_leaves_the_list_of_rows_and_nothing_of_the_data(tmp_path):
    with pytest.raises(DataError):
        run_on(tmp_path, forbid_licenses=["cc-by-nc-4.0"])
    folder = tmp_path / "run" / "curate"
    assert {p.name for p in folder.iterdir()} <= {"refused.json", "begun.json", "progress.json"}
    refused = json.loads((folder / "refused.json").read_text())
    assert [(r["line"], r["license"]) for r in refused["rows"]] == [(2, "CC BY-NC 4.0"), (3, "cc-by-nc-4.0")]


def test_licences_that_only_resemble_a_forbidden_one_pass(tmp_path):
    run = run_on(tmp_path, forbid_licenses=["cc-by-4.0", "cc-by-nc", "gpl-*"])
    assert json.loads((run.curate / "card.json").read_text())["forbidden_licenses"] == [
        "cc-by-4.0",
        "cc-by-nc",
        "gpl-*",
    ]
