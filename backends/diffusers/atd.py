"""ATD on PyTorch: the same networks and sampling loop as `facesyn.atd`, loaded from a folder."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from facesyn.atd import ATDPipeline
from facesyn.atd.transfer import TransferSampler, transfer_settings
from facesyn.model_folder import default_settings, name_of
from facesyn.models import resolve
from facesyn.tensors import choose_device, choose_dtype

from .versions import versions


class ATDTransfer:
    """Source faces into the style of references.

    `model` is a bundle name or an ATD folder. What is left out of the settings comes from the model;
    a `style_scale` of 0 switches the style off; the identity scale holds from step `identity_from` on, counted from 0;
    `mirrored` gives the mean of a face and of that from mirrored pictures. `compile` takes minutes at the first batch
    of a size, then is faster.
    """

    def __init__(
        self,
        model: str = "mini",
        device: str = "auto",
        dtype: str = "fp32",
        steps: int | None = None,
        identity_scale: float | None = None,
        style_scale: float | None = None,
        identity_from: int | None = None,
        mirrored: bool | None = None,
        compile: bool = False,
    ):
        place = choose_device(device)
        folder = resolve(model, "atd")
        pipeline = ATDPipeline.from_pretrained(folder, choose_dtype(dtype, place)).to(place)
        if place.type == "cuda":
            pipeline.unet.to(memory_format=torch.channels_last)
        if compile:
            pipeline.unet.compile()
        settings = transfer_settings(
            default_settings(folder), steps, identity_scale, style_scale, identity_from, mirrored
        )
        self._sampler = TransferSampler(pipeline, settings)
        self.size = pipeline.size
        self._facts = {
            "backend": "diffusers",
            "model": name_of(model, folder),
            **self._sampler.facts(),
            "dtype": dtype,
            "device": place.type,
            **({"compile": True} if compile else {}),
            **versions(),
        }

    def transfer(
        self, sources: Sequence[Image.Image], references: Sequence[Image.Image], seeds: Sequence[int]
    ) -> list[Image.Image]:
        """See `facesyn.protocols.AttributeTransfer`."""
        return self._sampler(sources, references, seeds)

    def facts(self) -> Mapping[str, Any]:
        return self._facts
