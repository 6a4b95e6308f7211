"""E_sty: a style reference's latent → what the UNet gets to know of it. Knows nothing of the UNet itself.

The tokens are patch statistics, a bottleneck on purpose: a k × k grid of feature means and standard deviations says
where light, hair and background are, and too little about whose face it is (in DCFace, Kim et al. 2023, k = 7 leaks).
A layout is no bottleneck. It is for training on exact pairs, (A neutral, B in style s) → (A in style s), where
whatever it lets through of B's face is an error the loss sees; training on photographs should leave it out.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn


class Style(NamedTuple):
    """What the UNet gets to know of a reference."""

    tokens: torch.Tensor
    """(b, k² + 1, token_dim): read by cross-attention."""
    vector: torch.Tensor | None
    """(b, vector_dim): joins the timestep embedding, and through it every block; None for UNets without one."""
    layout: torch.Tensor | None = None
    """(b, layout_channels, h, w): joins the UNet's input, pixel by pixel; None for UNets without one."""


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class StyleEncoder(ModelMixin, ConfigMixin):
    """Latents of style references to `Style`.

    The context is a learned base plus a residual per reference. Without a reference (`absent`) the residual is
    zero, which is what classifier-free guidance and a transfer with the style switched off use.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 8,
        width: int = 96,
        depth: int = 3,
        grid: int = 5,
        token_dim: int = 192,
        vector_dim: int | None = 256,
        layout_channels: int = 0,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1), *(_Residual(width) for _ in range(depth))
        )
        self.patch = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, token_dim))
        self.coarse = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            _Residual(2 * width),
            nn.GroupNorm(8, 2 * width),
            nn.SiLU(),
        )
        self.whole = nn.Sequential(nn.LayerNorm(4 * width), nn.Linear(4 * width, token_dim))
        self.base = nn.Parameter(torch.randn(grid * grid + 1, token_dim) * 0.02)
        self.drop = nn.Dropout(dropout)
        self.vector = (
            None if vector_dim is None else nn.Sequential(nn.LayerNorm(4 * width), nn.Linear(4 * width, vector_dim))
        )
        self.layout = None if layout_channels == 0 else nn.Conv2d(width, layout_channels, 3, padding=1)

    def forward(self, latents: torch.Tensor) -> Style:
        """`latents`: (b, latent_channels, h, w), scaled like those the UNet denoises."""
        grid = self.config["grid"]
        features = self.stem(latents)
        patches = torch.cat(_statistics(features, grid), 1).flatten(2).transpose(1, 2)
        whole = torch.cat(_statistics(self.coarse(features), 1), 1).flatten(1)
        tokens = torch.cat([self.patch(patches), self.whole(whole)[:, None]], 1)
        return Style(
            self.base + self.drop(tokens),
            None if self.vector is None else self.vector(whole),
            None if self.layout is None else self.layout(features),
        )

    def absent(self, style: Style, mask: torch.Tensor | None = None) -> Style:
        """`style` with the residual removed where `mask` (b,) is true; everywhere without a mask."""
        if mask is None:
            mask = torch.ones(len(style.tokens), dtype=torch.bool, device=style.tokens.device)
        tokens = torch.where(mask[:, None, None], self.base.to(style.tokens.dtype), style.tokens)
        vector = None if style.vector is None else style.vector * ~mask[:, None]
        layout = None if style.layout is None else style.layout * ~mask[:, None, None, None]
        return Style(tokens, vector, layout)


def _statistics(features: torch.Tensor, grid: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation over a grid × grid division, each (b, c, grid, grid)."""
    mean = F.adaptive_avg_pool2d(features, grid)
    variance = F.adaptive_avg_pool2d(features.float().square(), grid) - mean.float().square()
    return mean, (variance.clamp_min(0) + 1e-5).sqrt().to(mean.dtype)
