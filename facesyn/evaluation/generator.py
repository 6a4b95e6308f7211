"""How a face generator does on prompts whose answers are known. Knows no generator, classifier or encoder by name."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from facesyn.demographics import AgeInterval, Cell
from facesyn.evaluation.attributes import hits
from facesyn.evaluation.measures import edge_f1, frechet_distance
from facesyn.evaluation.pairs import bootstrap
from facesyn.labelled import CELL, LabelledFaces, asked_of
from facesyn.protocols import AttributeClassifier, FaceGenerator, PromptWriter
from facesyn.records import PromptRow
from facesyn.references.edges import edge_map
from facesyn.seeds import derive_seed

CellWords = tuple[str, str, str]
FACTORS = ("prompt", "edges", "noise")
LEVELS = 3
"""Prompts, edge maps and noises that are crossed within a cell."""


@dataclass(frozen=True)
class Made:
    """Generated pictures, with what each was asked to be."""

    pictures: list[Image.Image]
    prompts: list[PromptRow]
    owners: list[int]
    """Whose edge maps they were given: indices of portraits."""


class Studio:
    """Makes faces of the cells of `people`, frontal portraits with landmarks, whose edge maps it lends them."""

    def __init__(self, generator: FaceGenerator, writer: PromptWriter, people: LabelledFaces, seed: int = 0):
        self._generator, self._writer, self._people, self._seed = generator, writer, people, seed
        self._by_cell: dict[CellWords, list[int]] = defaultdict(list)
        for index, label in enumerate(people.labels):
            self._by_cell[label["ethnicity"], label["gender"], label["age_interval"]].append(index)

    @property
    def cells(self) -> list[CellWords]:
        """The cells that occur, in words."""
        return sorted(self._by_cell)

    def edges_of(self, owner: int) -> Image.Image:
        """The inner-face edges of a portrait."""
        return edge_map(self._people.open(owner), self._people.labels[owner]["landmarks"])

    def portraits(self, count: int, advance: Callable[[int], None]) -> Made:
        """`count` faces, cell after cell; each has its own prompt and noise and the edges of someone of its cell."""
        cells = [self.cells[number % len(self.cells)] for number in range(count)]
        prompts = self._prompts(cells)
        owners = []
        for number, cell in enumerate(cells):
            members = self._by_cell[cell]
            owners.append(members[number // len(self.cells) % len(members)])
        seeds = [derive_seed(self._seed, "evaluate", row.id) for row in prompts]
        return Made(self._make(prompts, owners, seeds, advance), prompts, owners)

    def crossed(self, cell: CellWords, advance: Callable[[int], None]) -> list[Image.Image]:
        """Every one of `LEVELS` prompts with every one of as many edge maps and noises, in that order of nesting."""
        words = self._prompts([cell] * LEVELS)
        members = self._by_cell[cell]
        shapes = [members[number % len(members)] for number in range(LEVELS)]
        noises = [derive_seed(self._seed, "evaluate", "noise", number) for number in range(LEVELS)]
        grid = [(row, owner, seed) for row in words for owner in shapes for seed in noises]
        rows, owners, seeds = (list(column) for column in zip(*grid, strict=True))
        return self._make(rows, owners, seeds, advance)

    def _prompts(self, cells: Sequence[CellWords]) -> list[PromptRow]:
        return list(self._writer.write([Cell(e, g, AgeInterval.parse(a)) for e, g, a in cells], seed=self._seed))

    def _make(
        self,
        prompts: list[PromptRow],
        owners: list[int],
        seeds: list[int],
        advance: Callable[[int], None],
        batch_size: int = 8,
    ) -> list[Image.Image]:
        pictures: list[Image.Image] = []
        for start in range(0, len(prompts), batch_size):
            part = slice(start, start + batch_size)
            edges = [self.edges_of(owner) for owner in owners[part]]
            pictures += self._generator.generate(prompts[part], edges, seeds[part])
            advance(len(prompts[part]))
        return pictures


def recovery(made: Made, people: LabelledFaces, classifier: AttributeClassifier) -> dict[str, Any]:
    """Per attribute, in colour and in grey: how often a classifier finds in generated faces what was asked for, beside
    how often it finds in renders what they are, and the first as a share of the second.
    """
    asked = [asked_of(row) for row in made.prompts]
    true = [{key: str(label[key]) for key in CELL} for label in people.labels]
    renders = [people.open(index) for index in range(len(people))]
    found: dict[str, Any] = {}
    for name, mode in (("colour", "RGB"), ("grey", "L")):
        generated = hits(classifier, [p.convert(mode).convert("RGB") for p in made.pictures], asked)
        rendered = hits(classifier, [p.convert(mode).convert("RGB") for p in renders], true)
        found[name] = {
            key: {
                "generated": bootstrap(generated[key]).as_dict(),
                "renders": bootstrap(rendered[key]).as_dict(),
                "ratio": round(float(generated[key].mean() / max(rendered[key].mean(), 1e-9)), 4),
            }
            for key in CELL
        }
    return found


def edges_followed(made: Made, people: LabelledFaces) -> dict[str, Any]:
    """F1 of the inner-face edges of generated faces against those asked for; beside it, of strangers' against them."""
    own: list[float] = []
    other: list[float] = []
    for number, (picture, owner) in enumerate(zip(made.pictures, made.owners, strict=True)):
        lender, landmarks = people.open(owner), people.labels[owner]["landmarks"]
        asked = np.asarray(edge_map(lender, landmarks)) > 127
        stranger = people.open((owner + 1 + number % (len(people) - 1)) % len(people))
        for shown, scores in ((picture, own), (stranger, other)):
            fitted = shown.resize(lender.size, Image.Resampling.LANCZOS)
            scores.append(edge_f1(np.asarray(edge_map(fitted, landmarks)) > 127, asked))
    return {"f1": bootstrap(np.array(own)).as_dict(), "f1_of_strangers": bootstrap(np.array(other)).as_dict()}


