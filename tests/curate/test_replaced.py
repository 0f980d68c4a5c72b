"""A complete curation stays until another is complete in its place."""

import json

import pytest
import yaml

from tamis.curate import pipeline
from tamis.recipe import Recipe
from tamis.run import Run
from tests.tamis.calling import tamis

ROWS = [
    {"prompt": f"Where is parcel number {n} of {who}?", "completion": who} for n in range(6) for who in ("Ann", "Bo")
]


@pytest.fixture
def curated(tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    assert write(tmp_path, select={"size": 4}).code == 0
    return tmp_path


def write(folder, embedder="lsa", **curation):
    """Curate by a recipe of these settings, as it is typed."""
    recipe = {"name": "r", "data": {"path": "rows.jsonl"}, "embedder": embedder, "curate": curation}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return tamis("curate", str(folder / "recipe.yaml"), "--run", str(folder / "run"), "--quiet")


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def test_a_changed_recipe_that_fails_leaves_the_run_as_it_was(curated):
    before = contents(curated / "run" / "curate"), (curated / "run" / "recipe.yaml").read_bytes()

    done = write(curated, embedder=str(curated / "no-such-model"))

    assert (done.code, "cannot be loaded" in done.err) == (2, True), done.err
    assert (contents(curated / "run" / "curate"), (curated / "run" / "recipe.yaml").read_bytes()) == before
    assert pipeline.stage_of(Run(curated / "run"), Recipe.of_run(curated / "run")).complete()
    assert tamis("why", str(curated / "run"), "rows.jsonl:1").code == 0


def test_a_changed_recipe_that_ends_takes_the_place_and_leaves_nothing_beside_it(curated):
    write(curated, embedder=str(curated / "no-such-model"))

    assert write(curated, select={"size": 5}).code == 0

    funnel = json.loads((curated / "run" / "curate" / "funnel.json").read_text())
    assert funnel["kept"] == 5
    assert [p.name for p in (curated / "run").iterdir() if "curate" in p.name] == ["curate"]


def test_a_process_killed_beside_complete_work_is_taken_up_where_the_recipe_is_the_same(curated, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.Work, "select", killed)
        with pytest.raises(KeyboardInterrupt):
            pipeline.curate(Run(curated / "run"), changed(curated, 6), quiet=True)
    assert json.loads((curated / "run" / "curate" / "funnel.json").read_text())["kept"] == 4

    assert pipeline.curate(Run(curated / "run"), changed(curated, 6), quiet=True)["kept"] == 6
    assert pipeline.curate(Run(curated / "run"), changed(curated, 6), quiet=True)["skipped"]


def changed(folder, size):
    return Recipe.of_run(folder / "run").changed({"curate.select.size": size})
