"""The recipe says what is wrong, where, and what was probably meant."""

import pytest

from tamis.errors import RecipeError
from tamis.recipe import Recipe, Size, parse_size

MINIMAL = {"name": "x", "data": {"path": "a.jsonl"}}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (1000, Size("rows", 1000)),
        ("1k", Size("rows", 1000)),
        ("200k tokens", Size("tokens", 200_000)),
        ("10%", Size("share", 0.1)),
        ("1_500 rows", Size("rows", 1500)),
    ],
)
def test_a_size_is_rows_tokens_or_a_share(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["0", "-5", "ten", "120%", True])
def test_a_senseless_size_is_refused(text):
    with pytest.raises(ValueError):
        parse_size(text)


def test_an_unknown_key_names_the_closest_key_and_its_line(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("name: x\ndata:\n  path: a.jsonl\ncurate:\n  selct: {size: 10}\n")
    with pytest.raises(RecipeError) as error:
        Recipe.load(file)
    assert "did you mean 'select'?" in str(error.value)
    assert f"{file}:5:curate.selct" in str(error.value)


def test_a_misspelt_choice_is_suggested_too():
    with pytest.raises(RecipeError, match="did you mean 'alpaca'"):
        Recipe.check({**MINIMAL, "data": {"path": "a", "format": "alpca"}})


def test_paths_are_relative_to_the_recipe_not_to_the_working_folder(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("name: x\ndata: {path: rows.jsonl}\ngate: policy.yaml\n")
    recipe = Recipe.load(file)
    assert recipe.data.path == str(tmp_path / "rows.jsonl")
    assert recipe.gate == str(tmp_path / "policy.yaml")


def test_a_recipe_survives_being_written_and_read(tmp_path):
    recipe = Recipe.check({**MINIMAL, "curate": {"select": {"size": "10%"}}, "evaluate": {"systems": ["base"]}})
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.dump())
    assert Recipe.load(file).curate == recipe.curate


def test_stages_do_not_share_random_streams():
    recipe = Recipe.check(MINIMAL)
    assert recipe.seed_for("train") != recipe.seed_for("select")
    assert recipe.seed_for("train") == Recipe.check(MINIMAL).seed_for("train")
