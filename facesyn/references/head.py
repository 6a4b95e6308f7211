"""The parametric head: its parts, landmarks and regions, from MakeHuman's assets. Knows nothing of pictures.

Everything is measured on one reference shape, the mean of the six young macro shapes, in decimetres: y points up, the
face looks along +z, and +x is the subject's left, right in a picture.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from facesyn.errors import AssetError
from facesyn.references.assets import SOURCES, Assets, read_picture
from facesyn.references.mesh import Part, proxy_part, smooth_part

RACES = ("african", "asian", "caucasian")
"""MakeHuman's names of its three macro shapes; they are mixed, and no finding about anyone."""
LANDMARKS = ("left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner")
"""As they lie in the picture of a frontal face."""
FITTED = ("eyes", "teeth", "tongue")
MIRROR = np.array([-1, 1, 1], np.float32)
"""From one side of the head to the other."""
_MOUTH_CORNER = 7162
"""The base mesh's vertex at the subject's left mouth corner."""
_BODY_LOW, _BODY_WIDE = 4.7, 2.6
"""Skin kept: above the chest, between the shoulders."""


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high` (or the other way round where low > high), smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


class Head:
    """Base mesh, morph targets and parts; `fine` skin has four times the triangles, for large pictures.

    Raises AssetError where a macro shape is missing.
    """

    def __init__(self, assets: Assets, fine: bool = True):
        self.assets, self._fine = assets, fine
        self._groups = assets.base.faces
        macro = [f"macrodetails/{race}-{gender}-young" for race in RACES for gender in ("female", "male")]
        if missing := [name for name in macro if name not in assets.targets]:
            raise AssetError(f"The MakeHuman data folder {assets.data} lacks the target {missing[0]}.", hint=SOURCES)
        self.reference = self.morph(dict.fromkeys(macro, 1 / 6))
        self._parts: dict[str, Part] = {}

    def morph(self, weights: Mapping[str, float], base: np.ndarray | None = None) -> np.ndarray:
        """Base vertices (b, 3) with targets added; unknown targets raise KeyError, weights of 0 are skipped."""
        shape = (self.assets.base.positions if base is None else base).copy()
        for name, weight in weights.items():
            if weight:
                target = self.assets.targets[name]
                shape[target.indices] += np.float32(weight) * target.deltas
        return shape

    # ---------------------------------------------------------------------------------------------- parts

    @cached_property
    def skin(self) -> Part:
        faces = self._groups["body"]
        quads = np.array([[corner[0] for corner in face] for face in faces])
        uvs = np.array([[self.assets.base.uvs[corner[1]] for corner in face] for face in faces])
        centre = self.reference[quads].mean(1)
        kept = (centre[:, 1] > _BODY_LOW) & (np.abs(centre[:, 0]) < _BODY_WIDE)
        return smooth_part("skin", quads[kept], uvs[kept], len(self.reference), self._fine)

    def part(self, kind: str, name: str) -> Part:
        """A fitted part: kind `eyes`, `teeth`, `tongue`, `hair`, `eyebrows` or `eyelashes`."""
        key = f"{kind}/{name}"
        if key not in self._parts:
            part = proxy_part(key, *self.assets.proxy(kind, name), len(self.reference))
            if kind == "eyes":  # the cornea is modelled, and transparent in the texture
                alpha = read_picture(next(iter(self.assets.irises.values())))[..., 3]
                rows, columns = (part.uvs.mean(1)[:, [1, 0]] * alpha.shape).astype(int).T
                seen = alpha[rows.clip(0, len(alpha) - 1), columns.clip(0, alpha.shape[1] - 1)] > 0.5
                part = Part(part.name, part.weights, part.triangles[seen], part.uvs[seen], part.fitting)
            self._parts[key] = part
        return self._parts[key]

    # ------------------------------------------------------------------------------------------ landmarks

    @cached_property
    def eye_vertices(self) -> tuple[np.ndarray, np.ndarray]:
        """Helper vertices around the eyeballs, the subject's left and right."""
        return self._vertices("helper-l-eye"), self._vertices("helper-r-eye")

    def eye_centres(self, base: np.ndarray) -> np.ndarray:
        """(2, 3): the subject's left and right eyeball."""
        return np.stack([(base[ids].min(0) + base[ids].max(0)) / 2 for ids in self.eye_vertices])

    def landmarks(self, base: np.ndarray) -> np.ndarray:
        """(5, 3) in the order of `LANDMARKS`: the fronts of the eyeballs, nose tip, mouth corners."""
        right, left = self._mouth_corners
        centres = self.eye_centres(base)
        centres[:, 2] = [base[ids][:, 2].max() for ids in self.eye_vertices]
        return np.stack([centres[1], centres[0], base[self._nose], base[right], base[left]])

    @cached_property
    def ear_vertices(self) -> np.ndarray:
        """(2,) where the temples of glasses rest, above the subject's right and left ear."""
        places = np.array([[-0.72, 7.43, 0.42], [0.72, 7.43, 0.42]])
        skin = self.reference[self._skin_vertices]
        return self._skin_vertices[((skin[None] - places[:, None]) ** 2).sum(2).argmin(1)]

    @cached_property
    def _nose(self) -> int:
        """The foremost skin vertex on the midline, between eyes and mouth."""
        ids, eye_height = self._skin_vertices, self.eye_centres(self.reference)[0, 1]
        x, y = self.reference[ids, 0], self.reference[ids, 1]
        line = ids[(np.abs(x) < 0.02) & (y < eye_height - 0.1) & (y > eye_height - 0.75)]
        return int(line[np.argmax(self.reference[line, 2])])

    @cached_property
    def _mouth_corners(self) -> tuple[int, int]:
        """The subject's right and left."""
        mirrored = self.reference[_MOUTH_CORNER] * MIRROR
        distance = ((self.reference[self._skin_vertices] - mirrored) ** 2).sum(1)
        return int(self._skin_vertices[np.argmin(distance)]), _MOUTH_CORNER

    @cached_property
    def _skin_vertices(self) -> np.ndarray:
        return self._vertices("body")

    def _vertices(self, group: str) -> np.ndarray:
        return np.unique([corner[0] for face in self._groups[group] for corner in face])

    # -------------------------------------------------------------------------------------------- regions

    def pivot(self, base: np.ndarray) -> np.ndarray:
        """(3,): the head turns about the middle between the joints of head and neck."""
        joints = (self._vertices("joint-head"), self._vertices("joint-neck"))
        return np.asarray(np.mean([base[ids].mean(0) for ids in joints], axis=0))

    def crown(self, base: np.ndarray) -> np.ndarray:
        """(3,): the point of the scalp that hair is combed away from."""
        return np.asarray(base[self._vertices("joint-head")].mean(0) + np.array([0, 1.25, -0.15], np.float32))

    def centre(self, base: np.ndarray) -> np.ndarray:
        return np.asarray(base[self._vertices("joint-head")].mean(0))

    def head_weight(self, rest: np.ndarray) -> np.ndarray:
        """(v, 1): how far a vertex at `rest` (v, 3) follows the head (1) rather than the torso (0)."""
        neck = float(self.reference[self._vertices("joint-neck"), 1].mean())
        height = rest[:, 1] + 0.35 * (rest[:, 2] - 0.2)
        return smoothstep(neck - 0.55, neck + 0.45, height).astype(np.float32)[:, None]

    @staticmethod
    def beard_weight(rest: np.ndarray) -> np.ndarray:
        """(v,) in [0, 1]: where a beard grows on skin at `rest` (v, 3)."""
        x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
        upper = np.interp(z, [0.2, 0.55, 1.0, 1.35], [7.25, 7.05, 6.80, 6.74])
        lower = np.interp(z, [0.0, 0.5, 1.0, 1.45], [6.55, 6.30, 6.10, 6.15])
        jaw = smoothstep(0, 0.12, upper - y) * smoothstep(0, 0.15, y - lower) * smoothstep(0.45, 0.68, z)
        moustache = smoothstep(6.90, 6.84, y) * smoothstep(6.70, 6.76, y) * smoothstep(0.36, 0.26, x) * (z > 1.2)
        lips = np.hypot(x / 0.27, (y - 6.69) / 0.115)
        grown = np.maximum(jaw, 0.8 * moustache) * np.where(z > 1.1, smoothstep(0.85, 1.12, lips), 1)
        return np.asarray(grown).clip(0, 1).astype(np.float32)

    @cached_property
    def scalp_mask(self) -> np.ndarray:
        """(512, 512) float32, bottom row first, over the skin's uvs: where hair grows.

        Read off the darkest painted scalp among the skins, with ears and face left out.
        """
        from scipy.ndimage import gaussian_filter

        painted = self.assets.skins.get(("young", "african", "male")) or next(iter(self.assets.skins.values()))
        pixels = read_picture(painted[0], 512)[::-1, :, :3] * 255
        luminance = gaussian_filter(pixels.mean(2), 2.0)
        y, x = np.mgrid[:512, :512]
        mask = smoothstep(58, 40, luminance) * (x > 322) * (x < 462) * (y > 90) * (y < 440)
        ears = np.minimum(np.hypot((x - 438) / 21, (y - 195) / 16), np.hypot((x - 438) / 21, (y - 331) / 16)) < 1
        bare = ears | ((x > 403) & (y > 211) & (y < 315))
        kept = 1 - smoothstep(0.15, 0.7, gaussian_filter(bare.astype(float), 2.5))
        return (gaussian_filter(np.where(bare, 0, mask), 3.5) * kept)[::-1].astype(np.float32)

    @cached_property
    def oil_mask(self) -> np.ndarray:
        """(512, 512) float32, bottom row first, over the skin's uvs: the shiny forehead, nose and chin."""
        y, x = np.mgrid[:512, :512].astype(float)
        mask = np.exp(-(((y - 262) / 16) ** 2)) * smoothstep(392, 405, x) * smoothstep(452, 440, x)
        return mask[::-1].astype(np.float32)
