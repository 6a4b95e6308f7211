"""ATD's sampling as a few plain functions on tensors. The networks are passed in, from any runtime.

z_id = encode(vae, sources)            style = style_encoder(encode(vae, references))
z_T  = noise(seeds)                    z_0   = denoise(unet, scheduler, z_T, z_id, style, …)
I_t  = decode(vae, z_0)
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from facesyn.atd.style_encoder import Style

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, SchedulerMixin

Network = Callable[[torch.Tensor, torch.Tensor, Style], torch.Tensor]
"""(z_t joined with z_id and layout, t, style) → prediction."""


def encode(vae: "AutoencoderKL", pictures: torch.Tensor) -> torch.Tensor:
    """(b, 3, h, w) in [-1, 1] → (b, c, h / 8, w / 8), the posterior's mode, scaled to unit variance."""
    return vae.encode(pictures).latent_dist.mode() * vae.config["scaling_factor"]


def decode(vae: "AutoencoderKL", latents: torch.Tensor) -> torch.Tensor:
    """The inverse of `encode`; clamped to [-1, 1]."""
    return vae.decode(latents / vae.config["scaling_factor"]).sample.clamp(-1, 1)


def noise(seeds: Sequence[int], shape: tuple[int, ...]) -> torch.Tensor:
    """(b, *shape) standard normal, one CPU generator per seed, so a sample's noise does not depend on its batch."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def join(z_t: torch.Tensor, z_id: torch.Tensor, style: Style) -> torch.Tensor:
    """The UNet's input: [z_t ; z_id], and the style's layout where it has one."""
    return torch.cat([z_t, z_id] if style.layout is None else [z_t, z_id, style.layout.to(z_t.dtype)], 1)


def stack(styles: Sequence[Style]) -> Style:
    """Styles of the same kind as one batch."""
    vectors = [style.vector for style in styles if style.vector is not None]
    layouts = [style.layout for style in styles if style.layout is not None]
    return Style(
        torch.cat([style.tokens for style in styles]),
        torch.cat(vectors) if vectors else None,
        torch.cat(layouts) if layouts else None,
    )


def guided(
    network: Network,
    z_t: torch.Tensor,
    t: torch.Tensor,
    z_id: torch.Tensor,
    style: Style,
    no_style: Style,
    identity_scale: float,
    style_scale: float,
) -> torch.Tensor:
    """Prediction under two guidance scales (Brooks et al. 2023, InstructPix2Pix, eq. 3, identity taken first).

    ε(∅, ∅) + identity_scale·(ε(id, ∅) − ε(∅, ∅)) + style_scale·(ε(id, sty) − ε(id, ∅)), leaving out every term whose
    weight is zero: at scales of 1 it is one network call.
    """
    weights = (
        (1 - identity_scale, False, False),
        (identity_scale - style_scale, True, False),
        (style_scale, True, True),
    )
    terms = [(w, with_id, with_style) for w, with_id, with_style in weights if w != 0]
    styles = stack([style if with_style else no_style for _, _, with_style in terms])
    identities = torch.cat([z_id if with_id else torch.zeros_like(z_id) for _, with_id, _ in terms])
    parts = network(join(z_t.repeat(len(terms), 1, 1, 1), identities, styles), t, styles).chunk(len(terms))
    return torch.stack([w * part for (w, _, _), part in zip(terms, parts, strict=True)]).sum(0)


def denoise(
    network: Network,
    scheduler: "SchedulerMixin",
    z: torch.Tensor,
    z_id: torch.Tensor,
    style: Style,
    no_style: Style,
    *,
    steps: int,
    identity_scale: float = 1.0,
    style_scale: float = 1.0,
    identity_from: int = 0,
    **step_options: Any,
) -> torch.Tensor:
    """z_T → z_0 in `steps` scheduler steps.

    The identity scale holds from step `identity_from` on, counted from 0, and is 1 before: where there is little but
    noise, guidance costs more than it gives (Kynkäänniemi et al. 2024).
    """
    scheduler.set_timesteps(steps)
    z = z * scheduler.init_noise_sigma
    for step, t in enumerate(scheduler.timesteps):
        z_t = scheduler.scale_model_input(z, t)
        scale = identity_scale if step >= identity_from else 1.0
        prediction = guided(network, z_t, t, z_id, style, no_style, scale, style_scale)
        z = scheduler.step(prediction, t, z, **step_options).prev_sample
    return z
