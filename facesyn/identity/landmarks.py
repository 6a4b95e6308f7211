"""Landmarks and pose of a face by the landmarker, whose frame is facesyn's own. Finds no face itself."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from facesyn.identity.networks import Landmarker

SIDE = 128
BOX_IN_FRAME = 1.65
"""Side of facesyn's frame over that of a detector's face box, which reaches from brows to chin."""
BOX_CENTRE = 0.06
"""How far below the box's centre the frame's lies, as a share of the box: the frame holds hair and neck too."""


def load_landmarker(model: str) -> "Landmarker":
    """The landmarker of a bundle or folder, ready to run on the CPU. Raises ModelError."""
    from facesyn.identity.networks import Landmarker
    from facesyn.models import resolve

    folder = resolve(model, "landmarker")
    found: Landmarker = Landmarker.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
    return found


def poses(landmarker: "Landmarker", pictures: Sequence[Image.Image]) -> np.ndarray:
    """(n, 3) yaw, pitch, roll in degrees, of pictures in facesyn's own frame."""
    import torch

    from facesyn.tensors import to_tensor

    with torch.no_grad():
        return np.asarray(landmarker(to_tensor(pictures, SIDE))[1].numpy())


def landmarks(landmarker: "Landmarker", pictures: Sequence[Image.Image]) -> np.ndarray:
    """(n, 5, 2) landmarks in pixels of each of the `pictures`, which are square and in facesyn's own frame."""
    import torch

    from facesyn.tensors import to_tensor

    with torch.no_grad():
        points = landmarker(to_tensor(pictures, SIDE))[0].numpy()
    return np.asarray(points * np.array([picture.width for picture in pictures])[:, None, None])


def landmarks_in_box(landmarker: "Landmarker", image: Image.Image, box: np.ndarray) -> np.ndarray:
    """(5, 2) landmarks in pixels of `image`, of the face whose `box` is x0, y0, x1, y1."""
    import torch

    from facesyn.tensors import to_tensor

    width = float(box[2] - box[0])
    centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2 + BOX_CENTRE * width])
    side = BOX_IN_FRAME * width
    corner = centre - side / 2
    region = (*corner, *(corner + side))
    frame = image.convert("RGB").transform((SIDE, SIDE), Image.Transform.EXTENT, region, Image.Resampling.BILINEAR)
    with torch.no_grad():
        points = landmarker(to_tensor([frame], SIDE))[0][0].numpy()
    return np.asarray(points * side + corner, dtype=np.float32)
