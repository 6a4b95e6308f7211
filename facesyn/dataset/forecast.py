"""What a build will make and take, before it is begun. Writes nothing that stays."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from facesyn import registry
from facesyn.dataset.plan import segments
from facesyn.dataset.recipe import Recipe
from facesyn.demographics import Cell
from facesyn.errors import RunError

SMALL_PICTURE = 24_000
"""Bytes of a 128 × 128 PNG of a face, roughly: what the models of a bundle make."""
LARGE_PICTURE = 420_000
"""Bytes of a 512 × 512 PNG of a face, roughly."""
ALIGNED_PICTURE = 22_000
"""Bytes of a 112 × 112 PNG of a face, roughly."""
ROW = 1_200
"""Bytes of labels per picture, roughly."""


@dataclass(frozen=True)
class Forecast:
    """What a build would make."""

    identities: int
    images: int
    shards: int
    bytes: int
    quotas: dict[Cell, int]


def forecast(recipe: Recipe) -> Forecast:
    """Counts are exact; bytes are a rough guess."""
    return Forecast(
        identities=recipe.identities,
        images=recipe.image_total,
        shards=segments(recipe)[-1].shards.stop,
        bytes=_bytes(recipe, recipe.image_total, recipe.identities),
        quotas=recipe.demographics.to_demographics().quotas(recipe.identities),
    )


def check_space(path: Path, recipe: Recipe, images: int, sources: int) -> None:
    """Raises RunError where the disk of `path` has no room for so many pictures and their rows."""
    needed = _bytes(recipe, images, sources)
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise RunError(
            f"The disk of {path} has {free / 1e9:.1f} GB free; the build needs about {needed / 1e9:.1f} GB.",
            hint="Free some space, choose another folder, or scale down with --identities and --images.",
        )


def _bytes(recipe: Recipe, images: int, sources: int) -> int:
    bundles = registry.names(registry.Role.MODEL)
    picture = SMALL_PICTURE if recipe.transfer.options.get("model", "mini") in bundles else LARGE_PICTURE
    return (images + sources) * (picture + ROW) + (images * (ALIGNED_PICTURE + ROW) if recipe.output.aligned else 0)
