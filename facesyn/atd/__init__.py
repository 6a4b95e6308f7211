"""ATD, the attribute-transfer diffusion: its networks, sampling loop and folder format. Loads torch when used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facesyn.atd.pipeline import ATDPipeline
    from facesyn.atd.style_encoder import Style, StyleEncoder

__all__ = ["ATDPipeline", "Style", "StyleEncoder"]

_MODULES = {
    "ATDPipeline": "facesyn.atd.pipeline",
    "Style": "facesyn.atd.style_encoder",
    "StyleEncoder": "facesyn.atd.style_encoder",
}


def __getattr__(name: str) -> Any:
    """The classes when they are first asked for: other runtimes need the loop, and not the seconds it takes to import
    diffusers' networks."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
