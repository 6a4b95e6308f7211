"""Demographic cells (ethnicity × gender × age interval) and plans with exact quotas. Knows no prompt or image.

Ethnicity and gender are requested appearance categories, free words a user may replace; they are never a finding
about anyone.
"""

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, product

from facesyn.errors import UsageError
from facesyn.seeds import derive_seed

MINIMUM_AGE = 18

DEFAULT_ETHNICITIES = ("African", "East Asian", "Caucasian", "South Asian")
DEFAULT_GENDERS = ("female", "male")
DEFAULT_AGE_INTERVALS = ("18-29", "30-44", "45-59", "60-80")

_INTERVAL = re.compile(r"(\d{1,3})-(\d{1,3})")


@dataclass(frozen=True, order=True)
class AgeInterval:
    """Ages in years, both ends included; written `18-29`. Never under 18."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low < MINIMUM_AGE:
            raise UsageError(f"Age interval {self} starts under {MINIMUM_AGE}; facesyn makes adults only.")
        if self.high < self.low:
            raise UsageError(f"Age interval {self} ends before it starts.")
        if self.high > 120:
            raise UsageError(f"Age interval {self} ends after 120 years.")

    @classmethod
    def parse(cls, text: str) -> "AgeInterval":
        match = _INTERVAL.fullmatch(text.strip())
        if not match:
            raise UsageError(f"Age interval {text!r} is not two ages in years.", hint="Write it as 18-29.")
        return cls(int(match[1]), int(match[2]))

    def __contains__(self, age: int) -> bool:
        return self.low <= age <= self.high

    def __str__(self) -> str:
        return f"{self.low}-{self.high}"


@dataclass(frozen=True, order=True)
class Cell:
    """t_i: what is asked of one identity."""

    ethnicity: str
    gender: str
    age_interval: AgeInterval

    @property
    def categories(self) -> tuple[str, str, AgeInterval]:
        return self.ethnicity, self.gender, self.age_interval

    def __str__(self) -> str:
        return " / ".join(map(str, self.categories))


@dataclass(frozen=True)
class Demographics:
    """The categories a dataset is spread over, with relative weights per category (1 where none is given).

    A cell's weight is the product of its categories' weights; weight 0 leaves a category out.
    """

    ethnicities: tuple[str, ...] = DEFAULT_ETHNICITIES
    genders: tuple[str, ...] = DEFAULT_GENDERS
    age_intervals: tuple[AgeInterval, ...] = tuple(map(AgeInterval.parse, DEFAULT_AGE_INTERVALS))
    weights: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for name, values in (
            ("ethnicity", self.ethnicities),
            ("gender", self.genders),
            ("age interval", self.age_intervals),
        ):
            if not values:
                raise UsageError(f"A plan needs at least one {name}.")
            if len(set(values)) != len(values):
                raise UsageError(f"The same {name} is listed twice: {', '.join(map(str, values))}.")
        ordered = sorted(self.age_intervals)
        for before, after in zip(ordered, ordered[1:], strict=False):
            if after.low <= before.high:
                raise UsageError(f"Age intervals {before} and {after} overlap.")
        known = {*self.ethnicities, *self.genders, *map(str, self.age_intervals)}
        for category, weight in self.weights:
            if category not in known:
                raise UsageError(
                    f"Weight given for {category!r}, which is no category of this plan.",
                    hint=f"Categories are {', '.join(sorted(known))}.",
                )
            if not 0 <= weight < float("inf"):
                raise UsageError(f"The weight of {category!r} must be a number of 0 or more, not {weight}.")

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, ethnicity varying slowest."""
        return tuple(Cell(*parts) for parts in product(self.ethnicities, self.genders, self.age_intervals))

    def quotas(self, total: int, present: Sequence[Cell] = ()) -> dict[Cell, int]:
        """How many of `total` identities each cell gets, by largest remainders; sums to `total` exactly.

        With identities `present` already, no cell gets fewer than it has. Of equal remainders, the cell goes first
        whose categories, then whose pairs of categories, got least so far: 16 identities over 32 equal cells are
        balanced in every category, and gender is not tied to ethnicity.
        """
        weights = dict(self.weights)

        def weight(cell: Cell) -> Fraction:
            names = (cell.ethnicity, cell.gender, str(cell.age_interval))
            parts = [Fraction(str(weights.get(name, 1))) for name in names]
            return parts[0] * parts[1] * parts[2]

        shares = {cell: weight(cell) for cell in self.cells}
        whole = sum(shares.values())
        if whole == 0:
            raise UsageError("Every cell of the plan has weight 0.")
        exact = {cell: total * share / whole for cell, share in shares.items()}
        quotas = dict.fromkeys(self.cells, 0) | dict(count_cells(present))
        whole_shares = {cell: max(quotas[cell], int(value)) for cell, value in exact.items()}
        if sum(whole_shares.values()) <= total:
            quotas = whole_shares
        given: Counter[object] = Counter()

        def give(cell: Cell) -> None:
            given.update(cell.categories)
            given.update(combinations(cell.categories, 2))

        for cell in self.cells:
            if quotas[cell] > exact[cell]:
                give(cell)
        for _ in range(total - sum(quotas.values())):
            best = min(
                self.cells,
                key=lambda cell: (
                    quotas[cell] - exact[cell],
                    sum(given[category] for category in cell.categories),
                    sum(given[pair] for pair in combinations(cell.categories, 2)),
                ),
            )
            quotas[best] += 1
            give(best)
        return quotas

    def plan(self, total: int, seed: int, present: Sequence[Cell] = ()) -> list[Cell]:
        """The cells of `total` identities with exact quotas, less those `present` already, in an order shuffled by
        `seed`, so that any prefix is roughly balanced.

        Rounds of one identity per open cell, each round shuffled on its own.
        """
        if total < 1:
            raise UsageError(f"A plan needs at least one identity, not {total}.")
        left = self.quotas(total, present)
        for cell in present:
            left[cell] -= 1
        rng = random.Random(derive_seed(seed, "plan", "order", len(present)))
        order: list[Cell] = []
        while len(order) < total - len(present):
            open_cells = [cell for cell in self.cells if left[cell]]
            rng.shuffle(open_cells)
            order.extend(open_cells)
            for cell in open_cells:
                left[cell] -= 1
        return order


def count_cells(cells: Sequence[Cell]) -> Mapping[Cell, int]:
    """How often each cell occurs."""
    counts: dict[Cell, int] = {}
    for cell in cells:
        counts[cell] = counts.get(cell, 0) + 1
    return counts
