"""Faces brought into a recogniser's frame: the five-point alignment of ArcFace. Detects nothing itself."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from facesyn.errors import ImageError
from facesyn.labelled import LabelledFaces
from facesyn.protocols import FaceDetector

if TYPE_CHECKING:
    import torch

SIDE = 112
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""Where ArcFace (Deng et al. 2019) puts eyes, nose tip and mouth corners in 112 × 112 pixels."""


def similarity_to_template(landmarks: np.ndarray, size: int = SIDE) -> np.ndarray:
    """The (2, 3) similarity transform that takes (5, 2) `landmarks` nearest to the template, in least squares.

    OpenCV's estimator, told to take all five points for inliers, so that it is the fit of Umeyama (1991) and not a
    guess from two of them. Raises ImageError where the points do not determine one.
    """
    import cv2

    points = np.asarray(landmarks, np.float32)
    target = TEMPLATE * (size / SIDE)
    matrix, _ = cv2.estimateAffinePartial2D(
        points, target, method=cv2.RANSAC, ransacReprojThreshold=1e6, refineIters=50
    )
    if matrix is None or not np.isfinite(matrix).all():
        raise ImageError("The five landmarks do not determine an alignment: they fall together.")
    return np.asarray(matrix)


def align(image: Image.Image, landmarks: np.ndarray, size: int = SIDE) -> Image.Image:
    """The face of `image` with its five landmarks, (5, 2) in pixels, on the template: `size` × `size`, RGB."""
    import cv2

    matrix = similarity_to_template(landmarks, size)
    return Image.fromarray(cv2.warpAffine(np.asarray(image.convert("RGB")), matrix, (size, size), flags=cv2.INTER_AREA))


def align_all(
    faces: LabelledFaces, detector: FaceDetector, advance: Callable[[int], None] = lambda done: None
) -> tuple[LabelledFaces, list[str]]:
    """The faces, each aligned by the best face the detector finds in it; and the names of pictures with none."""
    aligned: dict[int, Image.Image] = {}
    missed = []
    for index in range(len(faces)):
        picture = faces.open(index)
        found = detector.detect(picture)
        if len(found):
            aligned[index] = align(picture, found[0, 5:].reshape(5, 2))
        else:
            missed.append(faces.names[index])
        advance(1)
    kept = list(aligned)
    subset = faces.subset(kept)
    return LabelledFaces(subset.names, subset.identities, subset.labels, lambda i: aligned[kept[i]]), missed


def frame(faces: "torch.Tensor", crop: str, size: int = SIDE) -> "torch.Tensor":
    """What a recogniser looks at, of pictures (b, 3, n, n): `facesyn`, the inner 3/4; `aligned`, all of them."""
    from torch.nn import functional

    from facesyn.identity.networks import recognition_crop

    if crop == "facesyn":
        return recognition_crop(faces, size)
    if faces.shape[-1] == size:
        return faces
    return functional.interpolate(faces, (size, size), mode="bilinear", antialias=True, align_corners=False)
