"""Textures of the assets on a device, read on first use, and the blend of painted skins in a wanted tone."""

from functools import lru_cache

import numpy as np
import torch

from facesyn.references.assets import read_picture
from facesyn.references.head import Head
from facesyn.references.people import Skin
from facesyn.references.raster import Samples, Texture
from facesyn.references.scene import linear

SIDE = 512
_FLOOR = 0.004
"""Added before taking logarithms of skin colours."""
_CHEEKS = (slice(272, 287), slice(212, 227)), slice(436, 446)
"""Rows (from the bottom) and columns of the cheeks in a painted skin."""
_LUMINANCE = np.array([0.35, 0.5, 0.15])


class Textures:
    def __init__(self, head: Head, device: str):
        self._head, self._device = head, device
        self.colour = lru_cache(maxsize=None)(self._colour)
        self.brightness = lru_cache(maxsize=None)(self._brightness)
        self._logarithm = lru_cache(maxsize=None)(self._skin_logarithm)
        self.oil = Texture.of(head.oil_mask[..., None], device)

    def _colour(self, name: str) -> Texture:
        """RGBA of `iris/<colour>` or of a proxy, `<kind>/<name>`."""
        kind, _, proxy = name.partition("/")
        assets = self._head.assets
        path = assets.irises[proxy] if kind == "iris" else assets.texture(kind, proxy)
        return Texture.of(read_picture(path, SIDE), self._device)

    def _brightness(self, name: str) -> float:
        """Mean linear luminance of a proxy's texture where it is opaque."""
        rgba = self.colour(name).levels[0][0]
        luminance = torch.einsum("chw,c->hw", rgba[:3] ** 2.2, rgba.new_tensor([0.3, 0.5, 0.2]))
        return float((luminance * rgba[3]).sum() / rgba[3].sum().clamp(min=1e-6)) + 1e-4

    def _skin_logarithm(self, key: tuple[str, str, str], index: int) -> tuple[Texture, np.ndarray]:
        """The logarithm of a painted skin's linear colours, and its mean (3,) on the cheeks."""
        pixels = read_picture(self._head.assets.skins[key][index], SIDE)[..., :3]
        logarithm = np.log(pixels**2.2 + _FLOOR)
        rows, columns = _CHEEKS
        cheeks = np.concatenate([logarithm[each, columns].reshape(-1, 3) for each in rows])
        return Texture.of(logarithm, self._device), cheeks.mean(0)

    def skin_level(self, samples: Samples, uv_corners: torch.Tensor) -> int:
        return self.oil.level_for(samples, uv_corners)

    def skin(self, skin: Skin, uv: torch.Tensor, level: int) -> torch.Tensor:
        """(3, n) linear albedo at `uv` (2, n): painted skins blended in log space, scaled to the tone on the cheeks."""
        blended = torch.zeros((3, uv.shape[1]), device=uv.device)
        cheek = np.zeros(3)
        for key, index, weight in skin.textures:
            texture, mean = self._logarithm(key, index)
            blended.add_(texture.lookup(uv, level), alpha=weight)
            cheek += weight * mean
        albedo = (blended.exp_() - _FLOOR).clamp_(min=0)
        r, g, b = _LUMINANCE.tolist()
        grey = r * albedo[0] + g * albedo[1] + b * albedo[2]
        tone = linear(skin.rgb) / _saturated(np.exp(cheek) - _FLOOR, skin.saturation)
        scale = torch.tensor(tone, dtype=torch.float32, device=uv.device)[:, None]
        return torch.lerp(grey.expand_as(albedo), albedo, skin.saturation).clamp_(min=0) * scale


def _saturated(rgb: np.ndarray, saturation: float) -> np.ndarray:
    grey = rgb @ _LUMINANCE
    return np.asarray(grey + (rgb - grey) * saturation)