def distances(generated: np.ndarray, rendered: np.ndarray) -> dict[str, float]:
    """Fréchet distance of generated features to rendered ones beside that between two halves of the rendered.

    All three sets have the same size, since the distance falls with the number of pictures.
    """
    count = min(len(generated), len(rendered) // 2)
    first, second = rendered[0::2][:count], rendered[1::2][:count]
    return {
        "pictures": count,
        "generated": round(frechet_distance(generated[:count], first), 4),
        "renders": round(frechet_distance(second, first), 4),
    }


def variance_shares(cells: Sequence[np.ndarray]) -> dict[str, float]:
    """What prompt, edges and noise each contribute to the variance of embeddings within a cell, and what all together.

    `cells`: (LEVELS, LEVELS, LEVELS, d) each. Variance components of a crossed design with random factors, estimated
    from mean squares (Searle, Casella and McCulloch 1992, ch. 4); what no factor explains alone is interaction.
    """
    shares = defaultdict(list)
    for values in cells:
        components = _components(values)
        total = sum(components.values())
        for name, component in components.items():
            shares[name].append(component / max(total, 1e-12))
    return {name: round(float(np.mean(each)), 4) for name, each in shares.items()}


def _components(values: np.ndarray) -> dict[str, float]:
    grand = values.mean((0, 1, 2))
    per_level = values.shape[0] * values.shape[1] * values.shape[2] / LEVELS
    squares, effects = {}, np.zeros_like(values)
    for axis, name in enumerate(FACTORS):
        others = tuple(a for a in range(3) if a != axis)
        effect = values.mean(others, keepdims=True) - grand
        effects = effects + effect
        squares[name] = per_level * float((effect**2).sum()) / (LEVELS - 1)
    rest = float(((values - grand - effects) ** 2).sum()) / (values[..., 0].size - 1 - 3 * (LEVELS - 1))
    found = {name: max(0.0, (square - rest) / per_level) for name, square in squares.items()}
    return found | {"interaction": rest}
