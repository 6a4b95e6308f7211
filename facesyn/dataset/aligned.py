"""Images in a recogniser's frame, made while they are at hand: so that no later step encodes a picture again."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from facesyn.identity.alignment import SIDE, align
from facesyn.identity.landmarks import landmarks, load_landmarker
from facesyn.models import resolve

if TYPE_CHECKING:
    from PIL import Image

Points = list[tuple[float, float]]


class Aligner:
    """Finds the five landmarks of pictures in facesyn's frame and brings them onto ArcFace's template."""

    def __init__(self, landmarker: str):
        """`landmarker`: a bundle or a folder. Raises ModelError."""
        weights = resolve(landmarker, "landmarker") / "diffusion_pytorch_model.safetensors"
        self._sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
        self._landmarker = load_landmarker(landmarker)

    def align(self, pictures: Sequence["Image.Image"]) -> list[tuple[Points, "Image.Image"]]:
        """Per picture its landmarks in pixels, as rows keep them, and the 112 × 112 picture that follows from them."""
        if not pictures:
            return []
        found = landmarks(self._landmarker, pictures).round(2)
        return [
            ([(float(x), float(y)) for x, y in points.tolist()], align(picture, points))
            for points, picture in zip(found, pictures, strict=True)
        ]

    def facts(self) -> Mapping[str, Any]:
        return {"template": "ArcFace", "side": SIDE, "landmarker": self._sha256}
