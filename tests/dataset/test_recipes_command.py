"""`facesyn dataset recipes`: what it lists can be shown, started from, and built."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facesyn.dataset.recipe import built_in, load_recipe, parse_recipe

Run = Callable[..., Any]


def test_every_recipe_is_listed_with_its_shape(facesyn: Run) -> None:
    listed = {row["name"]: row for row in json.loads(facesyn("dataset", "recipes", "--json").stdout)}
    assert sorted(listed) == built_in()
    assert (listed["syn-mpie"]["identities"], listed["syn-mpie"]["images_per_identity"]) == (2000, "182")
    assert listed["syn-ms1m"]["images"] == 500_000 and "MS-Celeb-1M" in listed["syn-ms1m"]["description"]
    assert "syn-casia  10000" in facesyn("dataset", "recipes").stdout


def test_what_is_shown_is_the_recipe(facesyn: Run) -> None:
    for name in built_in():
        assert parse_recipe(facesyn("dataset", "recipes", "show", name).stdout, name) == load_recipe(name)
    result = facesyn("dataset", "recipes", "show", "syn-casio")
    assert result.exit_code == 2 and "Did you mean 'syn-casia'?" in result.stderr


def test_a_new_recipe_is_like_its_model_and_overwrites_nothing(facesyn: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    assert facesyn("dataset", "recipes", "new", "mine", "-o", file, "--like", "syn-casia").exit_code == 0
    assert load_recipe(str(file)) == load_recipe("syn-casia").model_copy(update={"name": "mine"})
    assert "# transferred images per identity" in file.read_text()
    result = facesyn("dataset", "recipes", "new", "other", "-o", file)
    assert result.exit_code == 2 and "is there already" in result.stderr and 'name = "mine"' in file.read_text()
    result = facesyn("dataset", "recipes", "new", "no name", "-o", tmp_path / "bad.toml")
    assert result.exit_code == 2 and not (tmp_path / "bad.toml").exists()
