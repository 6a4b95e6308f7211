"""Training of the latent autoencoder, a plain diffusers `AutoencoderKL`, on rendered faces."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn

from facesyn.evaluation.measures import psnr, ssim_map
from facesyn.rendered import RenderedFaces
from facesyn.training.loop import Losses, Run, Settings

KL_WEIGHT = 1e-6
SSIM_WEIGHT = 0.1


def new_autoencoder(size: int = 128, latent_channels: int = 8) -> AutoencoderKL:
    """An autoencoder with 8-fold reduction. No attention: it learns from crops and works at any size."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=latent_channels,
        sample_size=size,
        mid_block_add_attention=False,
    )


def _crops(pictures: torch.Tensor, side: int, rng: np.random.Generator) -> torch.Tensor:
    limit = pictures.shape[-1] - side
    corners = rng.integers(0, limit // 8 + 1, (len(pictures), 2)) * 8
    return torch.stack([p[:, y : y + side, x : x + side] for p, (y, x) in zip(pictures, corners, strict=True)])


def train_autoencoder(
    faces: RenderedFaces,
    held_out: RenderedFaces,
    folder: Path,
    settings: Settings,
    report: Callable[[str], None],
    crop_share: float = 0.6,
) -> bool:
    """Train in `folder`; the averaged model is saved as a diffusers folder `folder/vae` at every validation.

    For the first `crop_share` of the steps it learns from half-size crops (four times as many, for the same cost).
    Saved with `scaling_factor` = 1 / standard deviation of the latents, measured on `faces`.
    """
    size = faces.images.shape[1]
    model = new_autoencoder(size)
    run = Run(folder, model, settings)

    def losses(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        crops = run.step < settings.steps * crop_share
        count = settings.batch_size * (4 if crops else 1)
        indices = rng.integers(0, len(faces), count)
        pictures = faces.batch(indices, rng.random(count) < 0.5)
        if crops:
            pictures = _crops(pictures, size // 2, rng)
        posterior = model.encode(pictures).latent_dist
        decoded = model.decode(posterior.sample(generator)).sample.float()
        similarity = ssim_map((decoded + 1) / 2, (pictures + 1) / 2).mean()
        return {
            "l1": (decoded - pictures).abs().mean(),
            "ssim": SSIM_WEIGHT * (1 - similarity),
            "kl": KL_WEIGHT * posterior.kl().mean(),
        }

    def validate(average: nn.Module, step: int) -> Mapping[str, float]:
        assert isinstance(average, AutoencoderKL)
        figures = measure_autoencoder(average, held_out, limit=200)
        std = latent_std(average, faces)
        average.register_to_config(scaling_factor=float(1 / std))
        average.save_pretrained(folder / "vae")
        return figures | {"latent_std": float(std)}

    return run.go(losses, validate, report)


@torch.no_grad()
def latent_std(model: AutoencoderKL, faces: RenderedFaces, count: int = 128) -> float:
    """Standard deviation of the latents (means) over `count` faces spread over the data."""
    indices = np.linspace(0, len(faces) - 1, count).astype(int)
    return float(model.encode(faces.batch(indices)).latent_dist.mode().std())


@torch.no_grad()
def measure_autoencoder(model: AutoencoderKL, faces: RenderedFaces, limit: int | None = None) -> dict[str, float]:
    """PSNR in dB, SSIM, and mean absolute difference (of 255) of reconstructions, averaged over pictures."""
    indices = np.linspace(0, len(faces) - 1, min(len(faces), limit or len(faces))).astype(int)
    rows = []
    for part in np.array_split(indices, max(1, len(indices) // 16)):
        pictures = (faces.batch(part) + 1) / 2
        decoded = model.decode(model.encode(pictures * 2 - 1).latent_dist.mode()).sample
        decoded = ((decoded + 1) / 2).clamp(0, 1)
        rows.append(
            torch.stack(
                [
                    psnr(decoded, pictures),
                    ssim_map(decoded, pictures).flatten(1).mean(1),
                    (decoded - pictures).abs().flatten(1).mean(1) * 255,
                ],
                1,
            )
        )
    mean = torch.cat(rows).mean(0)
    return {"psnr": float(mean[0]), "ssim": float(mean[1]), "difference": float(mean[2])}
