"""The ATD model as one object, and as a folder in diffusers format: `model_index.json` and a folder per part."""

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel

from facesyn import __version__
from facesyn.atd import sampling
from facesyn.atd.style_encoder import Style, StyleEncoder
from facesyn.errors import ModelError

_PARTS = ("vae", "unet", "style_encoder", "scheduler")
_ALLOWED = ("diffusers", "facesyn.atd")


@dataclass
class ATDPipeline:
    """Carries source faces into the style of references.

    The UNet's input is [z_t ; z_id], and the style's layout where the style encoder makes one: its
    `in_channels` is twice the autoencoder's latent channels plus `layout_channels`.
    """

    vae: AutoencoderKL
    unet: UNet2DConditionModel
    style_encoder: StyleEncoder
    scheduler: SchedulerMixin

    @classmethod
    def from_pretrained(cls, folder: Path | str, dtype: torch.dtype = torch.float32) -> "ATDPipeline":
        """Load a local folder. Raises ModelError where it is not an ATD folder; only safetensors weights are read."""
        folder = Path(folder)
        try:
            index = json.loads((folder / "model_index.json").read_text())
        except (OSError, json.JSONDecodeError):
            raise ModelError(
                f"{folder} holds no readable model_index.json.", hint="Pass the folder of a saved ATD model."
            ) from None
        if index.get("_class_name") != cls.__name__:
            raise ModelError(f"{folder} holds a {index.get('_class_name')}, not an {cls.__name__}.")
        parts: dict[str, Any] = {}
        for part in _PARTS:
            module, name = index[part]
            if module not in _ALLOWED:
                raise ModelError(f"{folder}: {part} asks for a class of {module!r}, which facesyn does not load.")
            kind = getattr(importlib.import_module(module), name)
            options: dict[str, Any] = {}
            if issubclass(kind, torch.nn.Module):
                options = {"dtype": dtype, "use_safetensors": True}
            try:
                parts[part] = kind.from_pretrained(folder, subfolder=part, local_files_only=True, **options)
            except OSError as error:
                raise ModelError(f"{folder}: {part} cannot be loaded ({str(error).splitlines()[0]}).") from None
        pipeline = cls(**parts)
        for module in (pipeline.vae, pipeline.unet, pipeline.style_encoder):
            module.eval().requires_grad_(False)
        return pipeline

    def save_pretrained(self, folder: Path | str, variant_dtype: torch.dtype | None = None) -> None:
        """Save as a folder that `from_pretrained` loads; weights as `variant_dtype` where given."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        index: dict[str, Any] = {
            "_class_name": type(self).__name__,
            "_diffusers_version": diffusers.__version__,
            "_facesyn_version": __version__,
        }
        for part in _PARTS:
            model = getattr(self, part)
            library = "facesyn.atd" if isinstance(model, StyleEncoder) else "diffusers"
            index[part] = [library, type(model).__name__]
            if variant_dtype is not None and isinstance(model, torch.nn.Module):
                model = model.to(variant_dtype)
            model.save_pretrained(folder / part)
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")

    def to(self, device: torch.device | str) -> "ATDPipeline":
        for module in (self.vae, self.unet, self.style_encoder):
            module.to(device)
        return self

    @property
    def size(self) -> int:
        """Side of the pictures, in pixels."""
        return int(self.vae.config["sample_size"])

    @property
    def device(self) -> torch.device:
        return torch.device(self.unet.device)

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """See `sampling.encode`."""
        return sampling.encode(self.vae, pictures)

    def style(self, latents: torch.Tensor) -> tuple[Style, Style]:
        """Of references' latents: their style, and what stands for none."""
        style = self.style_encoder(latents)
        return style, self.style_encoder.absent(style)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See `sampling.decode`."""
        return sampling.decode(self.vae, latents)

    def network(self, joined: torch.Tensor, t: torch.Tensor, style: Style) -> torch.Tensor:
        """One UNet call: (b, in_channels, h, w), timestep, style → (b, c, h, w)."""
        return self.unet(joined, t, encoder_hidden_states=style.tokens, class_labels=style.vector, return_dict=False)[0]

    def __call__(
        self,
        sources: torch.Tensor,
        references: torch.Tensor,
        seeds: Sequence[int],
        *,
        steps: int = 10,
        mirrored: bool = False,
        **scales: Any,
    ) -> torch.Tensor:
        """(b, 3, h, w) sources and references in [-1, 1] → transferred faces, the same shape and range.

        `scales`: see `sampling.denoise`; `mirrored`: see `facesyn.atd.transfer.Settings`.
        """
        made = self._made(sources, references, seeds, steps=steps, **scales)
        if mirrored:
            made = (made + self._made(sources.flip(-1), references.flip(-1), seeds, steps=steps, **scales).flip(-1)) / 2
        return made

    @torch.no_grad()
    def _made(
        self, sources: torch.Tensor, references: torch.Tensor, seeds: Sequence[int], **settings: Any
    ) -> torch.Tensor:
        z_id = self.encode(sources.to(self.device, self.dtype))
        style, absent = self.style(self.encode(references.to(self.device, self.dtype)))
        z = sampling.noise(seeds, tuple(z_id.shape[1:])).to(self.device, self.dtype)
        z = sampling.denoise(
            self.network,
            self.scheduler,
            z,
            z_id,
            style,
            absent,
            **settings,
        )
        return self.decode(z).float().cpu()
