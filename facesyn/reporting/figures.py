"""The numbers of a report, read from the rows of a run folder one person at a time. Opens no picture, draws nothing.

Only what rows hold is told: a similarity nobody measured has no histogram, a gate that was open no limit.
"""

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from facesyn.dataset.finish import Shortfall
from facesyn.dataset.plan import PlanRow
from facesyn.dataset.recipe import Recipe, parse_recipe
from facesyn.dataset.run_folder import RunFolder
from facesyn.dataset.shard import ImageRow, RejectedRow, SourceRow
from facesyn.errors import RunError
from facesyn.evaluation.dataset import chi_squared
from facesyn.labelled import CELL
from facesyn.records import RowType, parse_rows, read_rows

BINS = 48
EXAMPLES = 200

CellName = tuple[str, str, str]
"""Ethnicity, gender, age interval, as asked."""


@dataclass(frozen=True)
class Person:
    """One identity of the dataset: what was planned, the source if there is one, the images the gates let in."""

    plan: PlanRow
    source: SourceRow | None
    images: list[ImageRow]

    @property
    def cell(self) -> CellName:
        return cell_of(self.plan)


@dataclass
class CellCount:
    """Of one cell: identities and images, asked and made."""

    name: CellName
    identities_asked: int = 0
    identities: int = 0
    images_asked: int = 0
    images: int = 0


@dataclass(frozen=True)
class Limit:
    """A limit of a gate, and in words what it is."""

    value: float
    label: str


@dataclass
class Figure:
    """One figure of many pictures: those the gates let in, those they refused, and the limits in force."""

    title: str
    about: str
    limits: list[Limit]
    low: float | None = None
    high: float | None = None
    accepted: "array[float]" = field(default_factory=lambda: array("f"))
    refused: "array[float]" = field(default_factory=lambda: array("f"))

    @property
    def span(self) -> tuple[float, float]:
        """The axis: the fixed one, else from 0 to a round number past the 99.5 % quantile and the limits."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        values = np.concatenate([np.array(self.accepted), np.array(self.refused)])
        high = max([float(np.quantile(values, 0.995)), *(limit.value * 1.2 for limit in self.limits)])
        step = 10.0 ** np.floor(np.log10(max(high, 1e-6) / 4))
        return 0.0, float(4 * step * np.ceil(max(high, 1e-6) / 4 / step))

    def counts(self) -> tuple[list[int], list[int]]:
        """Per bin the accepted and the refused; what lies beyond the axis counts in its last bin."""
        low, high = self.span
        found = []
        for values in (self.accepted, self.refused):
            inside = np.clip(np.array(values, dtype=np.float64), low, high)
            found.append([int(count) for count in np.histogram(inside, bins=BINS, range=(low, high))[0]])
        return found[0], found[1]

    def quantiles(self) -> tuple[float, float, float] | None:
        """The 5 %, 50 % and 95 % quantiles of the accepted; None where there are none."""
        if not self.accepted:
            return None
        low, middle, high = np.quantile(np.array(self.accepted), (0.05, 0.5, 0.95))
        return float(low), float(middle), float(high)


@dataclass
class Numbers:
    """Everything about a dataset that a report or card says, but for its pictures."""

    recipe: Recipe
    provenance: dict[str, Any]
    cells: dict[CellName, CellCount]
    figures: dict[str, Figure]
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(stage, gate) → how often that gate refused a picture; one picture may be refused by several."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Stage → refused pictures."""
    examples: list[RejectedRow] = field(default_factory=list)
    """The first EXAMPLES refused pictures."""
    shortfalls: list[Shortfall] = field(default_factory=list)

    @property
    def identities(self) -> int:
        return sum(cell.identities for cell in self.cells.values())

    @property
    def images(self) -> int:
        return sum(cell.images for cell in self.cells.values())

    def add(self, person: Person) -> None:
        """Count a person in."""
        cell = self.cells[person.cell]
        cell.identities += person.source is not None
        cell.images += len(person.images)
        for row in (person.source, *person.images):
            if row is not None:
                for gate, value in (row.gates or {}).items():
                    self._note(gate, value, "accepted")
        for image in person.images:
            for name, cosine in (("source", image.source_similarity), ("reference", image.reference_similarity)):
                if cosine is not None:
                    self.figures[name].accepted.append(cosine)

    def add_refused(self, row: RejectedRow) -> None:
        """Count in a picture that the gates refused."""
        self.refusals[row.stage] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(row)
        self.refused.update((row.stage, gate) for gate in row.rejected_by)
        for gate, value in row.gates.items():
            self._note({"identity": "source", "leakage": "reference"}.get(gate, gate), value, "refused")

    def balance(self) -> dict[str, dict[str, float]]:
        """χ² of the identities made against those asked, over cells and over each category; see `chi_squared`."""
        found = {"cells": self._chi([cell.name for cell in self.cells.values()], list(self.cells.values()))}
        for index, key in enumerate(CELL):
            found[key] = self._chi([cell.name[index] for cell in self.cells.values()], list(self.cells.values()))
        return {key: value for key, value in found.items() if value}

    def _chi(self, names: list[Any], cells: list[CellCount]) -> dict[str, float]:
        asked: Counter[Any] = Counter()
        made: Counter[Any] = Counter()
        for name, cell in zip(names, cells, strict=True):
            asked[name] += cell.identities_asked
            made[name] += cell.identities
        wanted = [name for name, count in asked.items() if count]
        if not made.total() or len(wanted) < 2:
            return {}
        return chi_squared([made[name] for name in wanted], [asked[name] for name in wanted])

    def _note(self, gate: str, value: float, kind: str) -> None:
        figure = self.figures.get(gate)
        # The first of a set has nobody it could resemble: its figure is no measurement.
        if figure is not None and (gate, value) not in (("unique", -1.0), ("distance", 255.0)):
            getattr(figure, kind).append(value)


