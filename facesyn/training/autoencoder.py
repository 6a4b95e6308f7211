"""Training of the latent autoencoder, a plain diffusers `AutoencoderKL`, on rendered faces."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn

from facesyn.evaluation.measures import psnr, ssim_map
from facesyn.identity.networks import Recogniser, recognition_crop
from facesyn.rendered import RenderedFaces
from facesyn.training.latents import encode_faces
from facesyn.training.loop import Losses, Run, Settings

KL_WEIGHT = 2e-7
"""Five times this was measured to put one channel of eight to sleep and to blur the others."""
SSIM_WEIGHT = 0.3
COLOUR_WEIGHT = 0.5
PERCEPTUAL_WEIGHT = 0.1
IDENTITY_WEIGHT = 0.2


def new_autoencoder(size: int = 128, latent_channels: int = 12) -> AutoencoderKL:
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


class Perception(nn.Module):
    """Distance between pictures as a recogniser sees them: in the activations of its first layers, and at its end.

    Eyes and lips cover few pixels, and a plain pixel loss lets them go; identity hangs on them. Any recogniser will
    do, but its own opinion of the results is biased from then on.
    """

    LAYERS = (2, 3, 5)

    def __init__(self, folder: Path):
        super().__init__()
        self.recogniser = Recogniser.from_pretrained(folder, local_files_only=True).eval().requires_grad_(False)
        self.layers = self.recogniser.trunk[: self.LAYERS[-1] + 1]

    def train(self, mode: bool = True) -> "Perception":
        """Stays as it is: its batch statistics are part of the judgement."""
        return self

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Mean absolute difference over layers; `a`, `b`: (n, 3, h, w) in [-1, 1]."""
        terms = []
        for number, layer in enumerate(self.layers):
            a, b = layer(a), layer(b)
            if number in self.LAYERS:
                terms.append((a.float() - b.float()).abs().mean())
        return torch.stack(terms).mean()

    def unlikeness(self, decoded: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
        """1 - cosine between embeddings, averaged; whole pictures (n, 3, h, w) in [-1, 1]."""
        made, true = (self.recogniser(recognition_crop(side)).float() for side in (decoded, pictures))
        return 1 - F.cosine_similarity(made, true).mean()


def _corners(side: int, size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 2) upper left corners of crops, multiples of 8; every second one is near the middle, with the face."""
    limit = (size - side) // 8
    corners = rng.integers(0, limit + 1, (count, 2))
    corners[::2] = (limit / 2 + rng.uniform(-limit / 4, limit / 4, corners[::2].shape)).round()
    return corners * 8


def _crops(pictures: torch.Tensor, corners: np.ndarray, side: int) -> torch.Tensor:
    return torch.stack([p[:, y : y + side, x : x + side] for p, (y, x) in zip(pictures, corners, strict=True)])


def reconstruction(decoded: torch.Tensor, pictures: torch.Tensor, perception: Perception | None, whole: bool) -> Losses:
    """Loss terms of decoded pictures (n, 3, h, w) against the true ones, both in [-1, 1]; identity needs `whole` ones.

    The colour of areas has a term of its own: skin makes up most of the data, and what it lacks, such as green against
    magenta, costs so little pixel by pixel that an encoder may give it up.
    """
    similarity = ssim_map((decoded + 1) / 2, (pictures + 1) / 2).mean()
    error = decoded - pictures
    terms = {
        "l1": error.abs().mean(),
        "ssim": SSIM_WEIGHT * (1 - similarity),
        "colour": COLOUR_WEIGHT * F.avg_pool2d(error, 8).abs().mean(),
    }
    if perception is not None:
        terms["perceptual"] = PERCEPTUAL_WEIGHT * perception(decoded, pictures)
        if whole:
            terms["identity"] = IDENTITY_WEIGHT * perception.unlikeness(decoded, pictures)
    return terms


def train_autoencoder(
    faces: RenderedFaces,
    held_out: RenderedFaces,
    folder: Path,
    settings: Settings,
    report: Callable[[str], None],
    recogniser_folder: Path | None = None,
    crop_share: float = 0.6,
) -> bool:
    """Train in `folder`; the averaged model is saved as a diffusers folder `folder/vae` at every validation.

    For the first `crop_share` of the steps it learns from half-size crops (four times as many, for the same cost).
    With a recogniser of pictures in `recogniser_folder`, the loss also compares what that sees.
    Saved with every latent channel at zero mean and unit variance over `faces`, so that `scaling_factor` is 1.
    """
    size = faces.images.shape[1]
    model = new_autoencoder(size)
    perception = None if recogniser_folder is None else Perception(recogniser_folder)
    run = Run(folder, model, settings)
    perception = perception and perception.to(run.device)

    def losses(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        crops = run.step < settings.steps * crop_share
        count = settings.batch_size * (4 if crops else 1)
        indices = rng.integers(0, len(faces), count)
        pictures = faces.batch(indices, rng.random(count) < 0.5).to(run.device)
        if crops:
            pictures = _crops(pictures, _corners(size // 2, size, count, rng), size // 2)
        posterior = model.encode(pictures).latent_dist
        decoded = model.decode(posterior.sample(generator)).sample.float()
        terms = reconstruction(decoded, pictures, perception, whole=not crops)
        return {**terms, "kl": KL_WEIGHT * posterior.kl().mean()}

    def validate(average: nn.Module, step: int) -> Mapping[str, float]:
        assert isinstance(average, AutoencoderKL)
        standard = standardised(average, faces)
        standard.save_pretrained(folder / "vae")
        return measure_autoencoder(standard, held_out, limit=200)

    return run.go(losses, validate, report)


def train_decoder(
    faces: RenderedFaces,
    held_out: RenderedFaces,
    vae_folder: Path,
    folder: Path,
    settings: Settings,
    report: Callable[[str], None],
    recogniser_folder: Path | None = None,
    crop_share: float = 0.7,
) -> bool:
    """Train the decoder of a trained autoencoder further; its latents, and what others learned of them, stay valid.

    Crops and `recogniser_folder` as in `train_autoencoder`; saved as `folder/vae` at every validation.
    """
    size = faces.images.shape[1]
    model = AutoencoderKL.from_pretrained(vae_folder, local_files_only=True, use_safetensors=True)
    latents = encode_faces(vae_folder, faces, folder / "latents.npz", report)
    decoder = nn.ModuleDict({"post_quant_conv": model.post_quant_conv, "decoder": model.decoder})
    perception = None if recogniser_folder is None else Perception(recogniser_folder)
    run = Run(folder, decoder, settings)
    perception = perception and perception.to(run.device)

    def losses(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        crops = run.step < settings.steps * crop_share
        count = settings.batch_size * (4 if crops else 1)
        indices, flip = rng.integers(0, len(faces), count), rng.integers(0, 2, count)
        pictures = faces.batch(indices, flip.astype(bool)).to(run.device)
        z = latents[torch.from_numpy(flip), torch.from_numpy(indices)].float() / model.config["scaling_factor"]
        z = z.to(run.device)
        if crops:
            corners = _corners(size // 2, size, count, rng)
            pictures, z = _crops(pictures, corners, size // 2), _crops(z, corners // 8, size // 16)
        return reconstruction(model.decode(z).sample.float(), pictures, perception, whole=not crops)

    def validate(average: nn.Module, step: int) -> Mapping[str, float]:
        assert isinstance(average, nn.ModuleDict)
        whole = copy.copy(model)  # the encoder is shared
        whole._modules = {**model._modules, **average._modules}
        whole.save_pretrained(folder / "vae")
        return measure_autoencoder(whole, held_out, limit=200)

    return run.go(losses, validate, report)


@torch.no_grad()
def standardised(model: AutoencoderKL, faces: RenderedFaces, count: int = 256) -> AutoencoderKL:
    """A copy that does the same, with every latent channel at zero mean and unit variance over `count` of `faces`.

    The change goes into the two 1 × 1 convolutions around the latents. A diffusion that adds the same noise to all
    channels would otherwise lose the faint ones first and the strong ones last.
    """
    indices = np.linspace(0, len(faces) - 1, min(count, len(faces))).astype(int)
    parts = np.array_split(indices, max(1, len(indices) // 16))
    means = torch.cat([model.encode(faces.batch(part)).latent_dist.mode() for part in parts])
    mean, std = means.mean((0, 2, 3)), means.std((0, 2, 3))
    model = copy.deepcopy(model)
    inwards, outwards, channels = model.quant_conv, model.post_quant_conv, len(mean)
    inwards.bias[:channels] -= mean
    inwards.bias[:channels] /= std
    inwards.weight[:channels] /= std[:, None, None, None]
    inwards.bias[channels:] -= 2 * std.log()
    outwards.bias += outwards.weight[:, :, 0, 0] @ mean
    outwards.weight *= std[None, :, None, None]
    model.register_to_config(scaling_factor=1.0)
    return model


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
