"""What a row must say of the libraries that made it."""

import diffusers
import torch


def versions() -> dict[str, str]:
    return {"torch": str(torch.__version__), "diffusers": diffusers.__version__}
