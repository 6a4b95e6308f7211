"""UFG on diffusers: Stable Diffusion 1.5 or SDXL with a ControlNet that follows edge maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline
from PIL import Image, ImageOps

from facesyn.errors import ModelError, UsageError
from facesyn.models import resolve
from facesyn.records import PromptRow
from facesyn.registry import suggest
from facesyn.tensors import choose_device, choose_dtype, to_pictures

from .folders import default_settings, name_of, read_json, versions

SCHEDULERS = {
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "dpmpp-2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp-2m-karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
"""Deterministic given the initial noise, so that a picture is a function of its seed."""

_NO_INDEX = "A model is a folder in the diffusers format, with model_index.json."


class UFGGenerator:
    """Prompts and edge maps to unique frontal faces.

    `model` and `controlnet` are bundle names, diffusers folders or hub ids; without `controlnet`, the bundle's or the
    folder's own is used. What is left out of `scheduler`, `steps` and `guidance_scale` comes from the model.
    """

    def __init__(
        self,
        model: str = "mini",
        controlnet: str | None = None,
        device: str = "auto",
        dtype: str = "fp32",
        scheduler: str | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        conditioning_scale: float = 1.0,
    ):
        self._device = choose_device(device)
        self._dtype = choose_dtype(dtype, self._device)
        folder = resolve(model, "ufg")
        control_folder = _controlnet_folder(model, controlnet, folder)
        defaults = default_settings(folder)
        self._steps = int(steps or defaults.get("steps", 30))
        self._guidance = float(defaults.get("guidance_scale", 7.5) if guidance_scale is None else guidance_scale)
        self._conditioning = conditioning_scale
        self._pipeline = _load(folder, control_folder, self._dtype)
        if scheduler is not None:
            self._pipeline.scheduler = _scheduler(scheduler, self._pipeline.scheduler.config)
        self._pipeline.set_progress_bar_config(disable=True)
        self._pipeline.to(self._device)
        self.size = int(self._pipeline.unet.config.sample_size * self._pipeline.vae_scale_factor)
        self._facts = {
            "backend": "diffusers",
            "model": name_of(model, folder),
            "controlnet": name_of(controlnet or model, control_folder),
            "scheduler": type(self._pipeline.scheduler).__name__,
            "steps": self._steps,
            "guidance_scale": self._guidance,
            "conditioning_scale": self._conditioning,
            "size": self.size,
            "dtype": dtype,
            "device": self._device.type,
            **versions(),
        }

    def generate(
        self, prompts: Sequence[PromptRow], edges: Sequence[Image.Image], seeds: Sequence[int]
    ) -> list[Image.Image]:
        """See `facesyn.protocols.FaceGenerator`."""
        shape = (self.size, self.size)
        conditions = [ImageOps.fit(edge.convert("L"), shape, Image.Resampling.BICUBIC).convert("RGB") for edge in edges]
        result = self._pipeline(
            [row.prompt for row in prompts],
            negative_prompt=[row.negative_prompt for row in prompts],
            image=conditions,
            height=self.size,
            width=self.size,
            num_inference_steps=self._steps,
            guidance_scale=self._guidance,
            controlnet_conditioning_scale=self._conditioning,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="pt",
        )
        return to_pictures(result.images * 2 - 1)

    def facts(self) -> Mapping[str, Any]:
        return self._facts


def _controlnet_folder(model: str, controlnet: str | None, folder: Path) -> Path:
    if controlnet is not None:
        return resolve(controlnet, "controlnet")
    if (folder / "controlnet").is_dir():
        return folder / "controlnet"
    raise ModelError(
        f"The model {model!r} has no ControlNet of its own.",
        hint="Add --controlnet with a Canny ControlNet's folder or hub id.",
    )


def _load(folder: Path, control_folder: Path, dtype: torch.dtype) -> Any:
    index = read_json(folder / "model_index.json", _NO_INDEX)
    name = str(index.get("_class_name"))
    if not name.startswith("StableDiffusion"):
        raise ModelError(f"{folder} holds a {name}.", hint="UFG runs on Stable Diffusion 1.5 and SDXL models.")
    _no_progress_bars()
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "local_files_only": True}
    try:
        controlnet = ControlNetModel.from_pretrained(control_folder, **options)
        if name.startswith("StableDiffusionXL"):
            pipeline = StableDiffusionXLControlNetPipeline.from_pretrained(folder, controlnet=controlnet, **options)
        else:
            pipeline = StableDiffusionControlNetPipeline.from_pretrained(
                folder,
                controlnet=controlnet,
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
                **options,
            )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The model in {folder} cannot be loaded: {str(error).splitlines()[0]}", hint=_NO_INDEX
        ) from None
    wanted, given = pipeline.unet.config.cross_attention_dim, controlnet.config.cross_attention_dim
    if wanted != given:
        raise ModelError(
            f"The ControlNet in {control_folder} was made for another model (context of {given}, not {wanted}).",
            hint="Use a ControlNet of the same family: SD 1.5 with SD 1.5, SDXL with SDXL.",
        )
    return pipeline


def _no_progress_bars() -> None:
    """Loading small files is not worth bars of its own; downloads keep theirs."""
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def _scheduler(name: str, config: Mapping[str, Any]) -> Any:
    if name not in SCHEDULERS:
        raise UsageError(f"There is no scheduler called {name!r}.", hint=suggest(name, SCHEDULERS, "Schedulers"))
    kind, options = SCHEDULERS[name]
    return getattr(diffusers, kind).from_config(config, **options)
