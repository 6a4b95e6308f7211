"""What a material is told of the places where it is seen, and what it answers. Knows no material."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from facesyn.references.raster import Samples, Texture
from facesyn.references.scene import Scene, Surface
from facesyn.references.shading import Lit, dot, unit

KINDS = (
    "background",
    "skin",
    "hair",
    "facial hair",
    "brows and lashes",
    "eyes",
    "mouth",
    "clothing",
    "glasses",
    "hat",
)
"""What a segmentation map's values mean, from 0."""
BACKGROUND, SKIN, HAIR, BEARD, BROWS, EYES, MOUTH, CLOTHING, GLASSES, HAT = range(len(KINDS))


@dataclass(frozen=True)
class Seen:
    """A surface at n places. `normal`, `view`, `position`, `rest` (3, n); `uv` (2, n), from `uv_corners` (t, 3, 2);
    `occlusion`, `shadow` (n,).

    `shadow` is the visibility of the first light; `size` is the side of the grid the places lie on.
    """

    surface: Surface
    scene: Scene
    lit: Lit
    samples: Samples
    size: int
    position: torch.Tensor
    normal: torch.Tensor
    view: torch.Tensor
    rest: torch.Tensor
    uv: torch.Tensor
    uv_corners: torch.Tensor
    values: torch.Tensor | None
    occlusion: torch.Tensor
    shadow: Callable[[float], torch.Tensor]

    def texel(self, texture: Texture) -> torch.Tensor:
        """(channels, n) of a texture, in the resolution that suits the picture's."""
        return texture.lookup(self.uv, texture.level_for(self.samples, self.uv_corners))

    def constant(self, *values: float) -> torch.Tensor:
        """(c, 1), to be broadcast over the places."""
        return torch.tensor(values, dtype=torch.float32, device=self.normal.device)[:, None]

    def full(self, value: float) -> torch.Tensor:
        """(n,)"""
        return torch.full((len(self.samples),), value, device=self.normal.device)


@dataclass(frozen=True)
class Look:
    """`colour` (3, n) linear RGB towards the camera, `opacity` (n,), `kind` (n,) index into `KINDS`."""

    colour: torch.Tensor
    opacity: torch.Tensor
    kind: torch.Tensor


def facing(normal: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
    """Normals (3, n) turned towards the camera: cards have two sides."""
    return torch.where(dot(normal, view) < 0, -normal, normal)


def bumped(seen: Seen, at: torch.Tensor, normal: torch.Tensor, height: torch.Tensor) -> torch.Tensor:
    """Normals (3, n) tilted by the slopes of `height` (n,) in decimetres, over the picture's grid: Mikkelsen (2010).

    Where a neighbour in the grid is another surface, or the slope is steeper than it can be seen, it counts for less.
    """
    size = seen.size
    pixel, position = seen.samples.pixel[at], seen.position[:, at]
    slot = torch.full((size * size,), -1, dtype=torch.int64, device=normal.device)
    own = torch.arange(len(pixel), device=normal.device)
    span, column = seen.samples.span[at], pixel % size
    for offset in (size + 1, size, 1, 0):
        slot[pixel + torch.where(span == 2, offset, 0)] = own

    def step(right: int, down: int) -> tuple[torch.Tensor, torch.Tensor]:
        place = pixel + (right + size * down) * span
        inside = (place % size >= column) & (place < size * size)
        neighbour = slot[place.clamp(0, size * size - 1)]
        neighbour = torch.where(inside & (neighbour >= 0), neighbour, own)
        return position[:, neighbour] - position, height[neighbour] - height

    dx, hx = step(1, 0)
    dy, hy = step(0, 1)
    dy, hy = -dy, -hy
    r1, r2 = torch.linalg.cross(dy, normal, dim=0), torch.linalg.cross(normal, dx, dim=0)
    det = dot(dx, r1)
    slope = torch.sign(det) * (hx * r1 + hy * r2)
    limit, steep = det.abs() * 0.8, dot(slope, slope).sqrt()
    slope = slope * torch.where(steep > limit, limit / steep.clamp(min=1e-12), 1)
    return torch.where(det == 0, normal, unit(det.abs() * normal - slope))


def setting(surface: Surface, name: str, kind: type) -> Any:
    """A surface's own setting for its material."""
    value = surface.settings[name]
    assert isinstance(value, kind), f"{surface.material}.{name} is {type(value).__name__}"
    return value
