"""From triangle indices to attributes: barycentric interpolation, texture lookup, noise. Knows no head and no light."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Samples:
    """Where a part is seen: n places of a square grid.

    `place` (n,) flat index into (layers, size, size), `pixel` (n,) into (size, size); `corners` (3, n) vertex indices;
    `weights` (3, n) perspective-correct barycentric coordinates; `triangle` (n,) index of the part's triangle;
    `footprint` (n,) area of the triangle in places. `span` (n,) is 1 for a single place and 2 where one sample stands
    for a block of 2 × 2.
    """

    place: torch.Tensor
    pixel: torch.Tensor
    triangle: torch.Tensor
    corners: torch.Tensor
    weights: torch.Tensor
    footprint: torch.Tensor
    span: torch.Tensor

    def __len__(self) -> int:
        return len(self.pixel)

    def interpolate(self, values: torch.Tensor) -> torch.Tensor:
        """(c, n) from values (v, c) at vertices."""
        return self._mixed([values[corner] for corner in self.corners])

    def interpolate_corners(self, values: torch.Tensor) -> torch.Tensor:
        """(c, n) from values (t, 3, c) at the corners of triangles."""
        return self._mixed(values[self.triangle].unbind(1))

    def _mixed(self, corners: Sequence[torch.Tensor]) -> torch.Tensor:
        """(c, n) from three times (n, c). Channels come first: rows of n are what processors are fast at."""
        first, second, third = (values.T.contiguous() for values in corners)
        return first.mul_(self.weights[0]).addcmul_(second, self.weights[1]).addcmul_(third, self.weights[2])


@dataclass(frozen=True)
class Places:
    """Where anything is seen in (layers, size, size): flat index `place`, `triangle` seen, `span` as in Samples."""

    place: torch.Tensor
    triangle: torch.Tensor
    span: torch.Tensor

    def of(self, first: int, count: int) -> "Places":
        """Those that show triangles `first` … `first + count`, which are counted from 0 then."""
        mine = ((self.triangle >= first) & (self.triangle < first + count)).nonzero()[:, 0]
        return Places(self.place[mine], self.triangle[mine] - first, self.span[mine])


def occupied(layers: torch.Tensor, starts: torch.Tensor | None = None) -> Places:
    """The places of (layers, size, size) triangle indices where something is seen.

    With `starts`, the sorted first triangles of surfaces, blocks of 2 × 2 places that one surface fills are given
    once, by their upper left place: inside a surface, light varies little over a block.
    """
    if starts is None:
        flat = layers.reshape(-1)
        place = (flat >= 0).nonzero()[:, 0]
        return Places(place, flat[place], torch.ones_like(place))
    count, size, _ = layers.shape
    surface = torch.bucketize(layers, starts, right=True)
    blocks = surface.view(count, size // 2, 2, size // 2, 2)
    corner = blocks[:, :, :1, :, :1]
    whole = (blocks == corner).all(4).all(2)
    span = torch.ones_like(layers)
    view = span.view(count, size // 2, 2, size // 2, 2)
    view[:] = torch.where(whole, 0, 1)[:, :, None, :, None]
    view[:, :, 0, :, 0] = torch.where(whole, 2, 1)
    flat, spans = layers.reshape(-1), span.view(-1)
    place = ((flat >= 0) & (spans > 0)).nonzero()[:, 0]
    return Places(place, flat[place], spans[place])


def locate(places: Places, size: int, triangles: torch.Tensor, clip: torch.Tensor) -> Samples:
    """Samples at places of (layers, size, size) which show `triangles` (t, 3).

    `clip` (v, 4) are the clip-space positions of their vertices.
    """
    pixel = places.place % (size * size)
    corners = triangles[places.triangle].T.contiguous()
    middle = places.span * 0.5
    x = (pixel % size + middle).mul_(2 / size).sub_(1)
    y = (torch.div(pixel, size, rounding_mode="floor") + middle).mul_(-2 / size).add_(1)
    # Seen from the pixel, the ray's point has x = y = 0; the weights that give it are areas of the opposite edges.
    corner = [clip[each].T for each in corners]
    dx = [c[0] - x * c[3] for c in corner]
    dy = [c[1] - y * c[3] for c in corner]
    areas = torch.stack([dx[i - 2] * dy[i - 1] - dx[i - 1] * dy[i - 2] for i in range(3)])
    total = areas[0] + areas[1] + areas[2]
    # The middle of a block may lie a little outside the triangle that its first sample shows.
    weights = (areas / torch.where(total.abs() < 1e-20, torch.ones_like(total), total)).clamp_(0, 1)
    weights = weights / weights.sum(0).clamp_(min=1e-9)
    w = (corner[0][3] + corner[1][3] + corner[2][3]) / 3
    footprint = (total / (w * w)).abs_() * (size * size / 8)
    return Samples(places.place, pixel, places.triangle, corners, weights, footprint, places.span)


def project(positions: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """(v, 4) clip-space positions."""
    return positions @ matrix[:, :3].T + matrix[:, 3]


@dataclass(frozen=True)
class Texture:
    """A texture and its halvings, each (1, channels, height, width), bottom row first."""

    levels: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, pixels: np.ndarray, device: str, smallest: int = 32) -> "Texture":
        """From (height, width, channels)."""
        image = torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).permute(2, 0, 1)[None].to(device)
        levels = [image.contiguous()]
        while min(levels[-1].shape[2:]) >= 2 * smallest:
            levels.append(F.avg_pool2d(levels[-1], 2))
        return cls(tuple(levels))

    def level_for(self, samples: Samples, uv_corners: torch.Tensor) -> int:
        """The halving whose texels are about as large as pixels; `uv_corners` (t, 3, 2) of the part's triangles."""
        every = max(1, len(samples) // 2000)
        corner = uv_corners[samples.triangle[::every]]
        e, f = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
        height, width = self.levels[0].shape[2:]
        texels = (e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]).abs() * (height * width / 2)
        ratio = texels / samples.footprint[::every].clamp(min=1e-9)
        level = 0.5 * torch.log2(ratio.clamp(min=1e-6)).mean().item()
        return int(min(max(round(level), 0), len(self.levels) - 1))

    def lookup(self, uv: torch.Tensor, level: int = 0) -> torch.Tensor:
        """(channels, n) bilinear values at `uv` (2, n)."""
        grid = (uv * 2 - 1).T[None, None]
        found = F.grid_sample(self.levels[level], grid, mode="bilinear", padding_mode="border", align_corners=False)
        return found[0, :, 0]


