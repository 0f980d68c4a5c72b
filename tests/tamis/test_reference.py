from pathlib import Path

from tamis.reference import recipe_reference


def test_the_recipe_reference_is_the_one_the_code_makes():
    file = Path(__file__).parents[2] / "docs" / "reference" / "recipe.md"
    assert file.read_text(encoding="utf-8") == recipe_reference()
