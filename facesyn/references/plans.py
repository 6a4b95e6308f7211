"""What is to be rendered: people crossed with styles, Multi-PIE's grid, or one factor at a time. Draws nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from facesyn import registry
from facesyn.demographics import Cell, Demographics
from facesyn.errors import UsageError
from facesyn.references.expressions import MULTI_PIE, NAMES, sample_expression
from facesyn.references.lighting import FLASHES, flash_light
from facesyn.references.people import Identity, People
from facesyn.references.styles import FACTORS, Background, Camera, Style, Styles, reference_style
from facesyn.seeds import derive_seed

MULTI_PIE_CAMERAS = {
    "11_0": (-90.0, 0.0),
    "12_0": (-75.0, 0.0),
    "09_0": (-60.0, 0.0),
    "08_0": (-45.0, 0.0),
    "13_0": (-30.0, 0.0),
    "14_0": (-15.0, 0.0),
    "05_1": (0.0, 0.0),
    "05_0": (15.0, 0.0),
    "04_1": (30.0, 0.0),
    "19_0": (45.0, 0.0),
    "20_0": (60.0, 0.0),
    "01_0": (75.0, 0.0),
    "24_0": (90.0, 0.0),
    "08_1": (-45.0, 30.0),
    "19_1": (45.0, 30.0),
}
"""Azimuth and elevation in degrees. Thirteen stand at head height, 15° apart; two look down as surveillance cameras
do, how steeply is our guess. Which end of the row is on the picture's right is our reading too.
"""
_POOL = 60
"""Styles looked through per one that is wanted: few wear hats."""
_GREY: tuple[float, float, float] = (118, 122, 128)


@dataclass(frozen=True)
class Shot:
    """A picture to be made. `name` is its path without suffix; `facts` go into its labels as they are."""

    name: str
    identity: Identity
    style: Style
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Order:
    """What was asked for: `styles` for everybody, of which each person wears `per_identity`.

    `grid` is empty or `multi-pie`, with `expressions` by name. `vary` are factors to exchange one at a time, in
    `styles` ways each. A grid or factors take the place of random styles.
    """

    identities: int
    styles: int
    seed: int = 0
    per_identity: int | None = None
    grid: str = ""
    expressions: tuple[str, ...] = ("neutral",)
    vary: tuple[str, ...] = ()
    demographics: Demographics = field(default_factory=Demographics)

    def __post_init__(self) -> None:
        if self.grid not in ("", "multi-pie"):
            raise UsageError(
                f"There is no grid {self.grid!r}.", hint=registry.suggest(self.grid, ["multi-pie"], "Grids")
            )
        for name in self.expressions:
            if name not in NAMES:
                raise UsageError(f"There is no expression {name!r}.", hint=registry.suggest(name, NAMES, "Expressions"))
        for factor in self.vary:
            if factor not in FACTORS:
                raise UsageError(f"There is no factor {factor!r}.", hint=registry.suggest(factor, FACTORS, "Factors"))
        if self.grid and self.vary:
            raise UsageError("A grid and --vary exclude each other.", hint="Make two folders.")
        if self.per_identity is not None and self.per_identity > self.styles:
            raise UsageError(
                f"There are {self.styles} styles, too few for {self.per_identity} of them per person.",
                hint="Raise --styles or lower --per-identity.",
            )

    @property
    def shots_per_identity(self) -> int:
        """Pictures of each person, beside the one in the reference style."""
        if self.grid:
            return len(MULTI_PIE_CAMERAS) * len(FLASHES) * len(self.expressions)
        if self.vary:
            return len(self.vary) * self.styles
        return self.per_identity or self.styles


class Planner:
    """Turns an order into shots. A person's shots do not depend on who else is rendered, but for the shuffled cells."""

    def __init__(self, order: Order, people: People, styles: Styles):
        self.order = order
        self._people, self._styles = people, styles
        self._cells: Sequence[Cell] = order.demographics.plan(order.identities, order.seed)

    def identity(self, number: int) -> Identity:
        return self._people.identity(number, self._cells[number])

    def portrait(self, identity: Identity) -> Shot:
        """The person as a source face is shown."""
        return Shot(identity.name, identity, reference_style(identity))

    def shots(self, identity: Identity) -> Iterator[Shot]:
        """The person's pictures, in order, without the portrait."""
        if self.order.grid:
            yield from self._grid(identity)
        elif self.order.vary:
            yield from self._varied(identity)
        else:
            for place, number in enumerate(self._drawn(identity.number)):
                yield Shot(f"{identity.name}/{place:03d}", identity, self._styles.style(number, identity.cell.gender))

    def _drawn(self, number: int) -> list[int]:
        """The styles a person wears: all, or as many as asked, so that every style is worn about equally often."""
        total, wanted = self.order.styles, self.order.per_identity
        if wanted is None or wanted == total:
            return list(range(total))
        drawn: list[int] = []
        place = number * wanted
        while len(drawn) < wanted:
            turn, start = divmod(place, total)
            deck = np.random.default_rng(derive_seed(self.order.seed, "deck", str(turn))).permutation(total)
            for style in deck[start:]:
                place += 1
                if int(style) not in drawn:
                    drawn.append(int(style))
                if len(drawn) == wanted:
                    break
        return drawn

    def _grid(self, identity: Identity) -> Iterator[Shot]:
        plain = reference_style(identity)
        cells = product(self.order.expressions, MULTI_PIE_CAMERAS, FLASHES)
        for number, (expression, camera, flash) in enumerate(cells):
            azimuth, elevation = MULTI_PIE_CAMERAS[camera]
            rng = np.random.default_rng(
                derive_seed(self.order.seed, "grid expression", f"{identity.name}/{expression}")
            )
            weights = sample_expression(rng, expression).weights
            style = replace(
                plain,
                number=number,
                camera=Camera(plain.camera.distance, azimuth, elevation, camera),
                light=flash_light(flash),
                expression=replace(plain.expression, name=expression, weights=weights),
                background=Background("plain", 0, (_GREY,) * 4),
            )
            name = f"{identity.name}/{expression.replace(' ', '-')}_{camera}_{flash}"
            yield Shot(name, identity, style, {"flash": flash})

    def _varied(self, identity: Identity) -> Iterator[Shot]:
        """One factor exchanged at a time, all others as in the reference style.

        Styles in which the factor is as in the reference style (most wear no glasses) are passed over where others are
        left.
        """
        plain = reference_style(identity)
        for factor in self.order.vary:
            pool = (self._styles.style(number, identity.cell.gender) for number in range(_POOL * self.order.styles))
            unlike = (style for style in pool if getattr(style, factor) != getattr(plain, factor))
            for level in range(self.order.styles):
                other = next(unlike, None) or self._styles.style(level, identity.cell.gender)
                style = replace(
                    plain.exchanged(factor, other),
                    number=FACTORS.index(factor) * self.order.styles + level,
                )
                facts = {"varied": factor, "level": level}
                yield Shot(f"{identity.name}/{factor}_{level:03d}", identity, style, facts)


def multi_pie_expressions(names: Sequence[str]) -> tuple[str, ...]:
    """Expressions by name; `all` stands for the six of Multi-PIE."""
    return MULTI_PIE if list(names) == ["all"] else tuple(names)
