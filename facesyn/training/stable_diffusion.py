"""A full-size ATD: begun from a Stable Diffusion folder, trained on any folder of known people. Losses are `atd`'s.

At its first step it is Stable Diffusion: the new channels of its first convolution weigh nothing, and its context is
that of a fixed caption, to which the style encoder adds nothing yet (the way of InstructPix2Pix, Brooks et al. 2023).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from facesyn.atd import ATDPipeline, StyleEncoder
from facesyn.errors import ModelError, UsageError
from facesyn.evaluation.measures import ssim_map
from facesyn.labelled import LabelledFaces
from facesyn.rendered import StylePairs
from facesyn.tensors import to_tensor
from facesyn.training.atd import VALIDATION_STEPS, ATDNetworks, TransferLosses
from facesyn.training.judges import judges
from facesyn.training.latents import encode_faces
from facesyn.training.loop import Run, Settings
from facesyn.training.schedule import predicts_noise, visited_timesteps
from facesyn.training.sheets import write_sheet

CAPTION = "portrait photograph of a person"
GRID = 5
"""Patch statistics a side; from 7 on they hold the reference's identity (DCFace, Kim et al. 2023)."""
WIDTH = 192
HELD_OUT = 50
"""Every so-many-th person is only looked at."""
SOURCES = 4
"""Other pictures of the same person that each picture is made from, where no portrait is known."""
SHOWN = 8


def begin(base: Path, layout: bool) -> ATDPipeline:
    """An ATD that is still the Stable Diffusion in the diffusers folder `base`; `layout` for exact pairs only.

    Raises ModelError where `base` is not of that shape.
    """
    here: dict[str, Any] = {"pretrained_model_name_or_path": base, "local_files_only": True}
    weights = here | {"use_safetensors": True}
    try:
        unet: UNet2DConditionModel = UNet2DConditionModel.from_pretrained(**weights, subfolder="unet")
        vae: AutoencoderKL = AutoencoderKL.from_pretrained(**weights, subfolder="vae")
        text_encoder = CLIPTextModel.from_pretrained(**weights, subfolder="text_encoder")
        tokenizer = CLIPTokenizer.from_pretrained(**here, subfolder="tokenizer")
        scheduler: DDIMScheduler = DDIMScheduler.from_pretrained(**here, subfolder="scheduler")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{base} holds no Stable Diffusion 1 or 2 ({str(error).splitlines()[0]}).",
            hint="Pass a diffusers folder with unet, vae, text_encoder, tokenizer and scheduler.",
        ) from None
    if unet.config["addition_embed_type"] is not None or unet.config["in_channels"] != vae.config["latent_channels"]:
        raise ModelError(f"{base} holds another kind of model.", hint="ATD begins from Stable Diffusion 1 or 2.")
    predicts_noise(scheduler)
    channels = vae.config["latent_channels"]
    style_encoder = StyleEncoder(
        channels,
        width=WIDTH,
        grid=GRID,
        token_dim=unet.config["cross_attention_dim"],
        vector_dim=None,
        layout_channels=channels if layout else 0,
    )
    for last in (style_encoder.patch[-1], style_encoder.whole[-1]):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    with torch.no_grad():
        style_encoder.base.copy_(fixed_context(text_encoder, tokenizer, len(style_encoder.base)))
    return ATDPipeline(vae, widened(unet, channels * (2 if layout else 1)), style_encoder, scheduler)


def picture_size(base: Path) -> int:
    """Pixels a side of what the autoencoder of `base` was made for."""
    try:
        return int(AutoencoderKL.load_config(base, subfolder="vae", local_files_only=True)["sample_size"])
    except OSError:
        raise ModelError(f"{base} holds no autoencoder.", hint="Pass a Stable Diffusion folder.") from None


@torch.no_grad()
def fixed_context(text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, tokens: int) -> torch.Tensor:
    """(tokens, d): what the text encoder makes of `CAPTION`, as so many tokens."""
    words = tokenizer(CAPTION, padding="max_length", max_length=tokens, truncation=True, return_tensors="pt")
    context: torch.Tensor = text_encoder(words.input_ids)[0][0]
    return context


def widened(unet: UNet2DConditionModel, more: int) -> UNet2DConditionModel:
    """A copy with `more` input channels, which change nothing yet."""
    wide = UNet2DConditionModel.from_config({**unet.config, "in_channels": unet.config["in_channels"] + more})
    state = unet.state_dict()
    kernel = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat([kernel, kernel.new_zeros(len(kernel), more, *kernel.shape[2:])], 1)
    wide.load_state_dict(state)
    return wide


