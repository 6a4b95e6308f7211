"""The plan of a build: who is made from which prompt, edge map and references, in which shard. Draws nothing.

Everything follows from the recipe's seed and the names in the banks, nothing from workers or order of work.
Seeds and choices are those of `facesyn generate` and `facesyn transfer`: the stages by hand make the same.
"""

import random
from collections.abc import Iterator, Sequence

from facesyn.banks import BankPicture
from facesyn.dataset.recipe import LongTail, Recipe
from facesyn.records import PromptRow, Row, Seed
from facesyn.seeds import derive_seed
from facesyn.stages.generation import draw_edge_map
from facesyn.stages.transfers import draw_references


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


def image_counts(recipe: Recipe) -> list[int]:
    """Transferred images per identity, in identity order; sums to `recipe.image_total` exactly."""
    if not isinstance(recipe.images, LongTail):
        return [recipe.images] * recipe.identities
    tail = recipe.images
    weights = [rank**-tail.exponent for rank in range(1, recipe.identities + 1)]
    spare = tail.total - tail.minimum * recipe.identities
    exact = [spare * weight / sum(weights) for weight in weights]
    counts = [tail.minimum + int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda rank: int(exact[rank]) - exact[rank])
    for rank in by_remainder[: tail.total - sum(counts)]:
        counts[rank] += 1
    # Shuffled, so that no cell and no shard holds the head of the tail.
    random.Random(derive_seed(recipe.seed, "plan", "images")).shuffle(counts)
    return counts


def make_plan(
    recipe: Recipe,
    prompts: Sequence[PromptRow],
    edges: Sequence[BankPicture],
    references: Sequence[BankPicture],
) -> list[PlanRow]:
    """One row per prompt."""
    counts = image_counts(recipe)
    return [
        PlanRow(
            id=prompt.id,
            shard=number // recipe.shard_size,
            ethnicity=prompt.ethnicity,
            gender=prompt.gender,
            age_interval=prompt.age_interval,
            edge_map=draw_edge_map(prompt, edges).name,
            face_seed=prompt.seed,
            references=[
                picture.name for picture in draw_references(recipe.seed, prompt.id, prompt.gender, references, count)
            ],
        )
        for number, (prompt, count) in enumerate(zip(prompts, counts, strict=True))
    ]


def batches(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover `range(count)`."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
