"""Rasterises with PyTorch3D, on the CPU or a GPU. Knows no head. Not on PyPI: see INSTALL.md in this folder."""

import torch

from facesyn.errors import UsageError
from facesyn.protocols import Layers

_SMALLEST_W = 1e-4
"""Triangles reaching behind the camera are left out rather than clipped."""
_NEAR = 1e-6
"""PyTorch3D leaves out triangles that so much as touch depth 0; those at the near plane are moved behind it."""
_TILE = 8
"""Side of a tile in pixels. On a CPU PyTorch3D tries every triangle at every pixel, hence few of each at a time."""


class PyTorch3DRenderer:
    """`device` is a torch device; `bin_size` is PyTorch3D's on a GPU: None for its own choice, 0 for no bins."""

    def __init__(self, device: str = "auto", bin_size: int | None = None):
        from facesyn.tensors import choose_device

        if bin_size is not None and bin_size < 0:
            raise UsageError(f"bin_size must be 0 or more, not {bin_size}.")
        self.device = str(choose_device(device))
        self._bin_size = bin_size

    @classmethod
    def why_unavailable(cls) -> str | None:
        try:
            from pytorch3d import _C  # noqa: F401  the compiled part, which a broken build lacks
        except Exception as error:
            return f"PyTorch3D cannot be imported ({type(error).__name__}: {error}); see backends/pytorch3d/INSTALL.md."
        return None

    def rasterise(
        self, positions: torch.Tensor, triangles: torch.Tensor, matrix: torch.Tensor, size: int, layers: int = 1
    ) -> Layers:
        """See `facesyn.protocols.Renderer`."""
        clip = positions @ matrix[:, :3].T + matrix[:, 3]
        w = clip[:, 3:]
        in_front = (w[triangles][..., 0] > _SMALLEST_W).all(1)
        kept = in_front.nonzero()[:, 0]
        none = torch.full((layers, size, size), -1, dtype=torch.int64, device=clip.device)
        if not len(kept):
            return Layers(none, torch.ones_like(none, dtype=torch.float32))
        ndc = clip[:, :3] / w.clamp(min=_SMALLEST_W)
        # Depth is linear on the screen once divided by w.
        corners = torch.stack([ndc[:, 0], ndc[:, 1], ndc[:, 2] * 0.5 + (0.5 + _NEAR)], dim=1)[triangles[kept]]
        on_gpu = clip.device.type != "cpu"
        faces, depth = self._whole(corners, size, layers) if on_gpu else self._tiled(corners, size, layers)
        seen = faces >= 0
        triangle = torch.where(seen, kept[faces.clamp(min=0)], none)
        return Layers(triangle, torch.where(seen, depth - _NEAR, torch.ones_like(depth)))

    def _whole(self, corners: torch.Tensor, size: int, layers: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(layers, size, size) index into `corners` (f, 3, 3), or -1, and depth."""
        faces, depth = self._rasterised([corners], size, layers)
        return faces[0].permute(2, 0, 1), depth[0].permute(2, 0, 1)

    def _tiled(self, corners: torch.Tensor, size: int, layers: int) -> tuple[torch.Tensor, torch.Tensor]:
        """As `_whole`, from tiles that are handed only the triangles reaching into them."""
        count = -(-size // _TILE)
        faces = torch.full((count, count, _TILE, _TILE, layers), -1, dtype=torch.int64)
        depth = torch.ones(faces.shape)
        scale = size / _TILE
        place = corners[..., :2] * corners.new_tensor([scale / 2, -scale / 2]) + scale / 2  # tiles from the top left
        first, last = place.amin(1).floor(), place.amax(1).floor()
        tiles, members = [], []
        for row in range(count):
            across = ((first[:, 1] <= row) & (last[:, 1] >= row)).nonzero()[:, 0]
            for column in range(count):
                here = across[(first[across, 0] <= column) & (last[across, 0] >= column)]
                if len(here):
                    tiles.append((row, column))
                    members.append(here)
        if tiles:
            scenes = []
            for (row, column), here in zip(tiles, members, strict=True):
                local = (place[here] - place.new_tensor([column, row])) * place.new_tensor([2, -2])
                scenes.append(torch.cat([local + place.new_tensor([-1, 1]), corners[here][..., 2:]], 2))
            found, depths = self._rasterised(scenes, _TILE, layers)
            packed = torch.cat(members)
            rows, columns = torch.tensor(tiles).T
            faces[rows, columns] = torch.where(found >= 0, packed[found.clamp(min=0)], found)
            depth[rows, columns] = depths
        side = count * _TILE
        faces, depth = (each.permute(4, 0, 2, 1, 3).reshape(layers, side, side) for each in (faces, depth))
        return faces[:, :size, :size], depth[:, :size, :size]

    def _rasterised(self, scenes: list[torch.Tensor], size: int, layers: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, size, size, layers) index into all triangles of `scenes` (f, 3, 3) one after another, and depth."""
        from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
        from pytorch3d.structures import Meshes

        # PyTorch3D's x points to the left.
        vertices = [scene.reshape(-1, 3) * scene.new_tensor([-1, 1, 1]) for scene in scenes]
        indices = [torch.arange(len(each), device=each.device).reshape(-1, 3) for each in vertices]
        faces, depth, _, _ = rasterize_meshes(
            Meshes(vertices, indices),
            image_size=size,
            blur_radius=0.0,
            faces_per_pixel=layers,
            bin_size=self._bin_size,
            perspective_correct=False,
            clip_barycentric_coords=False,
            cull_backfaces=False,
        )
        return faces, depth