class Photographs:
    """Pictures of any folder as batches of `size` pixels a side, decoded when they are asked for."""

    def __init__(self, faces: LabelledFaces, size: int):
        self.faces, self.size = faces, size

    def __len__(self) -> int:
        return len(self.faces)

    def batch(self, indices: np.ndarray, flip: np.ndarray | None = None) -> torch.Tensor:
        """(b, 3, size, size) in [-1, 1]; `flip[i]` mirrors picture i."""
        pictures = to_tensor([self.faces.open(int(index)) for index in indices], self.size)
        if flip is not None:
            pictures[flip] = pictures[flip].flip(3)
        return pictures


def pair(faces: LabelledFaces, seed: int = 0) -> tuple[StylePairs, bool]:
    """What to learn from, and whether it is exact: rendered people share styles, photographed ones do not.

    A photograph is then its own reference, and the source another one of the same person; that the style encoder is a
    bottleneck is what keeps it from copying. Raises UsageError where nobody has two pictures.
    """
    if all(isinstance(label.get("style"), int) for label in faces.labels):
        exact = StylePairs.of(faces.labels)
        if len(exact):
            return exact, True
    rng = np.random.default_rng(seed)
    pairs = StylePairs([], [], [])
    for members in faces.members().values():
        for target in members:
            others = [index for index in members if index != target]
            for source in rng.permutation(others)[:SOURCES]:
                pairs.target.append(target)
                pairs.source.append(int(source))
                pairs.references.append([target])
    if not len(pairs):
        raise UsageError("Nobody there has two pictures.", hint="Give a folder with several pictures per person.")
    return pairs, False


def train_full_size(
    base: Path,
    faces: LabelledFaces,
    folder: Path,
    settings: Settings,
    report: Callable[[str], None],
    recogniser_folder: Path | None = None,
    classifier_folder: Path | None = None,
    sampling_steps: int | None = None,
) -> bool:
    """Train in `folder`, in several processes under `torchrun`; `folder/model` is saved at every validation.

    Every `HELD_OUT`-th person is left out, and shown in the sheets: source, reference, output, and the true picture.
    Raises ModelError for an unsuitable `base`, UsageError where `faces` has fewer than two people or no pairs.
    """
    people = sorted(faces.members())
    unseen = set(people[:: max(2, min(HELD_OUT, len(people)))])
    known = faces.subset([i for i, name in enumerate(faces.identities) if name not in unseen])
    strangers = faces.subset([i for i, name in enumerate(faces.identities) if name in unseen])
    pairs, exact = pair(known, settings.seed)
    pipeline = begin(base, exact)
    pipeline.vae.eval().requires_grad_(False)
    pipeline.unet.enable_gradient_checkpointing()
    visited = None
    if sampling_steps is not None:  # these few must begin at pure noise, where Stable Diffusion's own spacing does not
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
        visited = visited_timesteps(pipeline.scheduler, sampling_steps)
    networks = ATDNetworks(pipeline.unet, pipeline.style_encoder)
    run = Run(folder, networks, settings)
    with run.accelerator.main_process_first():  # the others find the latents written
        latents = encode_faces(
            base / "vae",
            Photographs(known, pipeline.size),
            folder / "latents.npz",
            report,
            batch_size=4,
            device=run.device,
        )
    judging = judges(recogniser_folder, classifier_folder, pipeline.vae, run.device)
    losses = TransferLosses(
        networks,
        pipeline.scheduler,
        latents,
        pairs,
        settings.batch_size,
        run.device,
        judges=judging,
        visited=visited,
    )
    shown, _ = pair(strangers, settings.seed)
    photographs = Photographs(strangers, pipeline.size)

    def validate(average: nn.Module, step: int) -> Mapping[str, float]:
        assert isinstance(average, ATDNetworks)
        made = ATDPipeline(pipeline.vae, average.unet, average.style_encoder, pipeline.scheduler)
        made.save_pretrained(folder / "model")
        made.to(run.device)
        picks = np.unique(np.linspace(0, len(shown) - 1, SHOWN).astype(int))
        target = photographs.batch(np.array([shown.target[p] for p in picks]))
        source = photographs.batch(np.array([shown.source[p] for p in picks]))
        reference = photographs.batch(np.array([shown.references[p][0] for p in picks]))
        rows = zip(source.split(1), reference.split(1), picks, strict=True)
        output = torch.cat([made(a, b, [int(seed)], steps=sampling_steps or VALIDATION_STEPS) for a, b, seed in rows])
        write_sheet(folder / f"samples-{step:07d}.png", torch.stack([source, reference, output, target], 1))
        return {"ssim": float(ssim_map((output + 1) / 2, (target + 1) / 2).mean())}

    return run.go(losses, validate, report)
