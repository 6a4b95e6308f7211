"""Training of ATD on exact cross-identity pairs: (A neutral, B in style s) → (A in style s)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn

from facesyn.atd import ATDPipeline, StyleEncoder, sampling
from facesyn.evaluation.transfer import compare_pictures
from facesyn.rendered import RenderedFaces, StylePairs
from facesyn.training.judges import Judge, judges
from facesyn.training.latents import channel_weights, encode_faces
from facesyn.training.loop import Losses, Run, Settings
from facesyn.training.schedule import clean_estimate, draw_timesteps, new_scheduler, predicts_noise, visited_timesteps
from facesyn.training.sheets import write_sheet

VALIDATION_STEPS = 10
"""Steps that validation samples in, where the training is for no number of its own."""
EARLINESS = 2.0
"""Of the few steps that the embedded ATD is sampled in, the first says nearly all of who it is and how."""


@dataclass(frozen=True)
class Drops:
    """Shares of training samples that go without a condition, so that guidance has something to move away from."""

    style: float = 0.05
    identity: float = 0.03
    both: float = 0.02


class ATDNetworks(nn.Module):
    """What is trained: the autoencoder stays as it is."""

    def __init__(self, unet: UNet2DConditionModel, style_encoder: StyleEncoder):
        super().__init__()
        self.unet, self.style_encoder = unet, style_encoder


@dataclass(frozen=True)
class TransferLosses:
    """The loss terms of a step on pairs of latents, of whatever size and from wherever.

    `latents`: (2, n, c, h, w), [1] of the mirrored pictures; `weights`: (c, 1, 1), of their channels. `judges` add
    terms on the estimate of z_0, of samples that have both conditions. Timesteps are learned in proportion to
    t^`earliness`, or only those `visited` when it is sampled in few steps.
    """

    networks: ATDNetworks
    scheduler: DDIMScheduler
    latents: torch.Tensor
    pairs: StylePairs
    batch_size: int
    device: torch.device
    weights: torch.Tensor | None = None
    judges: Sequence[Judge] = ()
    drops: Drops = Drops()
    earliness: float = 1.0
    visited: torch.Tensor | None = None

    def __call__(self, rng: np.random.Generator, generator: torch.Generator) -> Losses:
        z_0, z_id, z_ref = (each.to(self.device) for each in self._drawn(rng))
        fate = torch.rand(self.batch_size, generator=generator).to(self.device)
        no_style = fate < self.drops.style + self.drops.both
        no_identity = (fate >= self.drops.style) & (fate < self.drops.style + self.drops.both + self.drops.identity)
        z_id = z_id * ~no_identity[:, None, None, None]
        style_encoder = self.networks.style_encoder
        style = style_encoder.absent(style_encoder(z_ref), no_style)
        noise = torch.randn(z_0.shape, generator=generator).to(self.device)
        t = self._timesteps(generator).to(self.device)
        z_t = self.scheduler.add_noise(z_0, noise, t)
        joined = sampling.join(z_t, z_id, style)
        unet = self.networks.unet
        prediction = unet(joined, t, encoder_hidden_states=style.tokens, class_labels=style.vector).sample.float()
        wanted = noise if predicts_noise(self.scheduler) else self.scheduler.get_velocity(z_0, noise, t)
        error = (prediction - wanted).square()
        terms: dict[str, torch.Tensor] = {
            "prediction": (error if self.weights is None else self.weights * error).mean()
        }
        estimate = clean_estimate(self.scheduler, z_t, prediction, t)
        whole = ~(no_style | no_identity)
        if whole.any():  # of a small batch, all may lack something
            for judge in self.judges:
                terms |= judge(estimate[whole], z_0[whole], generator, z_ref[whole])
        return terms

    def _timesteps(self, generator: torch.Generator) -> torch.Tensor:
        if self.visited is None:
            return draw_timesteps(self.batch_size, generator, self.earliness)
        return self.visited[torch.randint(len(self.visited), (self.batch_size,), generator=generator)]

    def _drawn(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Latents of targets, sources and references, mirrored together or not."""
        picks = rng.integers(0, len(self.pairs), self.batch_size)
        target = torch.tensor([self.pairs.target[p] for p in picks])
        source = torch.tensor([self.pairs.source[p] for p in picks])
        reference = torch.tensor([rng.choice(self.pairs.references[p]) for p in picks])
        flip = torch.from_numpy(rng.integers(0, len(self.latents), self.batch_size))
        return tuple(self.latents[flip, index].float() for index in (target, source, reference))


