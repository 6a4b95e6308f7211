"""The embedded models: where they are, and the recogniser as a face encoder. Trained on renders only; see README.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PARTS = ("ufg", "atd", "recogniser", "landmarker", "edges", "references")


class MiniBundle:
    """The folders of the embedded models and banks."""

    licence = "Apache-2.0"

    def folders(self) -> Mapping[str, Path]:
        here = Path(__file__).parent
        return {part: here / part for part in PARTS}


class MiniEncoder:
    """Embeds faces with the embedded recogniser, in facesyn's own crops; pictures from elsewhere need aligning."""

    def __init__(self, device: str = "auto"):
        from facesyn.identity.networks import Recogniser
        from facesyn.models import fingerprint
        from facesyn.tensors import choose_device

        folder = MiniBundle().folders()["recogniser"]
        self._device = choose_device(device)
        self._model = Recogniser.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
        self._model.to(self._device)
        self._facts = {"backend": "mini", "sha256": fingerprint(folder)}

    def embed(self, faces: Sequence[Image.Image]) -> np.ndarray:
        """See `facesyn.protocols.FaceEncoder`. The sum over a picture and its mirror image, normalised."""
        import torch

        from facesyn.identity.networks import recognition_crop
        from facesyn.tensors import to_tensor

        with torch.no_grad():
            crops = recognition_crop(to_tensor(faces, 128).to(self._device))
            embeddings = torch.nn.functional.normalize(self._model(crops) + self._model(crops.flip(3)))
        return embeddings.float().cpu().numpy()

    def facts(self) -> Mapping[str, Any]:
        return self._facts
