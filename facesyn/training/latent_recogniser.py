"""Training of a recogniser that looks at latents: the identity judge inside ATD's loss, and nowhere else."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from facesyn.identity.networks import Recogniser
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


def train_latent_recogniser(
    faces: RenderedFaces,
    held_out: RenderedFaces,
    vae_folder: Path,
    folder: Path,
    settings: Settings,
    report: Callable[[str], None],
) -> bool:
    """Contrast identities in latents of the autoencoder; saved as `folder/model` at validations."""
    latents = encode_faces(vae_folder, faces, folder / "latents.npz", report)
    unseen = encode_faces(vae_folder, held_out, folder / "held_out.npz", report)
    batches = IdentityBatches(faces, settings.batch_size)
    side = latent_crop(latents[0, :1]).shape[-1]
    model = Recogniser(
        size=side, channels=latents.shape[2], stem_stride=1, widths=(96, 192), blocks=(2, 2), reduced=64, dim=128
    )
    run = Run(folder, model, settings)

    def losses(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        indices, identities = batches.draw(rng)
        flip = torch.from_numpy(rng.integers(0, len(latents), len(indices)))
        clean = latent_crop(latents[flip, torch.from_numpy(indices)].float())
        spread = NOISE * torch.rand(len(clean), 1, 1, 1, generator=generator)
        noisy = clean + spread * torch.randn(clean.shape, generator=generator)
        embeddings = F.normalize(model(noisy.to(run.device)).float())
        with torch.autocast(run.device.type, enabled=False):
            return {"contrast": contrast(embeddings, identities.to(run.device))}

    @torch.no_grad()
    def validate(average: nn.Module, step: int) -> Mapping[str, float]:
        assert isinstance(average, Recogniser)
        average.save_pretrained(folder / "model")
        seen, mirrored = (
            torch.cat([average(part.float()) for part in latent_crop(side).split(256)]) for side in unseen
        )
        return verification_figures(F.normalize(seen + mirrored).numpy(), held_out)

    return run.go(losses, validate, report)
