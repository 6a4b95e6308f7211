"""Recipes: built-ins, round trip, scaling, and what is said of mistakes."""

from pathlib import Path

import pytest

from facesyn.dataset.recipe import LongTail, built_in, differences, format_recipe, load_recipe, parse_recipe
from facesyn.errors import UsageError

MINIMAL = 'name = "x"\nidentities = 4\nimages = 2\n'


def test_built_in_recipes_have_the_sizes_of_the_paper() -> None:
    sizes = {name: (load_recipe(name).identities, load_recipe(name).image_total) for name in built_in()}
    assert sizes == {
        "demo": (16, 96),
        "syn-mpie": (2_000, 364_000),
        "syn-casia": (10_000, 500_000),
        "syn-ms1m": (10_000, 500_000),
    }


@pytest.mark.parametrize("name", ["demo", "syn-mpie", "syn-casia", "syn-ms1m"])
def test_resolved_recipe_reads_back_the_same(name: str) -> None:
    recipe = load_recipe(name)
    assert parse_recipe(format_recipe(recipe), "copy") == recipe


def test_odd_values_read_back_the_same() -> None:
    text = (
        MINIMAL + '[prompts]\nbackend = "b"\n"odd key\\u007f" = ["\\"", "ü\\n\\u007f", 1e-5, true]\ninner = {a = 1}\n'
    )
    recipe = parse_recipe(text, "odd")
    assert parse_recipe(format_recipe(recipe), "copy") == recipe


def test_scaling_keeps_the_shape_of_a_long_tail() -> None:
    recipe = load_recipe("syn-ms1m").scaled(identities=100)
    assert isinstance(recipe.images, LongTail)
    assert (recipe.identities, recipe.image_total) == (100, 5_000)
    assert recipe.scaled(images=20).image_total == 2_000


def test_other_banks_change_nothing_else() -> None:
    recipe = load_recipe("syn-mpie")
    assert recipe.with_banks() == recipe
    rendered = recipe.with_banks("styles", "styles/edges")
    assert differences(recipe.model_dump(), rendered.model_dump()) == ["generate.edges", "transfer.references"]
    assert (rendered.transfer.references, rendered.generate.edges) == ("styles", "styles/edges")
    assert parse_recipe(format_recipe(rendered), "again") == rendered


def test_scaling_below_the_minimum_is_refused() -> None:
    with pytest.raises(UsageError, match="too few for 100 identities"):
        load_recipe("syn-ms1m").scaled(identities=100, images=5)


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        (MINIMAL.replace("identities", "identties"), "'identties'", "'identities'"),
        (MINIMAL + "[demographics]\ngender = ['a']\n", "'demographics.gender'", "'genders'"),
        (MINIMAL + "[generat]\nbackend = 'x'\n", "'generat'", "'generate'"),
        (MINIMAL.replace("images = 2", "images = {total = 9, minimun = 1}"), "'images.minimun'", "'minimum'"),
    ],
)
def test_a_typo_is_named_with_its_file_and_the_near_key(text: str, key: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_recipe(text, "my.toml")
    assert "my.toml" in str(caught.value) and key in str(caught.value)
    assert caught.value.hint is not None and f"Did you mean {near}?" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "not valid TOML"),
        (MINIMAL.replace("= 4", "= 0"), "identities"),
        (MINIMAL.replace("= 2", "= true"), "images"),
        (MINIMAL.replace("= 4", "= '4'"), "identities"),
        (MINIMAL.replace('name = "x"', ""), "lacks the key 'name'"),
        (MINIMAL + "[demographics]\nage_intervals = ['12-20']\n", "adults only"),
        (MINIMAL + "[demographics.weights]\nAfrikan = 2\n", "Afrikan"),
    ],
)
def test_a_bad_value_is_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_recipe(text, "my.toml")
    assert "my.toml" in str(caught.value) and said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_is_answered_with_the_near_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe("syn-casai")
    assert caught.value.hint is not None and "'syn-casia'" in caught.value.hint


def test_differences_name_dotted_keys() -> None:
    recipe = load_recipe("demo")
    other = parse_recipe(format_recipe(recipe).replace('model = "mini"\n\n[transfer]', "\n[transfer]"), "other")
    assert differences(recipe.model_dump(), other.model_dump()) == ["generate.model"]
    changed = recipe.scaled(images=7, seed=1)
    assert differences(recipe.model_dump(), changed.model_dump()) == ["images", "seed"]
