"""Rasterises with PyTorch3D, on the CPU or a GPU. Knows no head. Not on PyPI: see INSTALL.md in this folder."""

import torch

from facesyn.errors import UsageError
from facesyn.protocols import Layers

_SMALLEST_W = 1e-4
"""Triangles reaching behind the camera are left out rather than clipped."""


class PyTorch3DRenderer:
    """`device` is a torch device; `bin_size` is PyTorch3D's, None for its own choice on a GPU and 0 for none."""

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
        from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
        from pytorch3d.structures import Meshes

        clip = positions @ matrix[:, :3].T + matrix[:, 3]
        w = clip[:, 3:]
        in_front = (w[triangles][..., 0] > _SMALLEST_W).all(1)
        kept = in_front.nonzero()[:, 0]
        none = torch.full((layers, size, size), -1, dtype=torch.int64, device=clip.device)
        if not len(kept):
            return Layers(none, torch.ones_like(none, dtype=torch.float32))
        ndc = clip[:, :3] / w.clamp(min=_SMALLEST_W)
        # PyTorch3D's x points to the left; its z grows away from the viewer and must not be negative. Depth is linear
        # on the screen once divided by w, hence no perspective correction.
        screen = torch.stack([-ndc[:, 0], ndc[:, 1], ndc[:, 2] * 0.5 + 0.5], dim=1)
        faces, depth, _, _ = rasterize_meshes(
            Meshes([screen], [triangles[kept]]),
            image_size=size,
            blur_radius=0.0,
            faces_per_pixel=layers,
            bin_size=self._bin_size,
            perspective_correct=False,
            clip_barycentric_coords=False,
            cull_backfaces=False,
        )
        faces, depth = faces[0].permute(2, 0, 1), depth[0].permute(2, 0, 1)
        seen = faces >= 0
        triangle = torch.where(seen, kept[faces.clamp(min=0)], none)
        return Layers(triangle, torch.where(seen, depth, torch.ones_like(depth)))
