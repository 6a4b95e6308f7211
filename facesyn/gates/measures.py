"""The gates: each a figure, its limits, and the verdict that follows. Small functions; they open no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from PIL import Image

SIDE = 128
THUMBNAIL = 32


@dataclass(frozen=True)
class Verdict:
    """`figure` passes where `low` <= figure <= `high`."""

    gate: str
    figure: float
    low: float = -inf
    high: float = inf

    @property
    def passed(self) -> bool:
        return self.low <= self.figure <= self.high


def luminance(picture: Image.Image, side: int) -> np.ndarray:
    """(side, side) float32 in [0, 255]."""
    return np.asarray(picture.convert("L").resize((side, side), Image.Resampling.BOX), dtype=np.float32)


def contrast(picture: Image.Image, least: float) -> Verdict:
    """Standard deviation of the luminance, of 255: next to nothing in a black, white or plain picture."""
    return Verdict("contrast", round(float(luminance(picture, SIDE).std()), 2), low=least)


def sharpness(picture: Image.Image, least: float) -> Verdict:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000) of the luminance at 128 pixels: small in a blur."""
    import cv2

    return Verdict("sharpness", round(float(cv2.Laplacian(luminance(picture, SIDE), cv2.CV_32F).var()), 2), low=least)


def face_count(faces: int, *, least: int) -> Verdict:
    """How many faces a detector sees; a frontal detector misses profiles, so images are only held to `least` 0."""
    return Verdict("faces", faces, low=least, high=1)


def frontal(yaw: float, pitch: float, most: float) -> Verdict:
    """The greater of |yaw| and |pitch|, in degrees."""
    return Verdict("turn", round(max(abs(yaw), abs(pitch)), 1), high=most)


def attributes(
    probabilities: Mapping[str, Mapping[str, float]], asked: Mapping[str, str], suffix: str = ""
) -> list[Verdict]:
    """Per attribute the rank of the category asked for among the classifier's: 1 where it thinks so too.

    Verdicts are named after the attribute, and `suffix`. Categories the classifier does not know are not judged.
    """
    verdicts = []
    for attribute, category in asked.items():
        found = probabilities.get(attribute, {})
        if category in found:
            rank = 1 + sum(value > found[category] for value in found.values())
            verdicts.append(Verdict(attribute + suffix, rank, high=1))
    return verdicts


def unique(similarity: float, threshold: float) -> Verdict:
    """Cosine to the most similar person accepted before."""
    return Verdict("unique", round(similarity, 4), high=threshold)


def same_identity(similarity: float, threshold: float, copy: float) -> Verdict:
    """Cosine to the source, in a band: below it is somebody else, above it a copy."""
    return Verdict("identity", round(similarity, 4), low=threshold, high=copy)


def leakage(similarity: float, threshold: float) -> Verdict:
    """Cosine to the style reference, whose identity must not come along."""
    return Verdict("leakage", round(similarity, 4), high=threshold)


def thumbnail(picture: Image.Image) -> np.ndarray:
    """What near-duplicates are told by: (32, 32, 3) float32."""
    side = (THUMBNAIL, THUMBNAIL)
    return np.asarray(picture.convert("RGB").resize(side, Image.Resampling.BOX), dtype=np.float32)


def duplicate(picture: Image.Image, others: Sequence[np.ndarray], least: float) -> Verdict:
    """Mean difference, of 255, to the nearest of `others`, thumbnails of the images accepted before; 255 if none."""
    own = thumbnail(picture)
    nearest = min((float(np.abs(own - other).mean()) for other in others), default=255.0)
    return Verdict("distance", round(nearest, 2), low=least)
