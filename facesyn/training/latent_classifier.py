"""Training of a classifier that looks at latents: the judge of attributes inside the losses of UFG and ATD.

It learns what the renderer was asked for, or better from a teacher that sees pictures: what shows in no picture should
not be asked of one, and transfers, of which nobody knows how old they look, can be learned from too.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from facesyn.identity.networks import AttributeNet
from facesyn.protocols import AttributeClassifier
from facesyn.rendered import RenderedFaces
from facesyn.training.classifier import ATTRIBUTES, wanted_categories
from facesyn.training.latent_recogniser import disturbed
from facesyn.training.latents import encode_faces
from facesyn.training.loop import Losses, Run, Settings


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
    model = AttributeNet(
        categories, size=latents.shape[-1], widths=(96, 192), blocks=(2, 2), channels=latents.shape[2], stem_stride=1
    )
    run = Run(folder, model, settings)

    def losses(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        indices = torch.from_numpy(rng.integers(0, len(faces), settings.batch_size))
        flip = torch.from_numpy(rng.integers(0, len(latents), settings.batch_size))
        scores = model(disturbed(latents[flip, indices].float().to(run.device), generator))
        return {
            name: F.cross_entropy(scores[name].float(), wanted[name][indices].to(run.device)) for name in categories
        }

    @torch.no_grad()
    def validate(average: nn.Module, step: int) -> Mapping[str, float]:
        assert isinstance(average, AttributeNet)
        average.save_pretrained(folder / "model")
        true = wanted_categories(held_out, categories)
        said = [average(part.float()) for part in unseen[0].split(256)]
        return {
            name: float((torch.cat([part[name] for part in said]).argmax(1) == true[name]).float().mean())
            for name in categories
        }

    return run.go(losses, validate, report)


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
