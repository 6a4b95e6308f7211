"""The noise schedule both diffusion models learn and sample with."""

import torch
from diffusers import DDIMScheduler

from facesyn.errors import ModelError


def new_scheduler() -> DDIMScheduler:
    """v-prediction on Stable Diffusion's schedule, rescaled to zero terminal SNR (Lin et al. 2024), trailing steps."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def draw_timesteps(count: int, generator: torch.Generator, power: float = 1.0) -> torch.Tensor:
    """Timesteps in [0, 1000), denser towards pure noise, where a face's layout is decided: p(t) ∝ t^power."""
    return (torch.rand(count, generator=generator).pow(1 / (power + 1)) * 1000).long().clamp(0, 999)


def visited_timesteps(scheduler: DDIMScheduler, steps: int) -> torch.Tensor:
    """(steps,) timesteps that sampling in so many steps visits, the noisiest first."""
    sampled = DDIMScheduler.from_config(scheduler.config)  # the one passed keeps its own
    sampled.set_timesteps(steps)
    return sampled.timesteps


def signal_share(scheduler: DDIMScheduler, t: torch.Tensor) -> torch.Tensor:
    """ᾱ_t, shaped (b, 1, 1, 1)."""
    return scheduler.alphas_cumprod.to(t.device)[t].view(-1, 1, 1, 1)


def predicts_noise(scheduler: DDIMScheduler) -> bool:
    """Whether its model predicts ε, as Stable Diffusion 1 does, and not v, as ours do. Raises ModelError for others."""
    kind = scheduler.config["prediction_type"]
    if kind not in ("epsilon", "v_prediction"):
        raise ModelError(
            f"A model that predicts {kind!r} cannot be trained here.", hint="Use one that predicts ε or v."
        )
    return bool(kind == "epsilon")


def clean_estimate(
    scheduler: DDIMScheduler, z_t: torch.Tensor, prediction: torch.Tensor, t: torch.Tensor
) -> torch.Tensor:
    """ẑ_0 from a prediction: √ᾱ·z_t − √(1 − ᾱ)·v (Salimans & Ho 2022), or (z_t − √(1 − ᾱ)·ε) / √ᾱ."""
    share = signal_share(scheduler, t)
    if predicts_noise(scheduler):
        return (z_t - (1 - share).sqrt() * prediction) / share.sqrt()
    return share.sqrt() * z_t - (1 - share).sqrt() * prediction
