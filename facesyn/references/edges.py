"""Edge maps for UFG: Canny edges of pictures, and a choice of pictures whose shapes are spread evenly.

Knows no renderer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from facesyn.banks import BankPicture
from facesyn.errors import UsageError
from facesyn.imaging import canny, load_image
from facesyn.records import EdgeRow

LOW, HIGH = 60.0, 140.0
"""Hysteresis thresholds of Canny that the embedded UFG was trained with."""
MOST_YAW, MOST_PITCH = 15.0, 12.0
"""Degrees up to which a labelled face counts as frontal."""
_GRID = 24
"""Shapes are compared as edge densities on so many cells a side."""


def frontal(labels: dict[str, Any]) -> bool:
    """Whether a picture's labels allow it as the shape of a frontal face; one without angles is taken on trust."""
    return abs(float(labels.get("yaw", 0))) <= MOST_YAW and abs(float(labels.get("pitch", 0))) <= MOST_PITCH


def inner_face(landmarks: np.ndarray, width: int, height: int) -> np.ndarray:
    """(height, width) bool: an ellipse over brows, eyes, nose, mouth and chin. `landmarks`: (5, 2) in pixels."""
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    centre = eyes * 0.4 + mouth * 0.6
    across, along = np.linalg.norm(landmarks[1] - landmarks[0]), np.linalg.norm(mouth - eyes)
    y, x = np.mgrid[:height, :width]
    return np.asarray(((x - centre[0]) / (1.15 * across)) ** 2 + ((y - centre[1]) / (1.25 * along)) ** 2 < 1)


def edge_map(picture: Image.Image, landmarks: Sequence[Sequence[float]] | None = None) -> Image.Image:
    """The mode-L Canny edges of a picture; with landmarks, of the inner face only, so that hair can follow a prompt."""
    edges = canny(picture, LOW, HIGH)
    if landmarks is None:
        return edges
    mask = inner_face(np.array(landmarks, float), *picture.size)
    return Image.fromarray(np.where(mask, np.asarray(edges), 0).astype(np.uint8))


def shape_of(edges: Image.Image) -> np.ndarray:
    """(GRID²,) float32 of unit length: how dense edges are in each cell of a coarse grid, blurred a little."""
    small = edges.convert("L").resize((_GRID * 2, _GRID * 2), Image.Resampling.BOX)
    density = np.asarray(small.resize((_GRID, _GRID), Image.Resampling.BILINEAR), np.float32).ravel()
    return density / max(float(np.linalg.norm(density)), 1e-6)


def spread_evenly(shapes: np.ndarray, count: int) -> list[int]:
    """`count` of the shapes (n, d), each the one farthest from all chosen before: Gonzalez (1985).

    Any prefix is spread evenly too. Starts with the shape nearest to the mean, so that nothing is left to chance.
    """
    distance = ((shapes - shapes.mean(0)) ** 2).sum(1)
    chosen = [int(distance.argmin())]
    nearest = ((shapes - shapes[chosen[0]]) ** 2).sum(1)
    while len(chosen) < min(count, len(shapes)):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((shapes - shapes[chosen[-1]]) ** 2).sum(1))
    return chosen


@dataclass(frozen=True)
class EdgeMap:
    row: EdgeRow
    picture: Image.Image


def edge_bank(
    pictures: Sequence[BankPicture], count: int | None, whole: bool, advance: Callable[[], None]
) -> list[EdgeMap]:
    """Edge maps of `count` of the frontal pictures (all where None), chosen so that shapes are spread evenly.

    Landmarks in the labels limit edges to the inner face, unless `whole`. Labels are kept. Raises ImageError for a
    corrupt picture, UsageError where no picture is frontal.
    """
    candidates = [picture for picture in pictures if frontal(picture.labels)]
    if not candidates:
        raise UsageError(
            f"None of {len(pictures)} pictures shows a frontal face.",
            hint=f"Edge maps are taken of faces turned by at most {MOST_YAW:.0f} degrees.",
        )
    maps = []
    for picture in candidates:
        landmarks = None if whole else picture.labels.get("landmarks")
        maps.append(edge_map(load_image(picture.path), landmarks))
        advance()
    shapes = np.stack([shape_of(each) for each in maps])
    order = spread_evenly(shapes, len(maps) if count is None else count)
    bank = []
    for number, index in enumerate(order):
        picture = candidates[index]
        facts = {"low": LOW, "high": HIGH, "inner_face": not whole and "landmarks" in picture.labels}
        labels = {name: picture.labels[name] for name in _KEPT if name in picture.labels}
        row = EdgeRow(file_name=f"{number:04d}.png", source=picture.name, edges=facts, **labels)
        bank.append(EdgeMap(row, maps[index]))
    return bank


_KEPT = ("identity", "ethnicity", "gender", "age", "age_interval", "landmarks", "yaw", "pitch", "roll")
