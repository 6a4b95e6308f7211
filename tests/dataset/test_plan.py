"""Plans: exact counts and quotas, choice of references, independence of everything but the seed."""

import random
from collections import Counter
from pathlib import Path

import pytest

from facesyn.banks import BankPicture, bank_folder, choose, read_bank
from facesyn.dataset.plan import batches, image_counts, make_plan
from facesyn.dataset.recipe import LongTail, Recipe, load_recipe
from facesyn.records import PromptRow
from facesyn.stages.transfers import RandomPairs, SourceFace, image_name, transfer_seed
from facesyn.strata import stratify

BANK = [BankPicture(f"{i}.png", Path(f"{i}.png"), {"gender": ("female", "male")[i % 2]}) for i in range(10)]


def prompts_for(recipe: Recipe) -> list[PromptRow]:
    cells = recipe.demographics.to_demographics().plan(recipe.identities, recipe.seed)
    return [
        PromptRow(
            id=f"{number:06d}",
            ethnicity=cell.ethnicity,
            gender=cell.gender,
            age_interval=str(cell.age_interval),
            prompt="portrait",
            seed=number,
        )
        for number, cell in enumerate(cells)
    ]


def test_long_tail_has_exactly_its_total_and_minimum() -> None:
    recipe = load_recipe("syn-ms1m")
    assert isinstance(recipe.images, LongTail)
    counts = image_counts(recipe)
    assert (len(counts), sum(counts)) == (10_000, 500_000)
    assert min(counts) >= recipe.images.minimum
    assert max(counts) > 10 * sorted(counts)[5_000]
    assert counts == image_counts(recipe)
    assert counts != sorted(counts, reverse=True)


@pytest.mark.parametrize("identities", [1, 3, 37])
def test_long_tail_total_is_exact_at_any_size(identities: int) -> None:
    recipe = load_recipe("syn-ms1m").scaled(identities=identities)
    assert sum(image_counts(recipe)) == recipe.image_total == 50 * identities


def test_plan_has_exact_quotas_and_full_shards() -> None:
    recipe = load_recipe("demo").scaled(identities=64)
    plan = make_plan(recipe, prompts_for(recipe), BANK, BANK)
    cells = Counter((row.ethnicity, row.gender, row.age_interval) for row in plan)
    assert len(cells) == 32 and set(cells.values()) == {2}
    assert Counter(row.shard for row in plan) == {shard: recipe.shard_size for shard in range(32)}
    assert {len(row.references) for row in plan} == {6}


def test_sixteen_identities_are_balanced_in_every_category() -> None:
    plan = make_plan(load_recipe("demo"), prompts_for(load_recipe("demo")), BANK, BANK)
    assert set(Counter(row.ethnicity for row in plan).values()) == {4}
    assert set(Counter(row.gender for row in plan).values()) == {8}
    assert set(Counter(row.age_interval for row in plan).values()) == {4}


def test_plan_depends_on_the_seed_alone() -> None:
    recipe = load_recipe("demo")
    plan = make_plan(recipe, prompts_for(recipe), BANK, BANK)
    assert plan == make_plan(recipe, prompts_for(recipe), BANK, BANK)
    other = recipe.scaled(seed=1)
    assert [row.references for row in plan] != [r.references for r in make_plan(other, prompts_for(recipe), BANK, BANK)]


def test_references_and_seeds_are_those_of_the_transfer_stage() -> None:
    recipe = load_recipe("demo")
    prompts = prompts_for(recipe)
    sources = [SourceFace(row.id, Path(f"{row.id}.png"), {"gender": row.gender}) for row in prompts]
    planned = [
        (image_name(row.id, number), reference, transfer_seed(recipe.seed, row.id, number))
        for row in make_plan(recipe, prompts, BANK, BANK)
        for number, reference in enumerate(row.references)
    ]
    pairs = RandomPairs(sources, BANK, 6, recipe.seed).pairings({})
    by_hand = [(pair.output, pair.reference_name, pair.seed) for pair in pairs]
    assert planned == by_hand


def test_identity_of_a_larger_plan_keeps_its_references() -> None:
    small, large = load_recipe("demo"), load_recipe("demo").scaled(identities=32)
    prompts = prompts_for(large)
    first = make_plan(small, prompts[:16], BANK, BANK)
    assert [row.references for row in first] == [r.references for r in make_plan(large, prompts, BANK, BANK)[:16]]


def test_references_do_not_repeat_until_the_bank_is_used_up() -> None:
    names = [picture.name for picture in choose(BANK, 23, "female", random.Random(3))]
    assert len(set(names[:10])) == len(set(names[10:20])) == 10
    assert len(set(names[20:])) == 3


def test_references_of_the_same_gender_come_first() -> None:
    chosen = choose(BANK, 7, "male", random.Random(3))
    assert [picture.labels["gender"] for picture in chosen] == ["male"] * 5 + ["female"] * 2


def test_the_multi_pie_recipe_is_a_grid_over_its_bank() -> None:
    recipe = load_recipe("syn-mpie").scaled(identities=4)
    bank = read_bank(bank_folder("mini", "references"))
    strata = stratify(bank, recipe.transfer.strata, recipe.transfer.quotas)
    of = {p.name: stratum.categories for stratum in strata for p in stratum.pictures}
    for row in make_plan(recipe, prompts_for(recipe), bank, bank):
        cells = Counter(of[name] for name in row.references)
        own = {of[p.name] for p in bank if p.labels["gender"] == row.gender}
        share = 182 / len(own)
        assert set(cells) == own and set(cells.values()) <= {int(share), int(share) + 1}


def test_batches_cover_everything_once() -> None:
    assert [list(range(7))[part] for part in batches(7, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
