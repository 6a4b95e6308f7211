"""Small real backends for tests of the build: they draw with Pillow, so a shard takes milliseconds."""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from facesyn.demographics import Cell
from facesyn.records import PromptRow
from facesyn.seeds import derive_seed


class ToyWriter:
    """Says only what it is asked for."""

    def write(self, cells: Sequence[Cell], *, seed: int, first: int = 0) -> Iterator[PromptRow]:
        for number, cell in enumerate(cells, first):
            identity = f"{number:06d}"
            yield PromptRow(
                id=identity,
                ethnicity=cell.ethnicity,
                gender=cell.gender,
                age_interval=str(cell.age_interval),
                prompt=f"portrait {number} of {cell}",
                seed=derive_seed(seed, "generate", identity),
            )


class ToyGenerator:
    """Draws an oval head with the seed's colours over the edge map. `delay` is in seconds per batch.

    With `faulty`, person 3 is always black, and person 4 is person 1 again until asked with another seed than the
    prompt's.
    """

    def __init__(self, size: int = 32, delay: float = 0.0, version: int = 1, faulty: bool = False):
        self.size, self.delay, self.version, self.faulty = size, delay, version, faulty

    def generate(
        self, prompts: Sequence[PromptRow], edges: Sequence[Image.Image], seeds: Sequence[int]
    ) -> list[Image.Image]:
        time.sleep(self.delay)
        if not self.faulty:
            return [self._draw(edge, seed) for edge, seed in zip(edges, seeds, strict=True)]
        return [self._make(*each) for each in zip(prompts, edges, seeds, strict=True)]

    def _make(self, prompt: PromptRow, edge: Image.Image, seed: int) -> Image.Image:
        if prompt.id == "000003":
            return Image.new("RGB", (self.size, self.size))
        if prompt.id == "000001" or (prompt.id == "000004" and seed == prompt.seed):
            return self._draw(Image.new("L", edge.size), 1)
        return self._draw(edge, seed)

    def _draw(self, edge: Image.Image, seed: int) -> Image.Image:
        rng, size = np.random.default_rng(seed), self.size
        picture = Image.merge("RGB", [edge.resize((size, size))] * 3)
        skin = tuple(int(value) for value in rng.integers(60, 230, 3))
        width = int(rng.integers(size // 8, size // 3))
        ImageDraw.Draw(picture).ellipse((width, 2, size - width, size - 2), fill=skin)
        return picture

    def facts(self) -> Mapping[str, Any]:
        return {"drawing": "oval", "version": self.version}


class ToyTransfer:
    """Blends source, reference and the seed's noise. With `die_after`, is killed after so many batches.

    With `leaky`, every fourth seed yields the reference itself. Where TOY_DEADLY names a folder, the worker is killed
    at its second batch for the first time, and always while a file `poison` there holds one of the batch's seeds.
    """

    def __init__(self, size: int = 32, delay: float = 0.0, die_after: int = 0, leaky: bool = False):
        self.size, self.delay, self.die_after, self.calls = size, delay, die_after, 0
        self.leaky = leaky

    def transfer(
        self, sources: Sequence[Image.Image], references: Sequence[Image.Image], seeds: Sequence[int]
    ) -> list[Image.Image]:
        time.sleep(self.delay)
        self.calls += 1
        if self.die_after and self.calls > self.die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        self._fall(seeds)
        side = (self.size, self.size)
        made = []
        for source, reference, seed in zip(sources, references, seeds, strict=True):
            if self.leaky and seed % 4 == 0:
                made.append(reference.resize(side))
                continue
            noise = np.random.default_rng(seed).integers(0, 40, (*side, 3))
            mixed = 0.6 * np.asarray(source.resize(side)) + 0.25 * np.asarray(reference.resize(side)) + noise
            made.append(Image.fromarray(mixed.clip(0, 255).astype(np.uint8)))
        return made

    def _fall(self, seeds: Sequence[int]) -> None:
        folder = os.environ.get("TOY_DEADLY")
        if not folder:
            return
        poison, killed = Path(folder) / "poison", Path(folder) / "killed"
        first = self.calls == 2 and not killed.exists()
        if first or (poison.exists() and {*map(str, seeds)} & {*poison.read_text().split()}):
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def facts(self) -> Mapping[str, Any]:
        return {"blend": 0.6}


class ToyEncoder:
    """Sixteen mean colours, centred, at unit length."""

    def embed(self, faces: Sequence[Image.Image]) -> np.ndarray:
        small = [np.asarray(face.resize((4, 4), Image.Resampling.BOX), np.float32).ravel() for face in faces]
        centred = np.stack(small) - np.mean(small, axis=1, keepdims=True)
        return centred / np.linalg.norm(centred, axis=1, keepdims=True)

    def facts(self) -> Mapping[str, Any]:
        return {"encoder": "mean colours"}
