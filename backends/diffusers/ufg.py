"""UFG on diffusers: Stable Diffusion 1.5 or SDXL with a ControlNet that follows edge maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline
from PIL import Image

from facesyn.errors import ModelError
from facesyn.model_folder import default_settings, name_of, read_json
from facesyn.models import resolve
from facesyn.records import PromptRow
from facesyn.schedulers import named_scheduler
from facesyn.tensors import choose_device, choose_dtype
from facesyn.ufg import Context, FaceSampler, generation_settings
from facesyn.ufg.folder import NO_INDEX, controlnet_folder

from .versions import versions


class UFGGenerator:
    """Prompts and edge maps to unique frontal faces.

    `model` and `controlnet` are bundle names, diffusers folders or hub ids; without `controlnet`, the bundle's or the
    folder's own is used. What is left out of `scheduler`, `steps` and both scales comes from the model.
    `compile` takes minutes at the first batch of a size, then is faster.
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
        conditioning_scale: float | None = None,
        compile: bool = False,
    ):
        place = choose_device(device)
        folder = resolve(model, "ufg")
        control_folder = controlnet_folder(model, controlnet, folder)
        settings = generation_settings(default_settings(folder), steps, guidance_scale, conditioning_scale)
        pipeline = load_pipeline(folder, control_folder, choose_dtype(dtype, place))
        if scheduler is not None:
            pipeline.scheduler = named_scheduler(scheduler, pipeline.scheduler.config)
        networks = TorchNetworks(pipeline.to(place), compile)
        self._sampler = FaceSampler(networks, settings)
        self.size = networks.size
        self._facts = {
            "backend": "diffusers",
            "model": name_of(model, folder),
            "controlnet": name_of(controlnet or model, control_folder),
            **self._sampler.facts(),
            "dtype": dtype,
            "device": place.type,
            **({"compile": True} if compile else {}),
            **versions(),
        }

    def generate(
        self, prompts: Sequence[PromptRow], edges: Sequence[Image.Image], seeds: Sequence[int]
    ) -> list[Image.Image]:
        """See `facesyn.protocols.FaceGenerator`."""
        return self._sampler(prompts, edges, seeds)

    def facts(self) -> Mapping[str, Any]:
        return self._facts


class TorchNetworks:
    """The networks of a diffusers ControlNet pipeline, as `facesyn.ufg.Networks`; the pipeline is used up."""

    def __init__(self, pipeline: Any, compile: bool = False):
        self._pipeline = pipeline
        self._unet, self._vae, self._controlnet = pipeline.unet, pipeline.vae, pipeline.controlnet
        self.scheduler = pipeline.scheduler
        self.device, self.dtype = torch.device(self._unet.device), self._unet.dtype
        side = int(self._unet.config.sample_size)
        self.size = side * int(pipeline.vae_scale_factor)
        self.latent = (int(self._unet.config.in_channels), side, side)
        # The ControlNet embeds its edge map anew at every step; it is given the embedding instead. Edge maps are
        # grey, so an order of channels means nothing.
        self._embed_edges = self._controlnet.controlnet_cond_embedding
        self._controlnet.controlnet_cond_embedding = torch.nn.Identity()
        self._controlnet.register_to_config(controlnet_conditioning_channel_order="rgb")
        if self.device.type == "cuda":
            self._unet.to(memory_format=torch.channels_last)
            self._controlnet.to(memory_format=torch.channels_last)
        if compile:
            self._unet.compile()
            self._controlnet.compile()

    def text(self, prompt: str) -> Context:
        found = self._pipeline.encode_prompt(
            prompt=prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return Context(found[0].to(self.dtype), found[2] if len(found) == 4 else None)

    def control(self, edges: torch.Tensor) -> torch.Tensor:
        return self._embed_edges(edges)

    def predict(
        self, z: torch.Tensor, t: torch.Tensor, context: Context, control: torch.Tensor, scale: float
    ) -> torch.Tensor:
        known: dict[str, Any] = {"encoder_hidden_states": context.tokens, "return_dict": False}
        if context.pooled is not None:
            known["added_cond_kwargs"] = {"text_embeds": context.pooled, "time_ids": self._sizes(len(z))}
        down, middle = self._controlnet(z, t, controlnet_cond=control, conditioning_scale=scale, **known)
        return self._unet(z, t, down_block_additional_residuals=down, mid_block_additional_residual=middle, **known)[0]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        if isinstance(self._pipeline, StableDiffusionXLControlNetPipeline) and self.dtype == torch.float16:
            self._vae.to(torch.float32)  # SDXL's overflows in half precision
        latents = latents.to(self._vae.dtype) / self._vae.config.scaling_factor
        return self._vae.decode(latents, return_dict=False)[0]

    def _sizes(self, count: int) -> torch.Tensor:
        """SDXL's micro-conditioning: a whole picture of its native size, uncropped."""
        return torch.tensor([[self.size, self.size, 0, 0, self.size, self.size]] * count).to(self.device, self.dtype)


def load_pipeline(folder: Path, control_folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The diffusers pipeline of a folder with a ControlNet, on the CPU. Raises ModelError."""
    index = read_json(folder / "model_index.json", NO_INDEX)
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
            f"The model in {folder} cannot be loaded: {str(error).splitlines()[0]}", hint=NO_INDEX
        ) from None
    wanted, given = pipeline.unet.config.cross_attention_dim, controlnet.config.cross_attention_dim
    if wanted != given:
        raise ModelError(
            f"The ControlNet in {control_folder} was made for another model (context of {given}, not {wanted}).",
            hint="Use a ControlNet of the same family: SD 1.5 with SD 1.5, SDXL with SDXL.",
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _no_progress_bars() -> None:
    """Loading small files is not worth bars of its own; downloads keep theirs."""
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
