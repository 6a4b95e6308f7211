"""Rendered faces in memory, read from folders or WebDataset tar shards. Knows labels and identities, nothing of models.

A shard holds `KEY.webp` or another picture, square, all of one size, and `KEY.json` with at least `identity`; trainings
by style also want `style` (-1 is the reference style: neutral, frontal, plain background). `facesyn dataset convert`
writes such.
"""

import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from facesyn.errors import UsageError
from facesyn.imaging import SUFFIXES, load_image
from facesyn.records import METADATA, RenderedRow, read_rows

if TYPE_CHECKING:
    import torch

REFERENCE_STYLE = -1
PORTRAITS = "portraits"
"""Where `facesyn references render` puts what shows people in the reference style."""


@dataclass(frozen=True)
class RenderedFaces:
    """`images`: (n, size, size, 3) uint8; `labels[i]` describes `images[i]`."""

    images: np.ndarray
    labels: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Sequence[int] | np.ndarray, flip: np.ndarray | None = None) -> "torch.Tensor":
        """(b, 3, size, size) float32 in [-1, 1]; `flip[i]` mirrors picture i."""
        import torch

        pictures = self.images[np.asarray(indices)]
        if flip is not None:
            pictures = np.where(flip[:, None, None, None], pictures[:, :, ::-1], pictures)
        return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1

    def opened(self, count: int = 64) -> Iterator[list[Image.Image]]:
        """All pictures, in lists of at most `count`, for those who look at a few at a time."""
        for start in range(0, len(self), count):
            yield [Image.fromarray(pixels) for pixels in self.images[start : start + count]]

    @property
    def sources(self) -> dict[str, int]:
        """Identity → index of its picture in the reference style."""
        return portraits(self.labels)


def portraits(labels: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Identity → index of its picture in the reference style."""
    return {label["identity"]: index for index, label in enumerate(labels) if label["style"] == REFERENCE_STYLE}


@dataclass(frozen=True)
class StylePairs:
    """What a transfer learns from, as indices of pictures: (source, a reference) → target.

    Rendered people give exact cross-identity supervision, (A neutral, B in style s) → (A in style s): `target[i]` shows
    A in style s, `source[i]` A in the reference style, `references[i]` everyone else in style s.
    """

    target: list[int]
    source: list[int]
    references: list[list[int]]

    @classmethod
    def of(cls, labels: Sequence[Mapping[str, Any]]) -> "StylePairs":
        """Of the labels of rendered faces."""
        by_style: dict[int, list[int]] = defaultdict(list)
        for index, label in enumerate(labels):
            if label["style"] != REFERENCE_STYLE:
                by_style[label["style"]].append(index)
        sources = portraits(labels)
        pairs = cls([], [], [])
        for members in by_style.values():
            for target in members:
                identity = labels[target]["identity"]
                others = [i for i in members if labels[i]["identity"] != identity]
                if others and identity in sources:
                    pairs.target.append(target)
                    pairs.source.append(sources[identity])
                    pairs.references.append(others)
        return pairs

    def __len__(self) -> int:
        return len(self.target)


def read_renders(folder: Path) -> RenderedFaces:
    """All faces of a folder of `facesyn references render`, its portraits first, or of a folder of shards.

    Raises UsageError where there are none, RecordError for rows that do not tell identity and style.
    """
    if not (folder / METADATA).is_file():
        return read_shards(folder)
    places = [place for place in (folder / PORTRAITS, folder) if (place / METADATA).is_file()]
    rows = [(place, row) for place in places for row in read_rows(place / METADATA, RenderedRow)]
    if not rows:
        raise UsageError(f"{folder / METADATA} lists no picture.")
    images = np.stack([np.asarray(load_image(place / row.file_name)) for place, row in rows])
    return RenderedFaces(images, [row.model_dump() for _, row in rows])


def read_shards(folder: Path, pattern: str = "*.tar", limit: int | None = None) -> RenderedFaces:
    """All faces of the shards `folder/pattern` in name order, at most `limit`. Raises UsageError if there are none."""
    pictures: list[np.ndarray] = []
    labels: list[dict[str, Any]] = []
    for path in sorted(folder.glob(pattern)):
        with tarfile.open(path) as tar:
            for member in tar:
                suffix, file = PurePosixPath(member.name).suffix, tar.extractfile(member)
                if file is None or (limit is not None and len(labels) >= limit and suffix in SUFFIXES):
                    break
                if suffix in SUFFIXES:
                    pictures.append(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")))
                elif suffix == ".json":
                    labels.append(json.load(file))
    if not labels:
        raise UsageError(
            f"No rendered faces in {folder} ({pattern}).",
            hint="Point it at a folder of `facesyn references render`, or of WebDataset tar shards.",
        )
    return RenderedFaces(np.stack(pictures), labels)
