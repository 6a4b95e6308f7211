"""Prompts in one plain sentence, and faces drawn with a pencil along the edge map."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image, ImageOps

from facesyn.demographics import Cell
from facesyn.errors import UsageError
from facesyn.records import PromptRow
from facesyn.seeds import derive_seed


class PlainWriter:
    """One sentence per identity; its number keeps sentences of a cell apart. `opening` begins each."""

    def __init__(self, opening: str = "portrait of"):
        self.opening = opening

    def write(self, cells: Sequence[Cell], *, seed: int, first: int = 0) -> Iterator[PromptRow]:
        for number, cell in enumerate(cells, first):
            id, ages = f"plain-{number:06d}", cell.age_interval
            age = random.Random(derive_seed(seed, "prompt", id)).randint(ages.low, ages.high)
            yield PromptRow(
                id=id,
                ethnicity=cell.ethnicity,
                gender=cell.gender,
                age_interval=str(ages),
                prompt=f"{self.opening} a {age} year old {cell.ethnicity} {cell.gender}, number {number}",
                seed=derive_seed(seed, "generate", id),
            )


class SketchGenerator:
    """Draws the edge map in a colour that the prompt and the seed decide, on `size` × `size` pixels."""

    def __init__(self, size: int = 96):
        if size < 16:
            raise UsageError(f"A sketch needs at least 16 pixels a side, not {size}.")
        self.size = size

    def generate(
        self, prompts: Sequence[PromptRow], edges: Sequence[Image.Image], seeds: Sequence[int]
    ) -> list[Image.Image]:
        return [self._draw(*each) for each in zip(prompts, edges, seeds, strict=True)]

    def _draw(self, prompt: PromptRow, edges: Image.Image, seed: int) -> Image.Image:
        rng = random.Random(f"{prompt.prompt}/{seed}")
        pencil, paper = (tuple(rng.randint(low, low + 60) for _ in range(3)) for low in (20, 190))
        lines = edges.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return ImageOps.colorize(lines, black=paper, white=pencil)

    def facts(self) -> dict[str, Any]:
        return {"model": "sketch", "version": "1.0", "size": self.size}


class OilGenerator(SketchGenerator):
    """Would paint in oil, if anyone could."""

    @classmethod
    def why_unavailable(cls) -> str | None:
        return "Oil paint has not been invented for computers."
