"""`tamis init`: what it writes is a recipe and a policy that Tamis itself accepts."""

import pytest

from tamis.errors import UserError
from tamis.evaluate.policy import load_policy
from tamis.recipe import Recipe
from tamis.starter import KINDS, write_starter


@pytest.mark.parametrize("kind", KINDS)
def test_recipe_and_policy_are_accepted(tmp_path, kind):
    written = write_starter(kind, tmp_path, "my tickets.jsonl", None)
    recipe = Recipe.load(tmp_path / "recipe.yaml")
    assert recipe.name == "my-tickets"
    assert recipe.evaluate.task.kind == kind
    assert recipe.eval.holdout == 0.1
    assert recipe.gate == str(tmp_path / "policy.yaml")
    assert {g.id for g in load_policy(recipe.gate).gates} == {"better", "floor", "speed"}
    assert [f.name for f in written] == ["recipe.yaml", "policy.yaml"]


def test_a_recipe_that_is_there_is_kept(tmp_path):
    (tmp_path / "policy.yaml").write_text("mine")
    with pytest.raises(UserError, match="there already") as caught:
        write_starter("classify", tmp_path, "data.jsonl", "eval.jsonl")
    assert "--force" in str(caught.value)
    assert (tmp_path / "policy.yaml").read_text() == "mine"
    assert not (tmp_path / "recipe.yaml").exists()
    write_starter("classify", tmp_path, "data.jsonl", "eval.jsonl", force=True)
    assert Recipe.load(tmp_path / "recipe.yaml").eval.paths == [str(tmp_path / "eval.jsonl")]


def test_a_misspelt_kind_names_the_closest(tmp_path):
    with pytest.raises(UserError, match="unknown kind") as caught:
        write_starter("clasify", tmp_path, "data.jsonl", None)
    assert "classify" in str(caught.value)
