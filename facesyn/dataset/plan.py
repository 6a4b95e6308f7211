"""The plan of a build: who is made from which prompt, edge map and references, in which shard. Draws nothing.

Everything follows from the recipe's seed and the names in the banks, nothing from workers or order of work.
Seeds and choices are those of `facesyn generate` and `facesyn transfer`: the stages by hand make the same.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from facesyn.banks import BankPicture
from facesyn.dataset.recipe import LongTail, Recipe
from facesyn.demographics import Cell
from facesyn.records import PromptRow, Row, Seed
from facesyn.seeds import derive_seed
from facesyn.stages.generation import EdgeMaps, starting_point
from facesyn.stages.transfers import draw_references
from facesyn.strata import stratify


class PlanRow(Row):
    """One identity of the plan; `id` is its prompt's."""

    id: str
    shard: int
    ethnicity: str
    gender: str
    age_interval: str
    edge_map: str
    face_seed: Seed
    references: list[str]
    """Style references by name, one per transferred image, in order."""


@dataclass(frozen=True)
class Segment:
    """Identities that were asked for at once: those of a new dataset, or those of one extension of it."""

    number: int
    identities: range
    images: int
    """Transferred images, altogether."""
    shards: range

    def shard_rows(self, shard: int, shard_size: int) -> range:
        """The identities of a shard, by their number in the plan."""
        first = self.identities.start + (shard - self.shards.start) * shard_size
        return range(first, min(first + shard_size, self.identities.stop))


def segments(recipe: Recipe) -> list[Segment]:
    """What a recipe asked for, in order. Each begins a shard of its own, so that no finished shard is ever joined."""
    found: list[Segment] = []
    people, images, shards = 0, 0, 0
    for total, image_total in [*recipe.extended_from, [recipe.identities, recipe.image_total]]:
        after = shards - (people - total) // recipe.shard_size
        found.append(Segment(len(found), range(people, total), image_total - images, range(shards, after)))
        people, images, shards = total, image_total, after
    return found


def planned_cells(recipe: Recipe) -> list[Cell]:
    """The demographic cell of every identity. Quotas are exact for the whole and were exact at the end of a segment."""
    cells: list[Cell] = []
    for segment in segments(recipe):
        cells += recipe.demographics.to_demographics().plan(segment.identities.stop, recipe.seed, cells)
    return cells


def image_counts(recipe: Recipe) -> list[int]:
    """Transferred images per identity, in identity order; sums to `recipe.image_total` exactly."""
    if not isinstance(recipe.images, LongTail):
        return [recipe.images] * recipe.identities
    return [count for segment in segments(recipe) for count in _tail_counts(recipe.images, segment, recipe.seed)]


def _tail_counts(tail: LongTail, segment: Segment, seed: int) -> list[int]:
    """A long tail of its own for every segment: what was counted once is not counted anew."""
    people = len(segment.identities)
    weights = [rank**-tail.exponent for rank in range(1, people + 1)]
    whole, spare = sum(weights), segment.images - tail.minimum * people
    exact = [spare * weight / whole for weight in weights]
    counts = [tail.minimum + int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda rank: int(exact[rank]) - exact[rank])
    for rank in by_remainder[: segment.images - sum(counts)]:
        counts[rank] += 1
    # Shuffled, so that no cell and no shard holds the head of the tail.
    random.Random(derive_seed(seed, "plan", "images", segment.identities.start)).shuffle(counts)
    return counts


def make_plan(
    recipe: Recipe,
    prompts: Sequence[PromptRow],
    edges: Sequence[BankPicture],
    references: Sequence[BankPicture],
) -> list[PlanRow]:
    """One row per prompt. Raises UsageError for strata or quotas that the references do not have."""
    counts = image_counts(recipe)
    edge_maps = EdgeMaps(edges)
    strata = stratify(references, recipe.transfer.strata, recipe.transfer.quotas)
    return [
        PlanRow(
            id=prompts[number].id,
            shard=shard,
            ethnicity=prompts[number].ethnicity,
            gender=prompts[number].gender,
            age_interval=prompts[number].age_interval,
            **starting_point(prompts[number], edge_maps),
            references=[
                picture.name
                for picture in draw_references(
                    recipe.seed, prompts[number].id, prompts[number].gender, strata, counts[number]
                )
            ],
        )
        for segment in segments(recipe)
        for shard in segment.shards
        for number in segment.shard_rows(shard, recipe.shard_size)
    ]


def batches(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover `range(count)`."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
