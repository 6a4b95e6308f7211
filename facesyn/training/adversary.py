"""A network that learns to tell estimates of latents from true ones, and so gives blur away. Knows no diffusion.

In few steps a diffusion's estimate is the mean of all that may be, which is near to the truth and blurred; what no true
picture looks like is an error here (Goodfellow et al. 2014; for few steps Sauer et al. 2023, "Adversarial Diffusion
Distillation").
"""

import torch
import torch.nn.functional as F
from torch import nn

from facesyn.training.latent_recogniser import disturbed
from facesyn.training.loop import Losses

PUSH = 0.25
"""How hard estimates are pushed: as the square of an error of half of this would pull them; latents vary by 1. The
embedded ATD's errors are of about that size, and at a third of it nothing was to be seen of the push."""

RATE_FACTOR = 4.0
"""It learns at so many times the rate of what it judges, or stays a step behind (Heusel et al. 2017)."""


class Adversary(nn.Module):
    """(b, c, h, w) latents → (b, 1, h / 2, w / 2), above 0 where a patch looks true.

    Both kinds are seen under noise, so that neither what the autoencoder leaves nor a single channel gives them away.
    """

    def __init__(self, channels: int, width: int = 96):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 1),
        )

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.net(latents)

    def terms(self, estimate: torch.Tensor, target: torch.Tensor, generator: torch.Generator) -> Losses:
        """`told_apart`, a hinge that only this network learns from, and `realism`, that only `estimate` does.

        The value of `realism` means nothing, its gradient points to where patches look truer, and is of one length
        whatever this network has learned: between the two there is no balance to be lost.
        """
        true, made = (disturbed(latents.float(), generator) for latents in (target, estimate))
        told_apart = F.relu(1 - self(true)).mean() + F.relu(1 + self(made.detach())).mean()
        seen = made.detach().requires_grad_()
        (uphill,) = torch.autograd.grad(self(seen).float().sum(), seen)
        uphill = uphill / uphill.square().mean().sqrt().clamp_min(1e-8)
        return {"told_apart": told_apart, "realism": -PUSH * (uphill * made).mean()}
