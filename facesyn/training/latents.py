"""Latents of a whole set of faces, encoded once and kept in memory and on disk."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from diffusers import AutoencoderKL

from facesyn.atd import sampling
from facesyn.models import fingerprint
from facesyn.tensors import has_bf16


class Pictures(Protocol):
    """Faces that can be had as batches: those of `facesyn.rendered`, or of any folder."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, flip: np.ndarray | None = None) -> torch.Tensor:
        """(b, 3, size, size) in [-1, 1]; `flip[i]` mirrors picture i."""
        ...


@torch.no_grad()
def encode_faces(
    vae_folder: Path,
    faces: Pictures,
    cache: Path,
    report: Callable[[str], None],
    flips: bool = True,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """(2, n, c, h, w) float16 latents, scaled; [0] as they are, [1] of the mirrored pictures ((1, …) without `flips`).

    Kept in the file `cache`, which is made anew when the autoencoder or the faces change.
    """
    key = f"{fingerprint(vae_folder)}-{_sampled(faces)}-{flips}"
    if cache.exists():
        with np.load(cache) as stored:
            if str(stored["key"]) == key:
                return torch.from_numpy(stored["latents"])
    vae = AutoencoderKL.from_pretrained(vae_folder, local_files_only=True, use_safetensors=True)
    vae = vae.eval().to(device, memory_format=torch.channels_last)  # on processors twice as fast
    report(f"encoding {len(faces)} faces")
    sets = []
    for flip in (False, True)[: 1 + flips]:
        parts = []
        for start in range(0, len(faces), batch_size):
            indices = np.arange(start, min(start + batch_size, len(faces)))
            pictures = faces.batch(indices, np.full(len(indices), flip)).to(device)
            with torch.autocast(pictures.device.type, torch.bfloat16, enabled=has_bf16(pictures.device)):
                parts.append(sampling.encode(vae, pictures).half().cpu())
        sets.append(torch.cat(parts))
    latents = torch.stack(sets)
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, latents=latents.numpy(), key=np.array(key))
    return latents


def _sampled(faces: Pictures) -> str:
    """Tells sets of faces apart by their number and some of their pictures: reading all would take minutes."""
    chosen = np.unique(np.linspace(0, len(faces) - 1, 64).astype(int))
    return f"{len(faces)}-{hashlib.sha256(faces.batch(chosen).numpy().tobytes()).hexdigest()}"


@torch.no_grad()
def channel_weights(vae: AutoencoderKL, latents: torch.Tensor, strength: float = 0.5) -> torch.Tensor:
    """(c, 1, 1): how much noise in each channel of `latents` (n, c, h, w) changes decoded pictures; 1 on average.

    All channels have unit variance, but some hold whole areas and others grain, which is also what is hardest to
    predict. Without these weights a diffusion spends most of its effort there.
    """
    whole = sampling.decode(vae, latents)
    generator = torch.Generator().manual_seed(0)
    changes = []
    for channel in range(latents.shape[1]):
        noisy = latents.clone()
        noisy[:, channel] += strength * torch.randn(noisy[:, channel].shape, generator=generator)
        changes.append((sampling.decode(vae, noisy) - whole).abs().mean())
    weights = torch.stack(changes)
    return (weights / weights.mean())[:, None, None]
