"""Face encoder from a folder that `facesyn train recogniser` saved. Knows the classes of facesyn's own networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facesyn.errors import UsageError

CROPS = ("facesyn", "aligned")


class RecogniserEncoder:
    """Embeds faces with a recogniser in the diffusers folder format.

    `crop` says what pictures are: `facesyn`, in facesyn's own frame, of which the inner 3/4 is looked at; `aligned`,
    on ArcFace's five-point template already. With `flip` an embedding is the sum over a picture and its mirror image;
    with `zoom` over three sizes of crop, the others by that share larger and smaller.
    """

    part = "recogniser"
    """What `path` is asked for where it names a bundle of models."""

    def __init__(self, path: str, device: str = "auto", crop: str = "facesyn", flip: bool = True, zoom: float = 0.0):
        from facesyn.identity.backbones import load_recogniser
        from facesyn.models import fingerprint, resolve
        from facesyn.tensors import choose_device

        check_crop(crop)
        if not 0 <= zoom < 1:
            raise UsageError(f"zoom is a share from 0 up to 1, not {zoom}.")
        folder = resolve(path, self.part)
        self._device, self._crop, self._flip = choose_device(device), crop, flip
        self._sizes = (1 - zoom, 1.0, 1 + zoom) if zoom else (1.0,)
        self._model = load_recogniser(folder).eval().to(self._device)
        self._size = int(self._model.config["size"])
        self._facts = {"backend": "recogniser", "sha256": fingerprint(folder), "crop": crop, "flip": flip} | (
            {"zoom": zoom} if zoom else {}
        )
        self.calibration_file = Path(f"{folder}.calibration.json")

    def embed(self, faces: Sequence[Image.Image]) -> np.ndarray:
        """See `facesyn.protocols.FaceEncoder`."""
        import torch

        from facesyn.identity.alignment import SIDE, frame
        from facesyn.identity.networks import summed_embeddings, zoomed
        from facesyn.tensors import to_tensor

        size = 128 if self._crop == "facesyn" else SIDE
        with torch.no_grad():
            crops = frame(to_tensor(faces, size).to(self._device), self._crop, self._size)
            views = [crops if size == 1 else zoomed(crops, size) for size in self._sizes]
            embeddings = summed_embeddings(self._model, *views, flip=self._flip)
        return np.asarray(embeddings.cpu().numpy())

    def facts(self) -> Mapping[str, Any]:
        return self._facts


def check_crop(crop: str) -> None:
    """Raises UsageError for a crop that there is not."""
    if crop not in CROPS:
        raise UsageError(f"There is no crop called {crop!r}.", hint=f"Use one of {', '.join(CROPS)}.")
