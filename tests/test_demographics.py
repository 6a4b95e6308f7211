"""Cells, quotas and plans."""

from collections import Counter
from itertools import combinations

import pytest

from facesyn.demographics import AgeInterval, Cell, Demographics, count_cells
from facesyn.errors import UsageError


def test_the_default_plan_is_spread_equally_over_32_cells() -> None:
    counts = count_cells(Demographics().plan(64, seed=1))
    assert len(counts) == 32 and set(counts.values()) == {2}


@pytest.mark.parametrize("total", [1, 31, 32, 33, 100, 1000])
def test_quotas_are_exact_for_any_total(total: int) -> None:
    demographics = Demographics()
    quotas = demographics.quotas(total)
    assert sum(quotas.values()) == total
    assert max(quotas.values()) - min(quotas.values()) <= 1
    assert dict(count_cells(demographics.plan(total, seed=5))) == {cell: n for cell, n in quotas.items() if n}


def test_weights_multiply_and_zero_leaves_out() -> None:
    demographics = Demographics(
        ethnicities=("African", "East Asian"),
        genders=("female", "male"),
        age_intervals=(AgeInterval(18, 29),),
        weights=(("African", 3), ("male", 0)),
    )
    quotas = {(cell.ethnicity, cell.gender): count for cell, count in demographics.quotas(40).items()}
    assert quotas == {
        ("African", "female"): 30,
        ("African", "male"): 0,
        ("East Asian", "female"): 10,
        ("East Asian", "male"): 0,
    }


def test_a_plan_is_fixed_by_its_seed_and_any_prefix_is_balanced() -> None:
    demographics = Demographics()
    plan = demographics.plan(96, seed=7)
    assert plan == demographics.plan(96, seed=7)
    assert plan != demographics.plan(96, seed=8)
    for rounds in (1, 2):
        assert set(count_cells(plan[: 32 * rounds]).values()) == {rounds}


def test_categories_are_the_users() -> None:
    demographics = Demographics(("Andean",), ("nonbinary",), (AgeInterval.parse("20-25"),))
    assert demographics.plan(1, seed=0) == [Cell("Andean", "nonbinary", AgeInterval(20, 25))]


@pytest.mark.parametrize("text", ["17-20", "0-99", "30-20", "18-121", "18", "old", "18–29"])
def test_intervals_that_are_not_adults_or_not_intervals_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        AgeInterval.parse(text)


@pytest.mark.parametrize(
    "arguments",
    [
        {"ethnicities": ()},
        {"genders": ("male", "male")},
        {"age_intervals": (AgeInterval(18, 30), AgeInterval(30, 40))},
        {"weights": (("Africn", 2.0),)},
        {"weights": (("African", -1.0),)},
        {"weights": (("African", float("nan")),)},
    ],
)
def test_plans_that_make_no_sense_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Demographics(**arguments)  # type: ignore[arg-type]


def test_a_plan_without_any_weight_or_identity_is_refused() -> None:
    with pytest.raises(UsageError, match="weight 0"):
        Demographics(genders=("male",), weights=(("male", 0),)).plan(4, seed=0)
    with pytest.raises(UsageError, match="at least one identity"):
        Demographics().plan(0, seed=0)


@pytest.mark.parametrize("total", [8, 16, 24, 40, 48])
def test_half_filled_plans_do_not_tie_one_category_to_another(total: int) -> None:
    given: Counter[tuple[object, object]] = Counter()
    for cell, quota in Demographics().quotas(total).items():
        for pair in combinations(cell.categories, 2):
            given[pair] += quota
    for first, second in (("ethnicities", "genders"), ("ethnicities", "age_intervals"), ("genders", "age_intervals")):
        counts = [given[a, b] for a in getattr(Demographics(), first) for b in getattr(Demographics(), second)]
        assert max(counts) - min(counts) <= 1
