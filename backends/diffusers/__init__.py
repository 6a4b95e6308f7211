"""Face generation and attribute transfer with PyTorch and diffusers, on any Stable Diffusion 1.5 or SDXL folder."""

from .atd import ATDTransfer
from .ufg import UFGGenerator

__all__ = ["ATDTransfer", "UFGGenerator"]
