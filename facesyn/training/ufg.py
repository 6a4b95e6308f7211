"""Training of UFG: text encoder, UNet and ControlNet together, from captions and edge maps of rendered portraits."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from facesyn.prompting.formulation import Formulation, load
from facesyn.references.edges import HIGH, LOW, inner_face
from facesyn.rendered import RenderedFaces
from facesyn.training.captions import attributes_of, caption_of
from facesyn.training.judges import Judge, judges
from facesyn.training.latents import channel_weights, encode_faces
from facesyn.training.loop import Losses, Run, Settings
from facesyn.training.schedule import clean_estimate, draw_timesteps, new_scheduler, signal_share
from facesyn.training.sheets import write_sheet
from facesyn.training.tokenizer import train_tokenizer

NO_PROMPT = 0.1
"""Share of samples whose caption is dropped: half empty, half the negative prompt, both of which guidance may use."""
NO_EDGES, FACE_EDGES = 0.25, 0.5
"""Shares of samples with no edge map, and with edges of the inner face only, so that hair can follow the prompt."""
TOKENIZER_CAPTIONS = 4000
SAMPLING = {"steps": 12, "guidance_scale": 1.25}
"""What the embedded UFG is released with, and its sheets are sampled by."""
CLEAR = 0.1
"""ᾱ_t from which an estimate of z_0 is judged: out of more noise it is a mean of many faces, which has no age."""


class UFGNetworks(nn.Module):
    """What is trained: the autoencoder stays as it is."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel, controlnet: ControlNetModel):
        super().__init__()
        self.text_encoder, self.unet, self.controlnet = text_encoder, unet, controlnet


def new_ufg(vae: AutoencoderKL, tokenizer: CLIPTokenizer, channels: tuple[int, int] = (88, 176)) -> UFGNetworks:
    """Text encoder, UNet and ControlNet for the autoencoder's latents and the tokenizer's vocabulary."""
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=77,
            projection_dim=128,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=vae.config["sample_size"] // 8,
        in_channels=vae.config["latent_channels"],
        out_channels=vae.config["latent_channels"],
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 32, 64))
    for network in (unet, controlnet):
        network.set_attn_processor(AttnProcessor())  # on 64 tokens its backward pass beats the fused kernel's
    return UFGNetworks(text_encoder, unet, controlnet)


def edge_maps(faces: RenderedFaces) -> np.ndarray:
    """(n, size, size) uint8 Canny edges of every face."""
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in faces.images]
    return np.stack([cv2.Canny(picture, LOW, HIGH) for picture in grey])


@dataclass(frozen=True)
class Portraits:
    """What UFG learns from.

    Latents (2, n, c, h, w), [1] of the mirrored pictures, Canny edges and masks of the inner face (n, size, size), and
    labels.
    """

    latents: torch.Tensor
    edges: np.ndarray
    masks: np.ndarray
    labels: Sequence[Mapping[str, Any]]
    formulation: Formulation

    def caption(self, index: int, rng: np.random.Generator) -> str:
        return caption_of(self.labels[index], self.formulation, random.Random(int(rng.integers(2**62))))

    def unprompted(self, index: int, rng: np.random.Generator) -> str:
        """What guidance may move away from."""
        return "" if rng.random() < 0.5 else self.formulation.negative_prompt(attributes_of(self.labels[index]))

    def condition(self, index: int, rng: np.random.Generator, flip: bool) -> np.ndarray:
        """The edges a picture is learned from, all, the inner face's or none."""
        fate, edges = rng.random(), self.edges[index]
        if fate < NO_EDGES:
            edges = np.zeros_like(edges)
        elif fate < NO_EDGES + FACE_EDGES:
            edges = np.where(self.masks[index], edges, 0)
        return edges[:, ::-1] if flip else edges