class Noise:
    """Value noise on a fixed random lattice that repeats every 64 cells. The same on every device."""

    _SIDE = 64

    def __init__(self, device: str):
        side = self._SIDE
        values = np.random.default_rng(9).random((side, side, side), np.float32)
        self._cells = torch.from_numpy(values.reshape(-1)).to(device)
        wrapped = np.pad(values, ((0, 1),) * 3, mode="wrap")
        self._lattice = torch.from_numpy(wrapped)[None, None].to(device)

    def cells(self, points: torch.Tensor, offset: float = 0.0) -> torch.Tensor:
        """(n,) in [0, 1): one random value per unit cell that holds a point (3, n)."""
        x, y, z = (torch.floor(points + offset).int() & (self._SIDE - 1)).unbind(0)
        return self._cells[(z * self._SIDE + y) * self._SIDE + x]

    def smooth(self, points: torch.Tensor, offset: float = 0.0) -> torch.Tensor:
        """(n,) in [0, 1): interpolated between the corners of cells, smoothly at them."""
        shifted = points + offset
        low = torch.floor(shifted)
        f = shifted - low
        place = torch.remainder(low, self._SIDE) + f * f * (3 - 2 * f)
        grid = (place * (2 / self._SIDE) - 1).T[None, None, None]
        found = F.grid_sample(self._lattice, grid, mode="bilinear", padding_mode="border", align_corners=True)
        return found[0, 0, 0, 0]


def smoothstep(low: float, high: float, x: torch.Tensor) -> torch.Tensor:
    """0 below `low`, 1 above `high` (or the other way round where low > high), smooth between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)
