"""ATD on PyTorch: the same networks and sampling loop as `facesyn.atd`, loaded from a folder."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from facesyn.atd import ATDPipeline
from facesyn.models import resolve
from facesyn.tensors import choose_device, choose_dtype, to_pictures, to_tensor

from .folders import default_settings, name_of, versions


class ATDTransfer:
    """Source faces into the style of references.

    `model` is a bundle name or an ATD folder. What is left out of the settings comes from the model;
    a `style_scale` of 0 switches the style off.
    """

    def __init__(
        self,
        model: str = "mini",
        device: str = "auto",
        dtype: str = "fp32",
        steps: int | None = None,
        identity_scale: float | None = None,
        style_scale: float | None = None,
    ):
        self._device = choose_device(device)
        folder = resolve(model, "atd")
        self._pipeline = ATDPipeline.from_pretrained(folder, choose_dtype(dtype, self._device)).to(self._device)
        defaults = default_settings(folder)
        self._settings: dict[str, Any] = {
            "steps": int(steps or defaults.get("steps", 20)),
            "identity_scale": float(defaults.get("identity_scale", 1.0) if identity_scale is None else identity_scale),
            "style_scale": float(defaults.get("style_scale", 1.0) if style_scale is None else style_scale),
        }
        self.size = self._pipeline.size
        self._facts = {
            "backend": "diffusers",
            "model": name_of(model, folder),
            "scheduler": type(self._pipeline.scheduler).__name__,
            **self._settings,
            "size": self.size,
            "dtype": dtype,
            "device": self._device.type,
            **versions(),
        }

    def transfer(
        self, sources: Sequence[Image.Image], references: Sequence[Image.Image], seeds: Sequence[int]
    ) -> list[Image.Image]:
        """See `facesyn.protocols.AttributeTransfer`."""
        pictures = self._pipeline(
            to_tensor(sources, self.size), to_tensor(references, self.size), seeds, **self._settings
        )
        return to_pictures(pictures)

    def facts(self) -> Mapping[str, Any]:
        return self._facts