@dataclass(frozen=True)
class FaceLosses:
    """The loss terms of a step. `weights`: (c, 1, 1), of the latents' channels.

    `judges` add terms on the estimate of z_0, of samples that have a caption and little noise.
    """

    networks: UFGNetworks
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler
    portraits: Portraits
    batch_size: int
    device: torch.device
    weights: torch.Tensor
    judges: Sequence[Judge] = ()

    def __call__(self, rng: np.random.Generator, generator: torch.Generator) -> Losses:
        portraits = self.portraits
        indices = rng.integers(0, len(portraits.labels), self.batch_size)
        told = rng.random(self.batch_size) >= NO_PROMPT
        flips = rng.integers(0, 2, self.batch_size)
        drawn = list(zip(indices, told, flips, strict=True))
        context = self._context(
            [portraits.caption(i, rng) if each else portraits.unprompted(i, rng) for i, each, _ in drawn]
        )
        control = self._control([portraits.condition(i, rng, bool(flip)) for i, _, flip in drawn])
        z_0 = portraits.latents[torch.from_numpy(flips), torch.from_numpy(indices)].float()
        t = draw_timesteps(self.batch_size, generator)
        noise = torch.randn(z_0.shape, generator=generator)
        z_0, t, noise = (each.to(self.device) for each in (z_0, t, noise))
        z_t = self.scheduler.add_noise(z_0, noise, t)
        prediction = self._predict(z_t, t, context, control)
        error = prediction - self.scheduler.get_velocity(z_0, noise, t)
        terms: dict[str, torch.Tensor] = {"v": (self.weights * error.square()).mean()}
        judged = torch.from_numpy(told).to(self.device) & (signal_share(self.scheduler, t).flatten() > CLEAR)
        if judged.any():
            estimate = clean_estimate(self.scheduler, z_t, prediction, t)[judged]
            strangers = z_0[judged].roll(1, 0)
            for judge in self.judges:
                terms |= judge(estimate, z_0[judged], generator, strangers)
        return terms

    def _predict(
        self, z_t: torch.Tensor, t: torch.Tensor, context: torch.Tensor, control: torch.Tensor
    ) -> torch.Tensor:
        down, middle = self.networks.controlnet(z_t, t, context, controlnet_cond=control, return_dict=False)
        unet = self.networks.unet
        return unet(
            z_t, t, context, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample.float()

    def _context(self, texts: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        return self.networks.text_encoder(tokens.input_ids.to(self.device))[0]

    def _control(self, edges: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(edges)).float()[:, None].repeat(1, 3, 1, 1).to(self.device) / 255


def train_ufg(
    faces: RenderedFaces,
    held_out: RenderedFaces,
    vae_folder: Path,
    folder: Path,
    settings: Settings,
    report: Callable[[str], None],
    recogniser_folder: Path | None = None,
    classifier_folder: Path | None = None,
) -> bool:
    """Train in `folder` on the portraits among `faces`; the averaged model is saved at every validation.

    It is a Stable Diffusion pipeline with a ControlNet, `folder/model`. The two other folders hold networks that look
    at the autoencoder's latents, or pictures of them: they see to it that faces have the attributes of their captions,
    and that everyone looks like themselves, not like everyone of their kind.
    """
    faces = _portraits(faces)
    vae = (
        AutoencoderKL.from_pretrained(vae_folder, local_files_only=True, use_safetensors=True)
        .eval()
        .requires_grad_(False)
    )
    latents = encode_faces(vae_folder, faces, folder / "latents.npz", report)
    weights = channel_weights(vae, latents[0, :: max(1, latents.shape[1] // 16)].float())
    edges = edge_maps(faces)
    masks = np.stack([inner_face(np.array(label["landmarks"]), *edges.shape[1:]) for label in faces.labels])
    formulation = load()
    tokenizer = _tokenizer(faces, formulation, folder / "tokenizer", settings.start)
    scheduler = new_scheduler()
    networks = new_ufg(vae, tokenizer)
    run = Run(folder, networks, settings)
    losses = FaceLosses(
        networks,
        tokenizer,
        scheduler,
        Portraits(latents, edges, masks, faces.labels, formulation),
        settings.batch_size,
        run.device,
        weights.to(run.device),
        # A face that its conditions leave open has no one picture to be near to.
        judges(recogniser_folder, classifier_folder, vae, run.device, structure=0.0),
    )
    sample_edges = edge_maps(held_out)

    def validate(average: nn.Module, step: int) -> Mapping[str, float]:
        assert isinstance(average, UFGNetworks)
        pipeline = StableDiffusionControlNetPipeline(
            vae=vae,
            text_encoder=average.text_encoder,
            tokenizer=tokenizer,
            unet=average.unet,
            controlnet=average.controlnet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.save_pretrained(folder / "model", safe_serialization=True)
        pipeline.set_progress_bar_config(disable=True)
        rng = random.Random(0)
        rows = []
        for index in list(held_out.sources.values())[:64:2]:
            label = held_out.labels[index]
            mask = inner_face(np.array(label["landmarks"]), *sample_edges.shape[1:])
            face_edges = np.where(mask, sample_edges[index], 0)
            picture = pipeline(
                caption_of(label, formulation, rng),
                negative_prompt=formulation.negative_prompt(attributes_of(label)),
                image=Image.fromarray(face_edges).convert("RGB"),
                num_inference_steps=int(SAMPLING["steps"]),
                guidance_scale=SAMPLING["guidance_scale"],
                generator=torch.Generator().manual_seed(index),
                output_type="pt",
            ).images[0]
            shown = torch.from_numpy(face_edges).float().expand(3, -1, -1) / 127.5 - 1
            rows.append(torch.stack([held_out.batch([index])[0], shown, picture * 2 - 1]))
        write_sheet(folder / f"samples-{step:07d}.png", torch.stack(rows))
        return {}

    return run.go(losses, validate, report)


def _portraits(faces: RenderedFaces) -> RenderedFaces:
    chosen = list(faces.sources.values())
    return RenderedFaces(faces.images[chosen], [faces.labels[index] for index in chosen])


def _tokenizer(faces: RenderedFaces, formulation: Formulation, folder: Path, start: Path | None) -> CLIPTokenizer:
    """That saved in `folder`; else, saved there, that of what is begun from, or a new one learned from captions."""
    if (folder / "tokenizer.json").exists():
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    if start is not None and (start / "tokenizer").is_dir():
        tokenizer = CLIPTokenizer.from_pretrained(start / "tokenizer", local_files_only=True)
    else:
        rng = random.Random(0)
        labels = [faces.labels[i] for i in np.linspace(0, len(faces) - 1, TOKENIZER_CAPTIONS).astype(int)]
        captions = [caption_of(label, formulation, rng) for label in labels]
        captions += [formulation.negative_prompt(attributes_of(label)) for label in labels]
        tokenizer = train_tokenizer(captions)
    tokenizer.save_pretrained(folder)
    return tokenizer
