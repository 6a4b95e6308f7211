"""Takes pictures of scenes: visibility from a renderer, colours from materials, layers put over one another.

Knows nothing of how scenes come about, or of what becomes of pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from facesyn.protocols import Renderer
from facesyn.references.head import Head
from facesyn.references.looks import BACKGROUND, Seen
from facesyn.references.materials import Materials
from facesyn.references.raster import Places, Samples, locate, occupied, project
from facesyn.references.scene import Scene, Surface
from facesyn.references.shading import Lit, unit
from facesyn.references.textures import Textures
from facesyn.references.visibility import AmbientOcclusion, Occluders, Shadow

SUPERSAMPLING = 2
"""Samples per pixel and direction."""
_LAYERS, _LAYERS_WITHOUT_HAIR = 4, 2
"""Cards that are looked through, at most: hair is made of many."""
_COLUMNS = 11
_SHADOW_SIZE = 512
"""Side of the shadow map in texels, at most."""
_BRIGHTEST = 4.0
"""Highlights are limited before samples are averaged, or one would outshine its pixel."""


@dataclass(frozen=True)
class Geometry:
    """What is seen in a picture of size n.

    `kind` (n, n) uint8 index into `facesyn.references.looks.KINDS`; `normal` (n, n, 3) float32 unit vectors in the
    picture's frame; `depth` (n, n) float32 distance in decimetres along the optical axis. The last two are 0 where
    nothing is.
    """

    kind: np.ndarray
    normal: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class Exposure:
    """A picture of size n before it is a photograph: `rgba` (n, n, 4) float32 linear, premultiplied."""

    rgba: np.ndarray
    geometry: Geometry | None = None


class Studio:
    """One head model and one renderer. Textures and occlusion are kept from picture to picture."""

    def __init__(self, head: Head, renderer: Renderer):
        self.renderer = renderer
        self._device = renderer.device
        self._materials = Materials(Textures(head, self._device), self._device)
        self._occlusion = AmbientOcclusion(head, renderer, self._materials.opacity)

    @torch.no_grad()
    def expose(self, scene: Scene, size: int, geometry: bool = False) -> Exposure:
        """The scene in a picture of `size` × `size` pixels, on demand with the `geometry` that is seen there."""
        grid = size * SUPERSAMPLING
        casting = [surface for surface in (*scene.solid, *scene.cutout) if surface.casts_shadow]
        occluders = Occluders.of(casting, self._device)
        lit = Lit.of(scene.light, scene.exposure, self._device)
        shadow = Shadow(
            self.renderer,
            occluders,
            scene.light.directions[0],
            scene.centre,
            min(size * 3 // 2, _SHADOW_SIZE),
            self._materials.opacity,
        )
        canvas = _Canvas(grid, _COLUMNS if geometry else 4, self._device)
        matrix = self._tensor(scene.matrix)
        hidden: torch.Tensor | None = None
        layers_of_cards = _LAYERS if scene.style.hair.mesh else _LAYERS_WITHOUT_HAIR
        for surfaces, layers in ((scene.solid, 1), (scene.cutout, layers_of_cards)):
            group = _Group.of(surfaces, matrix, self._device)
            seen = self.renderer.rasterise(group.positions, group.triangles, matrix, grid, layers)
            if hidden is not None:
                seen.triangle[seen.depth >= hidden] = -1
            starts = torch.tensor([member.first for member in group.members], device=self._device)
            places = occupied(seen.triangle, starts)
            painted = [self._paint(scene, member, places, canvas, lit, shadow) for member in group.members]
            canvas.lay([paint for paint in painted if paint is not None], layers)
            hidden = seen.depth[0]
        return canvas.resolved(scene)

    def _paint(
        self,
        scene: Scene,
        member: "_Member",
        places: Places,
        canvas: "_Canvas",
        lit: Lit,
        shadow: Shadow,
    ) -> "_Paint | None":
        """The looks of one surface in all layers at once; None where it is nowhere seen."""
        mine = places.of(member.first, len(member.triangles))
        if not len(mine.place):
            return None
        samples = locate(mine, canvas.size, member.triangles, member.clip)
        surface = member.surface
        position, normal, rest = samples.interpolate(member.geometry).split(3)
        hair = scene.style.hair
        baked = self._occlusion.of(hair.mesh, hair.mirrored).get(surface.occlusion)
        seen = Seen(
            surface=surface,
            scene=scene,
            lit=lit,
            samples=samples,
            size=canvas.size,
            position=position,
            normal=normal,
            view=unit(self._tensor(scene.eye)[:, None] - position),
            rest=rest,
            uv=samples.interpolate_corners(member.uvs),
            uv_corners=member.uvs,
            values=None if surface.values is None else samples.interpolate(self._tensor(surface.values)),
            occlusion=torch.ones_like(rest[0]) if baked is None else samples.interpolate(baked)[0],
            shadow=shadow.at(position),
        )
        look = self._materials.look(seen)
        columns = [look.colour.clamp(0, _BRIGHTEST) * look.opacity, look.opacity[None]]
        if canvas.columns > 4:
            columns += [look.kind[None].float(), unit(normal), position]
        return _Paint(samples, torch.cat(columns).T.contiguous())

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self._device)


@dataclass(frozen=True)
class _Member:
    """A surface of a group on the device. `geometry` (v, 9): position, normal, rest; `first` is its first triangle."""

    surface: Surface
    first: int
    triangles: torch.Tensor
    geometry: torch.Tensor
    clip: torch.Tensor
    uvs: torch.Tensor


@dataclass(frozen=True)
class _Group:
    """Surfaces rasterised together."""

    positions: torch.Tensor
    triangles: torch.Tensor
    members: Sequence[_Member]

    @classmethod
    def of(cls, surfaces: Sequence[Surface], matrix: torch.Tensor, device: str) -> "_Group":
        members: list[_Member] = []
        triangles: list[torch.Tensor] = []
        first = start = 0
        for surface in surfaces:
            corners = torch.from_numpy(surface.triangles).to(device)
            geometry = np.concatenate([surface.positions, surface.normals, surface.rest], 1).astype(np.float32)
            on_device = torch.from_numpy(geometry).to(device)
            clip = project(on_device[:, :3], matrix)
            uvs = torch.from_numpy(surface.uvs).to(device)
            members.append(_Member(surface, first, corners, on_device, clip, uvs))
            triangles.append(corners + start)
            first, start = first + len(corners), start + len(geometry)
        positions = torch.cat([member.geometry[:, :3] for member in members])
        return cls(positions, torch.cat(triangles), members)


@dataclass(frozen=True)
class _Paint:
    """`rows` (n, 4): premultiplied colour and opacity; or (n, 11) with kind, normal and position."""

    samples: Samples
    rows: torch.Tensor


class _Canvas:
    """The grid of samples, painted from far to near; `columns` as in `_Paint`."""

    def __init__(self, size: int, columns: int, device: str):
        self.size, self.columns = size, columns
        self._rows = torch.zeros((size * size, columns), device=device)  # kind 0 is the background
        self._block = torch.tensor([0, 1, size, size + 1], device=device)

    def lay(self, paints: Sequence[_Paint], layers: int) -> None:
        """Layers over what is there, the last first; whatever is at least half opaque counts as what is seen."""
        if not paints:
            return
        place = torch.cat([paint.samples.place for paint in paints])
        single = torch.cat([paint.samples.span for paint in paints]) == 1
        rows = torch.cat([paint.rows for paint in paints])
        count = self.size * self.size
        for layer in reversed(range(layers)):
            here = (place >= layer * count) & (place < (layer + 1) * count)
            for chosen, block in ((here & single, self._block[:1]), (here & ~single, self._block)):
                sample = chosen.nonzero()[:, 0]
                if len(sample):
                    pixel = (place[sample][:, None] - layer * count + block).reshape(-1)
                    sample = sample.repeat_interleave(len(block))
                    self._put(pixel, rows[sample], solid=layers == 1)

    def _put(self, pixel: torch.Tensor, rows: torch.Tensor, solid: bool) -> None:
        if not solid:
            before, opacity = self._rows[pixel], rows[:, 3:4]
            kept = torch.where(opacity >= 0.5, rows[:, 4:], before[:, 4:])
            rows = torch.cat([rows[:, :4] + before[:, :4] * (1 - opacity), kept], 1)
        self._rows[pixel] = rows

    def resolved(self, scene: Scene) -> Exposure:
        """Samples averaged into pixels: colours under a tent, kinds by majority, normals and depths by mean."""
        n = self.size
        offsets = (torch.arange(2 * SUPERSAMPLING, device=self._rows.device) + 0.5) / SUPERSAMPLING - 1
        tent = (1 - offsets.abs() / 0.9).clamp(min=0)
        kernel = torch.outer(tent, tent)
        image = self._rows[:, :4].T.reshape(4, 1, n, n)
        margin = SUPERSAMPLING // 2
        padded = F.pad(image, (margin, margin, margin, margin), mode="replicate")
        rgba = F.conv2d(padded, (kernel / kernel.sum())[None, None], stride=SUPERSAMPLING)[:, 0]
        colours = rgba.permute(1, 2, 0).cpu().numpy()
        return Exposure(colours, self._geometry(scene) if self.columns > 4 else None)

    def _geometry(self, scene: Scene) -> Geometry:
        kinds = self._blocks(self._rows[:, 4])
        first, second, third, fourth = kinds  # two of four make a majority, or at least no smaller party
        rest = torch.where((second == third) | (second == fourth), second, third)
        alone = (first != second) & (first != third) & (first != fourth)
        kind = torch.where(alone & ((second == third) | (second == fourth) | (third == fourth)), rest, first)
        there = (kinds != BACKGROUND).float()
        share = there.sum(0).clamp(min=1)
        normal = torch.stack([(self._blocks(axis) * there).sum(0) for axis in self._rows[:, 5:8].T])
        normal = unit(normal) * (kind != BACKGROUND)
        distance = float(scene.eye[2]) - (self._blocks(self._rows[:, 10]) * there).sum(0) / share
        depth = torch.where(kind != BACKGROUND, distance, 0)
        return Geometry(kind.to(torch.uint8).cpu().numpy(), normal.permute(1, 2, 0).cpu().numpy(), depth.cpu().numpy())

    def _blocks(self, values: torch.Tensor) -> torch.Tensor:
        """(samples per pixel, size, size) from (samples of the grid,)."""
        k, size = SUPERSAMPLING, self.size // SUPERSAMPLING
        return values.reshape(size, k, size, k).permute(1, 3, 0, 2).reshape(k * k, size, size)
