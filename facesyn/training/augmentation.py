"""Changes to training pictures that leave who and what they show as it was."""

import numpy as np
import torch
import torch.nn.functional as F

DETAIL_LOST = 1 / 3
"""Share of pictures that lose detail: generated pictures are softer than renders."""
GREYED = 0.05
"""Share of pictures that lose their colours."""


def lose_detail(pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A copy of (b, 3, h, w) in which some went through a smaller size, down to 0.35 of theirs."""
    chosen = torch.from_numpy(rng.random(len(pictures)) < DETAIL_LOST)
    smaller = F.interpolate(pictures[chosen], scale_factor=rng.uniform(0.35, 0.9), mode="area")
    pictures = pictures.clone()
    pictures[chosen] = F.interpolate(smaller, size=pictures.shape[-2:], mode="bicubic", align_corners=False)
    return pictures


def move(pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """(b, 3, h, w), each turned by up to 3°, scaled by up to 4 %, shifted by up to 1.5 % of its side."""
    count = len(pictures)
    angle, scale = np.radians(rng.uniform(-3, 3, count)), rng.uniform(0.96, 1.04, count)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    shift = rng.uniform(-0.03, 0.03, (2, count))
    matrix = np.stack([np.stack([cos, -sin, shift[0]], 1), np.stack([sin, cos, shift[1]], 1)], 1)
    grid = F.affine_grid(torch.from_numpy(matrix.astype("f4")), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)


def relight(pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """(b, 3, h, w) in [-1, 1] under light that falls off across the picture, with another exposure, tint and gamma."""
    count, _, height, width = pictures.shape

    def normal(scale: float, *shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(0, scale, (count, *shape)).astype("f4"))

    across, down = torch.linspace(-1, 1, width), torch.linspace(-1, 1, height)[:, None]
    ramp = normal(0.1, 1, 1, 1) * across + normal(0.08, 1, 1, 1) * down + normal(0.08, 1, 1, 1) + normal(0.03, 3, 1, 1)
    bright = ((pictures + 1) / 2).clamp(1e-4, 1) ** normal(0.08, 1, 1, 1).exp() * ramp.exp()
    grey = torch.from_numpy(rng.random(count) < GREYED)[:, None, None, None]
    return (torch.where(grey, bright.mean(1, keepdim=True), bright) * 2 - 1).clamp(-1, 1)
