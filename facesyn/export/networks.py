"""The networks of a model as plain functions of tensors: what is traced, and what graphs are compared with.

Loads torch when imported. Inputs and outputs are float32 but for token ids; the first axis is always the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facesyn.errors import ModelError
from facesyn.export.layout import GRAPHS
from facesyn.model_folder import read_json


@dataclass(frozen=True)
class Network:
    """One network: `module` is called with `inputs` (a batch of 2) by position; `weights` owns its parameters."""

    name: str
    file: str
    """The graph, relative to the part's folder."""
    module: nn.Module
    weights: nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: list[str]

    @property
    def has_batch_norm(self) -> bool:
        return any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in self.weights.modules())


class _Call(nn.Module):
    """A function of tensors as a module, for the exporter; `owner` holds the parameters it uses."""

    def __init__(self, owner: nn.Module, function: Callable[..., Any]):
        super().__init__()
        self.owner = owner
        self.function = function

    def forward(self, *tensors: torch.Tensor) -> Any:
        return self.function(*tensors)


def networks_of(part: str, folder: Path) -> list[Network]:
    """The networks in the folder of a part (`ufg`, `atd`, `recogniser`). Raises ModelError where it is none."""
    torch.manual_seed(0)  # of the inputs
    return {"ufg": _ufg, "atd": _atd, "recogniser": _recogniser}[part](folder)


def part_of(folder: Path) -> str:
    """Which part a folder holds. Raises ModelError where graphs of its kind are not made."""
    from facesyn.identity.backbones import CLASSES

    hint = "Graphs are made of Stable Diffusion 1.5-shaped folders, of ATD folders and of recognisers."
    file = folder / "model_index.json"
    name = str(read_json(file if file.is_file() else folder / "config.json", hint).get("_class_name"))
    if name.startswith("StableDiffusion") and not name.startswith(("StableDiffusionXL", "StableDiffusion3")):
        return "ufg"
    if name in ("ATDPipeline", *CLASSES):
        return "atd" if name == "ATDPipeline" else "recogniser"
    raise ModelError(f"{folder} holds a {name}, of which no graphs are made.", hint=hint)


def _ufg(folder: Path) -> list[Network]:
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
    from transformers import CLIPTextModel

    text = _loaded(CLIPTextModel, folder / "text_encoder")
    unet = _loaded(UNet2DConditionModel, folder / "unet")
    controlnet = _loaded(ControlNetModel, folder / "controlnet")
    condition = controlnet.controlnet_cond_embedding
    controlnet.controlnet_cond_embedding = nn.Identity()
    controlnet.register_to_config(controlnet_conditioning_channel_order="rgb")  # edge maps are grey
    vae = _loaded(AutoencoderKL, folder / "vae")
    side = int(unet.config.sample_size)
    pixels = side * 2 ** (len(vae.config.block_out_channels) - 1)
    ids = torch.randint(0, text.config.vocab_size, (2, text.config.max_position_embeddings))
    z, t = torch.randn(2, unet.config.in_channels, side, side), torch.tensor([501.0, 21.0])
    context = torch.randn(2, text.config.max_position_embeddings, unet.config.cross_attention_dim)
    edges = (torch.rand(2, 3, pixels, pixels) > 0.9).float()

    def read(ids: torch.Tensor) -> Any:
        return text(ids)[0]

    def control(z: torch.Tensor, t: torch.Tensor, context: torch.Tensor, condition: torch.Tensor) -> Any:
        down, middle = controlnet(z, t, encoder_hidden_states=context, controlnet_cond=condition, return_dict=False)
        return (middle, *down)

    def denoise(z: torch.Tensor, t: torch.Tensor, context: torch.Tensor, *residuals: torch.Tensor) -> Any:
        return unet(
            z,
            t,
            encoder_hidden_states=context,
            mid_block_additional_residual=residuals[0],
            down_block_additional_residuals=residuals[1:],
            return_dict=False,
        )[0]

    with torch.no_grad():
        embedded = condition(edges)
        residuals = control(z, t, context, embedded)
    names = ["middle", *(f"down_{number}" for number in range(len(residuals) - 1))]
    known = {"z": z, "t": t, "context": context}
    whole = nn.ModuleDict({"controlnet_cond_embedding": condition})  # under the names of its file
    return [
        _network("ufg", "text", text, read, {"ids": ids}, ["context"]),
        _network("ufg", "condition", whole, condition, {"edges": edges}, ["condition"]),
        _network("ufg", "controlnet", controlnet, control, known | {"condition": embedded}, names),
        _network("ufg", "unet", unet, denoise, known | dict(zip(names, residuals, strict=True)), ["prediction"]),
        *_autoencoder("ufg", vae, side, pixels),
    ]


