"""Latents of a whole set of faces, encoded once and kept in memory and on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from facesyn.atd import sampling
from facesyn.models import fingerprint
from facesyn.rendered import RenderedFaces


@torch.no_grad()
def encode_faces(
    vae_folder: Path,
    faces: RenderedFaces,
    cache: Path,
    report: Callable[[str], None],
    flips: bool = True,
    batch_size: int = 16,
) -> torch.Tensor:
    """(2, n, c, h, w) float16 latents, scaled; [0] as they are, [1] of the mirrored pictures ((1, …) without `flips`).

    Kept in the file `cache`, which is made anew when the autoencoder or the number of faces changes.
    """
    key = f"{fingerprint(vae_folder)}-{len(faces)}-{flips}"
    if cache.exists():
        with np.load(cache) as stored:
            if str(stored["key"]) == key:
                return torch.from_numpy(stored["latents"])
    vae = AutoencoderKL.from_pretrained(vae_folder, local_files_only=True, use_safetensors=True).eval()
    report(f"encoding {len(faces)} faces")
    sets = []
    for flip in (False, True)[: 1 + flips]:
        parts = []
        for start in range(0, len(faces), batch_size):
            indices = np.arange(start, min(start + batch_size, len(faces)))
            pictures = faces.batch(indices, np.full(len(indices), flip))
            with torch.autocast("cpu", torch.bfloat16):
                parts.append(sampling.encode(vae, pictures).half())
        sets.append(torch.cat(parts))
    latents = torch.stack(sets)
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, latents=latents.numpy(), key=np.array(key))
    return latents
