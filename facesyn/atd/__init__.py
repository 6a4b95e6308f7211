"""ATD, the attribute-transfer diffusion: its networks, sampling loop and folder format. Loads torch when imported."""

from facesyn.atd.pipeline import ATDPipeline
from facesyn.atd.style_encoder import Style, StyleEncoder

__all__ = ["ATDPipeline", "Style", "StyleEncoder"]