def _atd(folder: Path) -> list[Network]:
    from facesyn.atd import ATDPipeline

    pipeline = ATDPipeline.from_pretrained(folder)
    unet, vae, encoder = pipeline.unet, pipeline.vae, pipeline.style_encoder
    side = int(unet.config["sample_size"])
    latents = torch.randn(2, vae.config["latent_channels"], side, side)
    with torch.no_grad():
        style = encoder(latents)
    present = {name: value for name, value in style._asdict().items() if value is not None}
    seen = {name: value for name, value in present.items() if name != "layout"}  # a layout is joined with z

    def styled(latents: torch.Tensor) -> Any:
        style = encoder(latents)
        return (*(value for value in style if value is not None), encoder.absent(style).tokens)

    def denoise(joined: torch.Tensor, t: torch.Tensor, tokens: torch.Tensor, vector: torch.Tensor | None = None) -> Any:
        return unet(joined, t, encoder_hidden_states=tokens, class_labels=vector, return_dict=False)[0]

    joined = torch.randn(2, unet.config["in_channels"], side, side)
    inputs = {"joined": joined, "t": torch.tensor([501.0, 21.0]), **seen}
    return [
        _network("atd", "unet", unet, denoise, inputs, ["prediction"]),
        _network("atd", "style", encoder, styled, {"latents": latents}, [*present, "absent"]),
        *_autoencoder("atd", vae, side, pipeline.size),
    ]


def _autoencoder(part: str, vae: Any, side: int, pixels: int) -> list[Network]:
    """Without the scaling of latents, which is configuration."""
    latents = torch.randn(2, vae.config.latent_channels, side, side)
    pictures = torch.rand(2, 3, pixels, pixels) * 2 - 1

    def encode(pictures: torch.Tensor) -> torch.Tensor:
        return vae.encode(pictures).latent_dist.mode()

    def decode(latents: torch.Tensor) -> torch.Tensor:
        return vae.decode(latents, return_dict=False)[0]

    return [
        _network(part, "encoder", vae, encode, {"pictures": pictures}, ["latents"]),
        _network(part, "decoder", vae, decode, {"latents": latents}, ["pictures"]),
    ]


def _recogniser(folder: Path) -> list[Network]:
    from facesyn.identity.backbones import load_recogniser

    model: Any = load_recogniser(folder).eval()
    faces = torch.rand(2, 3, model.config["size"], model.config["size"]) * 2 - 1
    return [_network("recogniser", "recogniser", model, model, {"faces": faces}, ["embeddings"])]


def _network(
    part: str,
    name: str,
    owner: nn.Module,
    function: Callable[..., Any],
    inputs: dict[str, torch.Tensor],
    outputs: list[str],
) -> Network:
    return Network(name, GRAPHS[part][name], _Call(owner, function).eval(), owner, inputs, outputs)


def _loaded(kind: Any, folder: Path) -> Any:
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    try:
        model = kind.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} cannot be loaded: {str(error).splitlines()[0]}") from None
    return model.eval().requires_grad_(False)
