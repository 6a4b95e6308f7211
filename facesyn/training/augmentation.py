"""Changes to training pictures that leave who and what they show as it was."""

import numpy as np
import torch
import torch.nn.functional as F

DETAIL_LOST = 1 / 3
"""Share of pictures that lose detail: generated pictures are softer than renders."""


def lose_detail(pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A copy of (b, 3, h, w) in which some went through a smaller size, down to 0.35 of theirs."""
    chosen = torch.from_numpy(rng.random(len(pictures)) < DETAIL_LOST)
    smaller = F.interpolate(pictures[chosen], scale_factor=rng.uniform(0.35, 0.9), mode="area")
    pictures = pictures.clone()
    pictures[chosen] = F.interpolate(smaller, size=pictures.shape[-2:], mode="bicubic", align_corners=False)
    return pictures
