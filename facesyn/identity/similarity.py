"""Whose face a transfer shows: its likeness to source and reference. Knows no encoder by name."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from facesyn.protocols import FaceEncoder


class Similarities(NamedTuple):
    """Cosines between embeddings; None where no encoder was asked."""

    source: float | None
    reference: float | None


def similarities(
    encoder: FaceEncoder | None,
    pictures: Sequence[Image.Image],
    sources: Sequence[Image.Image],
    references: Sequence[Image.Image],
) -> list[Similarities]:
    """Likeness of every picture to its source and to its reference, to four decimals."""
    if encoder is None:
        return [Similarities(None, None)] * len(pictures)
    made = encoder.embed(pictures)
    to_source, to_reference = ((made * encoder.embed(others)).sum(1).tolist() for others in (sources, references))
    return [Similarities(round(a, 4), round(b, 4)) for a, b in zip(to_source, to_reference, strict=True)]
