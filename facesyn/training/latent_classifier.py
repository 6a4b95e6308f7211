"""Training of a classifier that looks at latents: the judge of attributes inside the losses of UFG and ATD.

It learns what the renderer was asked for, or better from a teacher that sees pictures: what shows in no picture should
not be asked of one, and transfers, of which nobody knows how old they look, can be learned from too.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import nn

from facesyn.identity.networks import AttributeNet
from facesyn.protocols import AttributeClassifier
from facesyn.rendered import RenderedFaces
from facesyn.training.classifier import ATTRIBUTES, GREY, grey, wanted_categories
from facesyn.training.latent_recogniser import disturbed
from facesyn.training.latents import encode_faces
from facesyn.training.loop import Losses, Run, Settings

GREYED = 256
"""Faces from which is learned what latents lose with the colour; each has hundreds of places to learn from."""


class LatentAttributeNet(AttributeNet):
    """An `AttributeNet` of latents, with `colourless`: latents (b, c, h, w) → what those of the grey picture would be.

    That is nearly linear in 3 × 3 latents (R² 0.98 for the embedded autoencoder), so what would be seen in grey can be
    asked of latents, and have a gradient, without a picture in between.
    """

    @register_to_config
    def __init__(
        self,
        categories: dict[str, list[str]],
        size: int = 16,
        widths: tuple[int, ...] = (96, 192),
        blocks: tuple[int, ...] = (2, 2),
        channels: int = 4,
        stem_stride: int = 1,
    ):
        super().__init__(categories, size, widths, blocks, channels, stem_stride)
        self.colourless = nn.Conv2d(channels, channels, 3, padding=1).requires_grad_(False)

    @torch.no_grad()
    def fit_colourless(self, coloured: torch.Tensor, colourless: torch.Tensor) -> None:
        """By least squares, from latents (n, c, h, w) of the same pictures with and without colour."""
        seen = F.pad(F.unfold(coloured, 3, padding=1), (0, 0, 0, 1), value=1).transpose(1, 2).flatten(0, 1)
        wanted = colourless.flatten(2).transpose(1, 2).flatten(0, 1)
        solution = torch.linalg.lstsq(seen, wanted).solution.T
        weight = solution[:, :-1].reshape(self.colourless.weight.shape)
        self.colourless.load_state_dict({"weight": weight, "bias": solution[:, -1]})


def train_latent_classifier(
    faces: RenderedFaces,
    held_out: RenderedFaces,
    vae_folder: Path,
    folder: Path,
    settings: Settings,
    report: Callable[[str], None],
    teacher: AttributeClassifier | None = None,
) -> bool:
    """Ethnicity, gender and age interval by cross-entropy with what `teacher` finds, or else with what is true.

    Saved as `folder/model` at every validation, which is against the truth.
    """
    latents = encode_faces(vae_folder, faces, folder / "latents.npz", report)
    unseen = encode_faces(vae_folder, held_out, folder / "held_out.npz", report, flips=False)
    categories, wanted = _taught(teacher, faces, report) if teacher else _true(faces)
    model = LatentAttributeNet(categories, size=latents.shape[-1], channels=latents.shape[2])
    some = np.linspace(0, len(faces) - 1, min(GREYED, len(faces))).astype(int)
    colourless = encode_faces(vae_folder, _Grey(faces, some), folder / "grey.npz", report, flips=False)
    model.fit_colourless(latents[0, some].float(), colourless[0].float())
    run = Run(folder, model, settings)

    def losses(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        indices = torch.from_numpy(rng.integers(0, len(faces), settings.batch_size))
        flip = torch.from_numpy(rng.integers(0, len(latents), settings.batch_size))
        shown = disturbed(latents[flip, indices].float().to(run.device), generator)
        in_grey = torch.rand(len(shown), 1, 1, 1, generator=generator).to(run.device) < GREY
        scores = model(torch.where(in_grey, model.colourless(shown), shown))
        return {
            name: F.cross_entropy(scores[name].float(), wanted[name][indices].to(run.device)) for name in categories
        }

    @torch.no_grad()
    def validate(average: nn.Module, step: int) -> Mapping[str, float]:
        assert isinstance(average, LatentAttributeNet)
        average.save_pretrained(folder / "model")
        true = wanted_categories(held_out, categories)
        right: dict[str, float] = {}
        for suffix, shown in (("", unseen[0].float()), ("_grey", average.colourless(unseen[0].float()))):
            said = [average(part) for part in shown.split(256)]
            for name in categories:
                found = torch.cat([part[name] for part in said]).argmax(1)
                right[name + suffix] = float((found == true[name]).float().mean())
        return right

    return run.go(losses, validate, report)


class _Grey:
    """Some of the faces, without colour."""

    def __init__(self, faces: RenderedFaces, chosen: np.ndarray):
        self._faces, self._chosen = faces, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def batch(self, indices: np.ndarray, flip: np.ndarray | None = None) -> torch.Tensor:
        return grey(self._faces.batch(self._chosen[indices], flip))


def _true(faces: RenderedFaces) -> tuple[dict[str, list[str]], dict[str, torch.Tensor]]:
    """The categories of every attribute, and attribute → (n, categories): 1 for the true one."""
    categories = {name: sorted({label[name] for label in faces.labels}) for name in ATTRIBUTES}
    wanted = wanted_categories(faces, categories)
    return categories, {name: F.one_hot(wanted[name], len(names)).float() for name, names in categories.items()}


def _taught(
    teacher: AttributeClassifier, faces: RenderedFaces, report: Callable[[str], None]
) -> tuple[dict[str, list[str]], dict[str, torch.Tensor]]:
    """The categories that `teacher` knows, and attribute → (n, categories): the probabilities that it gives."""
    report(f"asking the teacher about {len(faces)} faces")
    said = [each for pictures in faces.opened() for each in teacher.classify(pictures)]
    categories = {name: sorted(shares) for name, shares in said[0].items()}
    return categories, {
        name: torch.tensor([[each[name][category] for category in names] for each in said])
        for name, names in categories.items()
    }
