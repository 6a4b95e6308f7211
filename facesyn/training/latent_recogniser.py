"""Training of a recogniser that looks at latents: the identity judge inside ATD's loss, and nowhere else.

It learns from identities, or better from a teacher that sees pictures: then what a transfer made of somebody teaches it
too, for which there is no true identity to name, only what the teacher sees.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from facesyn.identity.networks import Recogniser
from facesyn.protocols import FaceEncoder
from facesyn.rendered import RenderedFaces
from facesyn.training.latents import encode_faces
from facesyn.training.loop import Losses, Run, Settings
from facesyn.training.recogniser import IdentityBatches, contrast, verification_figures

NOISE = 0.3
"""Largest standard deviation of noise on training latents: what ATD estimates in mid-sampling is not clean either."""


def latent_crop(latents: torch.Tensor) -> torch.Tensor:
    """The inner 3/4 of latents (b, c, h, w), as `recognition_crop` takes of pictures."""
    margin = latents.shape[-1] // 8
    return latents[..., margin:-margin, margin:-margin]


def disturbed(latents: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Latents (b, c, h, w) under noise of a standard deviation drawn from [0, NOISE] for each."""
    spread = NOISE * torch.rand(len(latents), 1, 1, 1, generator=generator)
    return latents + (spread * torch.randn(latents.shape, generator=generator)).to(latents)


def train_latent_recogniser(
    faces: RenderedFaces,
    held_out: RenderedFaces,
    vae_folder: Path,
    folder: Path,
    settings: Settings,
    report: Callable[[str], None],
    teacher: FaceEncoder | None = None,
) -> bool:
    """Contrast identities in latents of the autoencoder; saved as `folder/model` at validations.

    With a `teacher`, who a picture's latents show is what it finds in the picture.
    """
    latents = encode_faces(vae_folder, faces, folder / "latents.npz", report)
    unseen = encode_faces(vae_folder, held_out, folder / "held_out.npz", report)
    taught = None if teacher is None else _embeddings(teacher, faces, report)
    side = latent_crop(latents[0, :1]).shape[-1]
    model = Recogniser(
        size=side,
        channels=latents.shape[2],
        stem_stride=1,
        widths=(96, 192),
        blocks=(2, 2),
        reduced=64,
        dim=128 if taught is None else taught.shape[1],
    )
    run = Run(folder, model, settings)

    def look(indices: np.ndarray, rng: np.random.Generator, generator: torch.Generator) -> torch.Tensor:
        flip = torch.from_numpy(rng.integers(0, len(latents), len(indices)))
        clean = latent_crop(latents[flip, torch.from_numpy(indices)].float())
        return F.normalize(model(disturbed(clean.to(run.device), generator)).float())

    def by_identity(batches: IdentityBatches, rng: np.random.Generator, generator: torch.Generator) -> Losses:
        indices, identities = batches.draw(rng)
        embeddings = look(indices, rng, generator)
        with torch.autocast(run.device.type, enabled=False):
            return {"contrast": contrast(embeddings, identities.to(run.device))}

    def by_teacher(taught: torch.Tensor, rng: np.random.Generator, generator: torch.Generator) -> Losses:
        indices = rng.integers(0, len(faces), settings.batch_size)
        embeddings = look(indices, rng, generator)
        return {"teacher": (1 - (embeddings * taught[indices].to(run.device)).sum(1)).mean()}

    if taught is None:
        losses = partial(by_identity, IdentityBatches(faces, settings.batch_size))
    else:
        losses = partial(by_teacher, taught)

    @torch.no_grad()
    def validate(average: nn.Module, step: int) -> Mapping[str, float]:
        assert isinstance(average, Recogniser)
        average.save_pretrained(folder / "model")
        seen, mirrored = (
            torch.cat([average(part.float()) for part in latent_crop(side).split(256)]) for side in unseen
        )
        return verification_figures(F.normalize(seen + mirrored).numpy(), held_out)

    return run.go(losses, validate, report)


def _embeddings(teacher: FaceEncoder, faces: RenderedFaces, report: Callable[[str], None]) -> torch.Tensor:
    """(n, d), of unit length: what `teacher` finds in every picture."""
    report(f"asking the teacher about {len(faces)} faces")
    return torch.from_numpy(np.concatenate([teacher.embed(pictures) for pictures in faces.opened()]))
