"""What light reaches: shadow maps of the key light, and ambient occlusion per hair cut. Uses a renderer, names none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from facesyn.protocols import Renderer
from facesyn.references.head import MIRROR, Head, smoothstep
from facesyn.references.lighting import sphere
from facesyn.references.mesh import Part
from facesyn.references.raster import locate, occupied, project
from facesyn.references.scene import Surface

_SHADOW_REACH = 2.1
"""Half side (dm) of what a shadow map covers."""
_OPAQUE = 0.35
"""Cards less opaque let light through."""
_DIRECTIONS, _OCCLUSION_SIZE, _OCCLUSION_REACH = 48, 224, 3.2

Opacity = Callable[[Surface, torch.Tensor, torch.Tensor], torch.Tensor]
"""From a card, uvs (2, n) and rest positions (3, n) to how opaque it is there (n,)."""


@dataclass(frozen=True)
class Occluders:
    """Surfaces that take light away, as tensors: solid ones together, textured ones each."""

    positions: torch.Tensor
    triangles: torch.Tensor
    cards: Sequence[tuple[Surface, torch.Tensor, torch.Tensor]]
    """Surface, positions, triangles."""

    @classmethod
    def of(cls, surfaces: Sequence[Surface], device: str) -> "Occluders":
        solid = [surface for surface in surfaces if not surface.texture]
        starts = np.cumsum([0, *(len(surface.positions) for surface in solid)])
        triangles = [surface.triangles + start for surface, start in zip(solid, starts, strict=False)]
        return cls(
            torch.from_numpy(np.concatenate([surface.positions for surface in solid])).to(device),
            torch.from_numpy(np.concatenate(triangles)).to(device),
            [
                (
                    surface,
                    torch.from_numpy(surface.positions).to(device),
                    torch.from_numpy(surface.triangles).to(device),
                )
                for surface in surfaces
                if surface.texture
            ],
        )

    def depth(self, renderer: Renderer, matrix: torch.Tensor, size: int, opacity: Opacity) -> torch.Tensor:
        """(size, size) depth of what is nearest, cards only where they are opaque."""
        depth = renderer.rasterise(self.positions, self.triangles, matrix, size).depth[0]
        for surface, positions, triangles in self.cards:
            layers = renderer.rasterise(positions, triangles, matrix, size)
            clip = project(positions, matrix)
            uvs, rest = torch.from_numpy(surface.uvs), torch.from_numpy(surface.rest)
            samples = locate(occupied(layers.triangle), size, triangles, clip)
            uv = samples.interpolate_corners(uvs.to(depth.device))
            clear = opacity(surface, uv, samples.interpolate(rest.to(depth.device))) <= _OPAQUE
            layers.depth.view(-1)[samples.place[clear]] = 1.0
            depth = torch.minimum(depth, layers.depth[0])
        return depth


class Shadow:
    """The shadow map of a light from `direction` (3,) on what lies around `centre` (3,)."""

    def __init__(
        self,
        renderer: Renderer,
        occluders: Occluders,
        direction: np.ndarray,
        centre: np.ndarray,
        size: int,
        opacity: Opacity,
    ):
        """`size`: side of the map in texels."""
        self._size = size
        matrix = parallel_camera(direction, centre, _SHADOW_REACH, distance=7, far=14)
        self._matrix = torch.as_tensor(matrix, dtype=torch.float32, device=renderer.device)
        self._depth = occluders.depth(renderer, self._matrix, size, opacity)

    def at(self, positions: torch.Tensor) -> Callable[[float], torch.Tensor]:
        """A function from a depth bias to the visibility (n,) of places (3, n), averaged over eight texels."""
        clip = project(positions.T, self._matrix).T.contiguous()
        x = (clip[0] * 0.5 + 0.5) * self._size
        y = (0.5 - clip[1] * 0.5) * self._size
        near = clip[2] * 0.5 + 0.5
        flat = self._depth.reshape(-1)

        def visible(bias: float) -> torch.Tensor:
            total = torch.zeros_like(near)
            for dx, dy in ((0.8, 0.4), (-0.8, -0.4)):
                total += self._bilinear(flat, x + dx, y + dy, near - bias)
            return total / 2

        return visible

    def _bilinear(self, flat: torch.Tensor, x: torch.Tensor, y: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        """(n,) share of the four texels around a place that are not nearer to the light."""
        left, top = torch.floor(x - 0.5), torch.floor(y - 0.5)
        fx, fy = x - 0.5 - left, y - 0.5 - top
        column, row = left.long().clamp(0, self._size - 2), top.long().clamp(0, self._size - 2)
        corner = row * self._size + column
        upper = torch.lerp((flat[corner] >= near).float(), (flat[corner + 1] >= near).float(), fx)
        corner = corner + self._size
        lower = torch.lerp((flat[corner] >= near).float(), (flat[corner + 1] >= near).float(), fx)
        return torch.lerp(upper, lower, fy)


class AmbientOcclusion:
    """Ambient visibility of every vertex on the reference head, baked per hair cut when it is first worn."""

    def __init__(self, head: Head, renderer: Renderer, opacity: Opacity):
        self._head, self._renderer, self._opacity = head, renderer, opacity
        self._baked: dict[tuple[str | None, bool], dict[str, torch.Tensor]] = {}

    def of(self, mesh: str | None, mirrored: bool) -> dict[str, torch.Tensor]:
        """Part name → (v, 1) in [0, 1] under a hair mesh, or under none."""
        key = mesh, mirrored
        if key not in self._baked:
            if mirrored:
                plain = self.of(mesh, False)
                self._baked[key] = {
                    name: values if name.startswith("hair/") else values[self._twins(name)]
                    for name, values in plain.items()
                }
            else:
                self._baked[key] = self._bake(mesh)
        return self._baked[key]

    def _twins(self, name: str) -> torch.Tensor:
        """(v,) the vertex on the other side of the head."""
        head = self._head
        part = head.skin if name == "skin" else head.part(*name.split("/"))
        rest = part.positions(head.reference)
        return torch.from_numpy(cKDTree(rest).query(rest * MIRROR)[1]).to(self._renderer.device)

    def _bake(self, mesh: str | None) -> dict[str, torch.Tensor]:
        head, device = self._head, self._renderer.device
        parts = [head.skin, head.part("eyes", "high-poly")]
        if mesh:
            parts.append(head.part("hair", mesh))
        surfaces = {part.name: _at_rest(part, head) for part in parts}
        casting = [surfaces[part.name] for part in parts if part is not parts[1]]
        occluders = Occluders.of(casting, device)
        seen = {name: np.zeros(len(surface.positions)) for name, surface in surfaces.items()}
        total = {name: np.full(len(surface.positions), 1e-6) for name, surface in surfaces.items()}
        centre = np.array([0, 7.1, 0.4])
        for direction in sphere(_DIRECTIONS):
            if direction[1] < -0.75:
                continue
            sky = 0.35 + 0.65 * float(smoothstep(-0.5, 0.6, direction[1]))  # the floor is darker than the sky
            matrix = parallel_camera(direction, centre, _OCCLUSION_REACH, distance=8, far=16)
            tensor = torch.as_tensor(matrix, dtype=torch.float32, device=device)
            depth = occluders.depth(self._renderer, tensor, _OCCLUSION_SIZE, self._opacity).cpu().numpy()
            for name, surface in surfaces.items():
                lifted = surface.positions + surface.normals * (0.015 if name == "skin" else 0.0)
                place = lifted @ matrix[:3, :3].T + matrix[:3, 3]
                column = ((place[:, 0] * 0.5 + 0.5) * _OCCLUSION_SIZE).astype(int).clip(0, _OCCLUSION_SIZE - 1)
                row = ((0.5 - place[:, 1] * 0.5) * _OCCLUSION_SIZE).astype(int).clip(0, _OCCLUSION_SIZE - 1)
                bias = 0.0015 if name == "skin" else 0.0028
                free = depth[row, column] > place[:, 2] * 0.5 + 0.5 - bias
                weight = np.ones(len(place)) if name.startswith("hair/") else (surface.normals @ direction).clip(0, 1)
                seen[name] += weight * sky * free
                total[name] += weight * sky
        baked = {name: seen[name] / total[name] for name in surfaces}
        baked["skin"] = head.skin.smoothed(baked["skin"], 2)
        return {name: torch.from_numpy(values.astype(np.float32))[:, None].to(device) for name, values in baked.items()}


def _at_rest(part: Part, head: Head) -> Surface:
    positions = part.positions(head.reference)
    normals = part.normals(positions)
    texture = part.name if part.name.startswith("hair/") else ""
    settings: dict[str, object] = {"trim": 0.0}
    return Surface(part.name, positions, normals, positions, part.triangles, part.uvs, texture, settings=settings)


def parallel_camera(direction: np.ndarray, centre: np.ndarray, reach: float, distance: float, far: float) -> np.ndarray:
    """(4, 4) orthographic camera that looks from `distance` along `direction` (3,) at `centre` (3,).

    It covers `reach` to every side, and depths from 0.1 to `far`; decimetres.
    """
    up = np.array([0.0, 1.0, 0.0] if abs(direction[1]) < 0.95 else [0.0, 0.0, 1.0])
    right = np.cross(-direction, up)
    right /= np.linalg.norm(right)
    view = np.eye(4)
    view[:3, :3] = np.stack([right, np.cross(right, -direction), direction])
    view[:3, 3] = -view[:3, :3] @ (centre + direction * distance)
    near = 0.1
    lens = np.diag([1 / reach, 1 / reach, -2 / (far - near), 1.0])
    lens[2, 3] = -(far + near) / (far - near)
    return lens @ view
