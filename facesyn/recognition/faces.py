"""Labelled faces as training batches: crops, augmentation, an order that depends on seed and epoch alone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torch.utils.data import Dataset, Sampler

from facesyn.errors import UsageError
from facesyn.identity.alignment import SIDE, frame
from facesyn.labelled import LabelledFaces, read_gallery, read_labelled
from facesyn.recognition.recipes import Augmentation
from facesyn.tensors import to_tensor


def read_training_faces(folder: Path, source_repeats: int = 1) -> LabelledFaces:
    """The people of a dataset; its source faces too, `source_repeats` times over, where the protocol asks for that."""
    faces = read_labelled(folder)
    if source_repeats > 1 and (folder / "sources").is_dir():
        sources = read_gallery(folder / "sources")
        known = set(faces.identities)
        own = [index for index, name in enumerate(sources.identities) if name in known] * source_repeats
        return faces.joined(sources.subset(own))
    return faces


class FaceBatches(Dataset[tuple[torch.Tensor, int]]):
    """Item (epoch, i): picture i as (3, 112, 112) in [-1, 1], augmented by `seed`, and whose it is, from 0."""

    def __init__(self, faces: LabelledFaces, crop: str, augmentation: Augmentation, seed: int):
        self.faces, self.crop, self.augmentation, self.seed = faces, crop, augmentation, seed
        names, self.labels = np.unique(faces.identities, return_inverse=True)
        self.people = len(names)
        if self.people < 2:
            raise UsageError(f"A recogniser needs at least two people to tell apart, not {self.people}.")

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int]:
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        picture = prepared(self.faces.open(index), self.crop)
        return augment(picture, self.augmentation, rng), int(self.labels[index])


def prepared(picture: Image.Image, crop: str) -> torch.Tensor:
    """(3, 112, 112) in [-1, 1]: what a recogniser is shown of a picture; for `crop` see `frame`."""
    size = 128 if crop == "facesyn" else SIDE
    return frame(to_tensor([picture], size), crop)[0]


class EpochOrder(Sampler[tuple[int, int]]):
    """A fresh permutation for every epoch, the same in every process and after a resume."""

    def __init__(self, count: int, seed: int):
        self.count, self.seed, self.epoch = count, seed, 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch, 2**31]).permutation(self.count)
        return ((self.epoch, int(index)) for index in order)


def augment(picture: torch.Tensor, how: Augmentation, rng: np.random.Generator) -> torch.Tensor:
    """A changed copy of (3, n, n) in [-1, 1]."""
    side = picture.shape[-1]
    if rng.random() < how.flip:
        picture = picture.flip(2)
    if rng.random() < how.crop:
        part = max(8, round(side * float(np.sqrt(rng.uniform(how.crop_least, 1)))))
        x, y = rng.integers(0, side - part + 1, 2)
        picture = _resized(picture[:, y : y + part, x : x + part], side)
    if rng.random() < how.low_resolution:
        picture = _resized(_resized(picture, max(8, round(side * float(rng.uniform(0.2, 1))))), side)
    if rng.random() < how.jitter:
        contrast, brightness = rng.uniform(1 - how.jitter_strength, 1 + how.jitter_strength, 2)
        mean = picture.mean()
        picture = (((picture - mean) * contrast + mean + 1) * brightness - 1).clamp(-1, 1)
    if rng.random() < how.erase:
        height, width = (max(1, round(side * float(np.sqrt(rng.uniform(0.02, how.erase_most))))) for _ in range(2))
        y, x = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
        picture = picture.clone()
        picture[:, y : y + height, x : x + width] = 0
    return picture


def _resized(picture: torch.Tensor, side: int) -> torch.Tensor:
    return functional.interpolate(picture[None], (side, side), mode="bilinear", antialias=True, align_corners=False)[0]
