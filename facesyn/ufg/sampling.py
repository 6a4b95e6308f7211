"""UFG's sampling: classifier-free guidance under a ControlNet, over networks of any runtime, which are passed in.

What does not change from step to step is computed once: the text per prompt, the ControlNet's view of the edge map
per picture. Prompted and unprompted predictions are one batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps

from facesyn.atd.sampling import noise
from facesyn.model_folder import setting
from facesyn.records import PromptRow
from facesyn.tensors import to_pictures

TEXTS = 64
"""Prompts whose embeddings are kept: negative ones repeat from picture to picture."""


class Context(NamedTuple):
    """What the networks get to know of prompts."""

    tokens: torch.Tensor
    """(b, length, d): read by cross-attention."""
    pooled: torch.Tensor | None = None
    """(b, d'): SDXL's second encoder's summary; None for others."""


class Networks(Protocol):
    """The networks of a UFG model, in some runtime. Tensors in and out are on `device`, in `dtype`."""

    device: torch.device
    dtype: torch.dtype
    scheduler: Any
    size: int
    """Side of the pictures, in pixels."""
    latent: tuple[int, int, int]
    """Shape of one picture's latent."""

    def text(self, prompt: str) -> Context:
        """The context of one prompt, as a batch of 1."""
        ...

    def control(self, edges: torch.Tensor) -> torch.Tensor:
        """(b, 3, size, size) edge maps in [0, 1] → (b, c, h, w), what the ControlNet adds to its input."""
        ...

    def predict(
        self, z: torch.Tensor, t: torch.Tensor, context: Context, control: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """The UNet's prediction under the ControlNet, whose residuals are multiplied by `scale`."""
        ...

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(b, *latent) → (b, 3, size, size), about [-1, 1]."""
        ...


@dataclass(frozen=True)
class Settings:
    """How a model is sampled; a `guidance_scale` of 1 or less is no guidance."""

    steps: int
    guidance_scale: float
    conditioning_scale: float = 1.0


def generation_settings(
    defaults: Mapping[str, Any],
    steps: int | None = None,
    guidance_scale: float | None = None,
    conditioning_scale: float | None = None,
) -> Settings:
    """What is asked for, else what the model was made for. Raises UsageError for what cannot be sampled with."""
    return Settings(
        setting(defaults, "steps", steps, 30, least=1),
        setting(defaults, "guidance_scale", guidance_scale, 7.5, least=0.0),
        setting(defaults, "conditioning_scale", conditioning_scale, 1.0, least=0.0),
    )


class FaceSampler:
    """Prompts and edge maps to faces, with the networks and settings it is given."""

    def __init__(self, networks: Networks, settings: Settings):
        self._networks, self._settings = networks, settings
        self._text = lru_cache(maxsize=TEXTS)(networks.text)

    def facts(self) -> dict[str, Any]:
        """What the sampling adds to a row's facts, in whatever runtime."""
        name = type(self._networks.scheduler).__name__
        return {"scheduler": name, **asdict(self._settings), "size": self._networks.size}

    @torch.no_grad()
    def __call__(
        self, prompts: Sequence[PromptRow], edges: Sequence[Image.Image], seeds: Sequence[int]
    ) -> list[Image.Image]:
        """See `facesyn.protocols.FaceGenerator.generate`."""
        networks, settings = self._networks, self._settings
        guided = settings.guidance_scale > 1
        texts = [row.negative_prompt for row in prompts] if guided else []
        # One prompt at a time: what is remembered must not depend on the batch it was first computed in.
        context = _stack([self._text(text) for text in [*texts, *(row.prompt for row in prompts)]])
        control = networks.control(_edge_tensor(edges, networks.size).to(networks.device, networks.dtype))
        copies = 2 if guided else 1
        control = control.repeat(copies, 1, 1, 1)
        scheduler = networks.scheduler
        scheduler.set_timesteps(settings.steps, device=networks.device)
        z = noise(seeds, networks.latent).to(networks.device, networks.dtype) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            z_t = scheduler.scale_model_input(z, t).repeat(copies, 1, 1, 1)
            prediction = networks.predict(z_t, t, context, control, settings.conditioning_scale)
            if guided:
                without, prompted = prediction.chunk(2)
                prediction = without + settings.guidance_scale * (prompted - without)
            z = scheduler.step(prediction, t, z).prev_sample
        return to_pictures(networks.decode(z))


def _stack(contexts: Sequence[Context]) -> Context:
    pooled = [context.pooled for context in contexts if context.pooled is not None]
    return Context(torch.cat([context.tokens for context in contexts]), torch.cat(pooled) if pooled else None)


def _edge_tensor(edges: Sequence[Image.Image], size: int) -> torch.Tensor:
    """(b, 3, size, size) float32 in [0, 1]."""
    fitted = [ImageOps.fit(edge.convert("L"), (size, size), Image.Resampling.BICUBIC) for edge in edges]
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in fitted])).float() / 255
    return pixels[:, None].repeat(1, 3, 1, 1)
