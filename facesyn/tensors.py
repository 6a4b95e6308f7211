"""Pictures to tensors and back. Loads torch when imported; knows nothing of models."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from facesyn.errors import UsageError

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def to_tensor(pictures: Sequence[Image.Image], size: int) -> torch.Tensor:
    """(b, 3, size, size) float32 in [-1, 1]; other shapes are cropped to their central square and resized."""
    fitted = [
        picture.convert("RGB")
        if picture.size == (size, size)
        else ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.LANCZOS)
        for picture in pictures
    ]
    pixels = np.stack([np.asarray(picture) for picture in fitted])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(tensor: torch.Tensor) -> list[Image.Image]:
    """The inverse of `to_tensor`, rounding to 8 bits."""
    pixels = ((tensor.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(picture) for picture in pixels]


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA, else MPS, else the CPU. Raises UsageError for a device that is not here."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(
            f"There is no kind of device called {name!r}.", hint="Use auto, cpu, cuda, cuda:1 or mps."
        ) from None
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not here.get(device.type, False):
        raise UsageError(f"The device {name!r} is not available here.", hint="Run `facesyn doctor` to see what is.")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Raises UsageError for an unknown name, and for fp16 on the CPU, where diffusion networks overflow or crawl."""
    if name not in _DTYPES:
        raise UsageError(f"There is no precision called {name!r}.", hint=f"Use one of {', '.join(_DTYPES)}.")
    if name == "fp16" and device.type == "cpu":
        raise UsageError("fp16 needs a GPU.", hint="Use --dtype bf16 or fp32 on the CPU.")
    return _DTYPES[name]


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16; elsewhere it is emulated, many times slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    abilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch do not say
    return device.type == "cpu" and any(abilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))