def cell_of(row: PlanRow | SourceRow | ImageRow) -> CellName:
    return row.ethnicity, row.gender, row.age_interval


def open_run(path: Path) -> tuple[RunFolder, Recipe]:
    """The finished run folder at `path`. Raises RunError where it is none, or not finished."""
    folder = RunFolder(path)
    if not folder.recipe.is_file():
        raise RunError(f"{path} is no dataset of facesyn: it has no recipe.toml.", hint="Build one first.")
    recipe = parse_recipe(folder.recipe.read_text(encoding="utf-8"), str(folder.recipe))
    for file in (folder.plan, folder.metadata, folder.source_rows, folder.provenance):
        if not file.is_file():
            raise RunError(
                f"The dataset in {path} is not finished: {file.relative_to(path)} is missing.",
                hint="Run the same `facesyn dataset build` command again; it goes on where it was.",
            )
    return folder, recipe


def begin(folder: RunFolder, recipe: Recipe) -> Numbers:
    """The numbers of a dataset before anybody is counted: what was asked, what was refused, where the limits are."""
    cells: dict[CellName, CellCount] = {
        (cell.ethnicity, cell.gender, str(cell.age_interval)): CellCount(
            (cell.ethnicity, cell.gender, str(cell.age_interval))
        )
        for cell in recipe.demographics.to_demographics().cells
    }
    for row in stream(folder.plan, PlanRow):
        cell = cells[cell_of(row)]
        cell.identities_asked += 1
        cell.images_asked += len(row.references)
    provenance = json.loads(folder.provenance.read_text(encoding="utf-8"))
    numbers = Numbers(recipe, provenance, cells, _figures(recipe, provenance))
    if folder.rejected.is_file():
        for rejected in stream(folder.rejected, RejectedRow):
            numbers.add_refused(rejected)
    if folder.shortfalls.is_file():
        numbers.shortfalls = read_rows(folder.shortfalls, Shortfall)
    return numbers


def people(folder: RunFolder) -> Iterator[Person]:
    """Everybody planned, in the order of the images' rows, then those without an image; one at a time in memory.

    Raises RunError where rows name somebody who was not planned, or one person's rows are apart.
    """
    plan = {row.id: row for row in stream(folder.plan, PlanRow)}
    sources = {row.identity: row for row in stream(folder.source_rows, SourceRow)}
    for identity, rows in groupby(stream(folder.metadata, ImageRow), key=lambda row: row.identity):
        if identity not in plan:
            raise RunError(f"{folder.metadata} has rows of {identity!r} apart, or of somebody who was not planned.")
        yield Person(plan.pop(identity), sources.pop(identity, None), list(rows))
    for row in plan.values():
        yield Person(row, sources.pop(row.id, None), [])


def stream(path: Path, kind: type[RowType]) -> Iterator[RowType]:
    """The rows of a file, read as they are asked for."""
    with path.open(encoding="utf-8") as lines:
        yield from parse_rows(lines, kind, str(path))


def _figures(recipe: Recipe, provenance: dict[str, Any]) -> dict[str, Figure]:
    gates, found = recipe.gates, provenance.get("gates", {})

    def calibrated(gate: str, words: str) -> Iterable[Limit]:
        limit = found.get(gate)
        return [Limit(limit["threshold"], f"{words} {limit['threshold']:.3f} (FMR {limit['fmr']:g})")] if limit else []

    def least(value: float, closed: bool) -> list[Limit]:
        return [Limit(value, f"at least {value:g}")] if gates.enabled and closed else []

    identity = list(calibrated("identity", "at least"))
    identity += [Limit(gates.copy_limit, f"at most {gates.copy_limit:g}")] if identity else []
    turn = [Limit(gates.yaw, f"at most {gates.yaw:g}°")] if gates.enabled and gates.frontal else []
    return {
        "source": Figure("Similarity to the source", "Cosine of an image and its own source face.", identity, -1, 1),
        "reference": Figure(
            "Similarity to the style reference",
            "Cosine of an image and the picture whose style it took.",
            list(calibrated("leakage", "at most")),
            -1,
            1,
        ),
        "unique": Figure(
            "Similarity to the nearest other person",
            "Cosine of a source face and the most similar one accepted before it.",
            list(calibrated("unique", "at most")),
            -1,
            1,
        ),
        "turn": Figure("Turn of sources", "The greater of |yaw| and |pitch|, in degrees.", turn),
        "sharpness": Figure(
            "Sharpness", "Variance of the luminance's Laplacian at 128 pixels.", least(gates.sharpness, gates.quality)
        ),
        "contrast": Figure(
            "Contrast", "Standard deviation of the luminance, of 255.", least(gates.contrast, gates.quality)
        ),
        "distance": Figure(
            "Difference to the nearest image of the same person",
            "Mean difference, of 255, at 32 pixels.",
            least(gates.distance, gates.duplicates),
        ),
    }


def shown_figures(numbers: Numbers) -> list[Figure]:
    """Those of which anything was measured."""
    return [figure for figure in numbers.figures.values() if figure.accepted or figure.refused]
