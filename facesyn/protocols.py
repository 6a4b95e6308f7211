"""The roles a backend can play. Core code calls these and never names a concrete backend.

A backend is a class registered under its role's entry-point group (see `facesyn.registry`). Its constructor
takes keyword options with defaults, validates them, and may be slow (it loads weights). If it needs something this
machine may lack, it has a classmethod `why_unavailable() -> str | None` that answers in a sentence, without weights.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from facesyn.demographics import Cell
from facesyn.records import PromptRow

if TYPE_CHECKING:
    import torch

Facts = Mapping[str, Any]
"""What a row must say for an image to be made again: model ids and hashes, scheduler, steps, guidance, versions."""


@runtime_checkable
class PromptWriter(Protocol):
    """Writes one formulated prompt per identity."""

    def write(self, cells: Sequence[Cell], *, seed: int, first: int = 0) -> Iterator[PromptRow]:
        """Yield one row per cell, in order; row i gets the id of number `first + i`.

        Deterministic in (`cells`, `seed`, `first`); no prompt of a cell repeats within one call.
        """
        ...


@runtime_checkable
class FaceGenerator(Protocol):
    """Turns prompts and edge maps into frontal faces (UFG)."""

    size: int
    """Side of the square pictures, in pixels."""

    def generate(
        self, prompts: Sequence[PromptRow], edges: Sequence[Image.Image], seeds: Sequence[int]
    ) -> list[Image.Image]:
        """One RGB picture per prompt, `size` × `size`, computed as one batch.

        `edges` are mode-L edge maps, white on black, of any size. `seeds` fix the noise of each picture on its own.
        """
        ...

    def facts(self) -> Facts: ...


@runtime_checkable
class AttributeTransfer(Protocol):
    """Carries the face of a source into the style of a reference (ATD)."""

    size: int

    def transfer(
        self, sources: Sequence[Image.Image], references: Sequence[Image.Image], seeds: Sequence[int]
    ) -> list[Image.Image]:
        """One RGB picture per (source, reference) pair, `size` × `size`, computed as one batch."""
        ...

    def facts(self) -> Facts: ...


@runtime_checkable
class FaceEncoder(Protocol):
    """Embeds faces for recognition."""

    def embed(self, faces: Sequence[Image.Image]) -> np.ndarray:
        """(n, d) float32 embeddings of unit length, for RGB pictures cropped the way facesyn crops them."""
        ...

    def facts(self) -> Facts: ...


@runtime_checkable
class CalibratedEncoder(FaceEncoder, Protocol):
    """An encoder that says where its calibration is kept: beside its weights, whether there is one yet or not."""

    calibration_file: Path


@runtime_checkable
class FaceDetector(Protocol):
    """Finds faces and their five landmarks."""

    def detect(self, image: Image.Image) -> np.ndarray:
        """(n, 15) float32 rows: box x0, y0, x1, y1, score, then five landmarks x, y in pixels; best first.

        Landmark order: left-in-picture eye, right-in-picture eye, nose tip, left and right mouth corner.
        """
        ...


@runtime_checkable
class AttributeClassifier(Protocol):
    """Estimates the appearance category of a face: what was asked for, judged by someone else."""

    def classify(self, faces: Sequence[Image.Image]) -> list[dict[str, dict[str, float]]]:
        """Per face: attribute (`ethnicity`, `gender`, `age_interval`) → category → probability."""
        ...


class Layers(NamedTuple):
    """What a renderer sees of triangles, nearest first: two tensors of shape (layers, size, size), top row first."""

    triangle: "torch.Tensor"
    """int64 index of the triangle that covers the pixel's centre, -1 for none."""
    depth: "torch.Tensor"
    """float32 depth there, from 0 at the near plane to 1 at the far plane; 1 for none."""


@runtime_checkable
class Renderer(Protocol):
    """Says which triangles cover which pixels. All else of a picture is computed from that, in code shared by all."""

    device: str
    """The torch device that tensors are taken from and given on."""

    def rasterise(
        self, positions: "torch.Tensor", triangles: "torch.Tensor", matrix: "torch.Tensor", size: int, layers: int = 1
    ) -> Layers:
        """The nearest `layers` triangles at every pixel of a `size` × `size` picture; both sides of a triangle count.

        `positions` (v, 3) float32, `triangles` (t, 3) int64, `matrix` (4, 4) float32 from positions to clip space as
        OpenGL has it: x to the right, y up, -w ≤ z ≤ w, seen where w > 0.
        """
        ...


@runtime_checkable
class Executor(Protocol):
    """Decides where shards are worked on, and nothing else."""

    def run(self, work: Callable[[int], None], shards: Sequence[int], on_done: Callable[[int], None]) -> list[int]:
        """Call `work(shard)` for every shard, in any order and process; `on_done(shard)` in this process after each.

        `work` is picklable. The first exception stops the run and is raised here. A worker that dies is replaced and
        its shard tried again, a bounded number of times; returns the shards given up, the others being done by then
        (`facesyn.executors.Attempts` counts for every executor).
        """
        ...


@runtime_checkable
class ModelBundle(Protocol):
    """Weights and small banks shipped by a package, reachable by a short name such as `mini`."""

    licence: str

    def folders(self) -> Mapping[str, Path]:
        """Part (`ufg`, `atd`, `recogniser`, `edges`, `references`, …) → folder on disk."""
        ...