def new_atd(vae: AutoencoderKL, channels: tuple[int, int] = (96, 192)) -> ATDNetworks:
    """UNet and style encoder for the autoencoder's latents: attention at half resolution, style also by time."""
    latent_channels = vae.config["latent_channels"]
    unet = UNet2DConditionModel(
        sample_size=vae.config["sample_size"] // 8,
        in_channels=3 * latent_channels,
        out_channels=latent_channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=192,
        attention_head_dim=channels[1] // 32,
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="projection",
        projection_class_embeddings_input_dim=256,
    )
    style_encoder = StyleEncoder(latent_channels, token_dim=192, vector_dim=256, layout_channels=latent_channels)
    unet.set_attn_processor(AttnProcessor())  # on 64 tokens its backward pass beats the fused kernel's
    return ATDNetworks(unet, style_encoder)


def train_atd(
    faces: RenderedFaces,
    held_out: RenderedFaces,
    vae_folder: Path,
    folder: Path,
    settings: Settings,
    report: Callable[[str], None],
    recogniser_folder: Path | None = None,
    classifier_folder: Path | None = None,
    sampling_steps: int | None = None,
    drops: Drops = Drops(),
) -> bool:
    """Train in `folder`; the averaged model is saved as `folder/model` (ATD folder format) at every validation.

    The two other folders hold networks that look at the autoencoder's latents, or pictures of them, for `judges`. With
    `sampling_steps` it learns to sample in so few: only their timesteps.
    """
    vae = (
        AutoencoderKL.from_pretrained(vae_folder, local_files_only=True, use_safetensors=True)
        .eval()
        .requires_grad_(False)
    )
    latents = encode_faces(vae_folder, faces, folder / "latents.npz", report)
    weights = channel_weights(vae, latents[0, :: max(1, latents.shape[1] // 16)].float())
    held_out_pairs = StylePairs.of(held_out.labels)
    scheduler = new_scheduler()
    networks = new_atd(vae)
    run = Run(folder, networks, settings)
    losses = TransferLosses(
        networks,
        scheduler,
        latents,
        StylePairs.of(faces.labels),
        settings.batch_size,
        run.device,
        weights.to(run.device),
        judges(recogniser_folder, classifier_folder, vae, run.device),
        drops,
        EARLINESS,
        None if sampling_steps is None else visited_timesteps(scheduler, sampling_steps),
    )

    def validate(average: nn.Module, step: int) -> Mapping[str, float]:
        assert isinstance(average, ATDNetworks)
        pipeline = ATDPipeline(vae, average.unet, average.style_encoder, scheduler)
        pipeline.save_pretrained(folder / "model")
        picks = np.unique(np.linspace(0, len(held_out_pairs) - 1, 96).astype(int))
        target = held_out.batch([held_out_pairs.target[p] for p in picks])
        source = held_out.batch([held_out_pairs.source[p] for p in picks])
        reference = held_out.batch([held_out_pairs.references[p][0] for p in picks])
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            parts = zip(source.split(16), reference.split(16), torch.from_numpy(picks).split(16), strict=True)
            output = torch.cat(
                [pipeline(a, b, seeds.tolist(), steps=sampling_steps or VALIDATION_STEPS) for a, b, seeds in parts]
            )
        landmarks = np.array([held_out.labels[held_out_pairs.target[p]]["landmarks"] for p in picks])
        rows = torch.stack([source, reference, output, target], 1)[::4]
        write_sheet(folder / f"samples-{step:07d}.png", rows)
        return compare_pictures(output, target, landmarks)

    return run.go(losses, validate, report)
