"""A second opinion that learned nothing: features of an untrained network, which favours no model of ours."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from facesyn.identity.networks import Recogniser
from facesyn.protocols import Facts
from facesyn.tensors import to_tensor


class RandomFeatures:
    """A face encoder with random weights, drawn by `seed`."""

    def __init__(self, seed: int = 0, size: int = 64):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._network = Recogniser(size=size).eval()
        self._seed, self._size = seed, size

    @torch.no_grad()
    def embed(self, faces: Sequence[Image.Image]) -> np.ndarray:
        """(n, 128) float32 of unit length, of whole pictures."""
        parts = to_tensor(faces, self._size).split(64)
        return torch.cat([F.normalize(self._network(part)) for part in parts]).numpy()

    def facts(self) -> Facts:
        return {"network": "random", "seed": self._seed}
