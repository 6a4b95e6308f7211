"""Crops: where a face lies in its picture, as 2D similarities applied to the projection. Knows no picture."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

EYE_ROW, EYE_SPAN = 0.47, 1 / 4.4
"""facesyn's own crop: height of the eye line and distance of the eyes of a frontal face, of the picture's side."""

TEMPLATES: Mapping[str, np.ndarray] = MappingProxyType(
    {
        "arcface": np.array(  # the 112 × 112 alignment that recognisers are trained on
            [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
        )
        / 112
    }
)
"""Five landmarks in a picture of side 1, top left origin."""
NAMES = ("head", "arcface", "ffhq")


def crop_matrix(name: str, landmarks: np.ndarray) -> np.ndarray:
    """(4, 4) matrix on clip space that moves `landmarks` (5, 2), given in a picture of side 1, to where a crop has
    them.

    `head` is facesyn's own crop and changes nothing: the camera aims at the head, so that turned heads stay centred.
    """
    if name == "head":
        return np.eye(4)
    scale, rotation, shift = ffhq_alignment(landmarks) if name == "ffhq" else similarity(landmarks, TEMPLATES[name])
    # From top-left coordinates p in a unit square to normalised device coordinates 2p - 1 with y upwards.
    flip = np.diag([1.0, -1.0])
    linear = scale * flip @ rotation @ flip
    offset = flip @ (2 * (scale * rotation @ np.full(2, 0.5) + shift) - 1)
    matrix = np.eye(4)
    matrix[:2, :2], matrix[:2, 3] = linear, offset
    return matrix


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation (2, 2) and shift (2,) that carry points (n, 2) onto others with least squares: Umeyama (1991)."""
    from_mean, to_mean = source.mean(0), target.mean(0)
    a, b = source - from_mean, target - to_mean
    u, singular, vt = np.linalg.svd(b.T @ a / len(source))
    mirror = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ mirror @ vt
    scale = float((singular * np.diag(mirror)).sum() / a.var(0).sum())
    return scale, rotation, to_mean - scale * rotation @ from_mean


def ffhq_alignment(landmarks: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation and shift of the crop that Karras et al. (2019) describe for FFHQ, from eyes and mouth corners.

    The square's half side is the larger of 2 eye distances and 1.8 eye-to-mouth distances; it is centred a tenth of the
    latter below the eyes, and its axis is the mean of the eye line and the normal of the eye-to-mouth line.
    """
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    across, down = landmarks[1] - landmarks[0], mouth - eyes
    axis = across - np.array([-down[1], down[0]])
    axis *= max(np.linalg.norm(across) * 2, np.linalg.norm(down) * 1.8) / np.linalg.norm(axis)
    half = float(np.linalg.norm(axis))
    cosine, sine = axis / half
    rotation = np.array([[cosine, sine], [-sine, cosine]])
    scale = 0.5 / half
    centre = eyes + down * 0.1
    return scale, rotation, np.full(2, 0.5) - scale * rotation @ centre
