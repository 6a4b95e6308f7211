"""Spectacles as meshes: two rims, a bridge, temples to the ears, lenses. Built around the eyes they are worn on."""

import numpy as np

from facesyn.references.grooming import Glasses

_AROUND, _SIDES = 28, 6
_FORWARD = 0.15
"""Distance (dm) of the lenses before the fronts of the eyeballs."""

Mesh = tuple[np.ndarray, np.ndarray]
"""Positions (v, 3) and triangles (t, 3)."""


def glasses_mesh(glasses: Glasses, landmarks: np.ndarray, ears: np.ndarray) -> tuple[Mesh, Mesh]:
    """Frame and lenses for eyes (the first two `landmarks` (5, 3)) and `ears` (2, 3), right one first; decimetres."""
    eyes = landmarks[:2]
    front = eyes[:, 2].max() + _FORWARD
    drop = 0.1 * glasses.height
    half_gap = max(0.075, float(eyes[1, 0] - eyes[0, 0]) / 2 - glasses.width / 2)
    centre_x = half_gap + glasses.width / 2
    middle = eyes.mean(0)
    frame: list[Mesh] = []
    lenses: list[Mesh] = []
    outline = superellipse(glasses.width / 2, glasses.height / 2, glasses.corner)
    for side, ear in zip((-1, 1), ears, strict=True):
        centre = np.array([middle[0] + side * centre_x, middle[1] - drop, front])
        # lenses bend round the face a little
        ring = np.column_stack([outline * [side, 1], -0.12 * np.abs(outline[:, 0] * side + side * centre_x) ** 2])
        ring = ring + centre
        frame.append(tube(ring, glasses.rim / 2, closed=True))
        fan = np.concatenate([ring.mean(0)[None], ring])
        after = np.roll(np.arange(1, len(fan)), -1)
        lenses.append((fan, np.stack([np.zeros_like(after), np.arange(1, len(fan)), after], 1)))
        hinge = ring[np.argmax(ring[:, 0] * side)] + [0, 0.25 * glasses.height, 0]
        bend = ear + [side * 0.03, 0.02, 0.08]
        temple = np.stack([hinge, hinge * 0.98 + bend * 0.02 + [side * 0.02, 0, 0], bend, ear + [0, -0.18, -0.1]])
        frame.append(tube(temple, glasses.rim * 0.45, closed=False))
    across = np.linspace(-1, 1, 7)
    height = middle[1] - drop + 0.22 * glasses.height
    bridge = np.column_stack(
        [middle[0] + across * half_gap * 1.15, height + 0.02 * (1 - across**2), np.full(7, front + 0.01)]
    )
    frame.append(tube(bridge, glasses.rim / 2, closed=False))
    return joined(frame), joined(lenses)


def superellipse(a: float, b: float, power: float) -> np.ndarray:
    """(n, 2) points of |x/a|^p + |y/b|^p = 1."""
    angle = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([a * np.sign(c) * np.abs(c) ** (2 / power), b * np.sign(s) * np.abs(s) ** (2 / power)], 1)


def tube(path: np.ndarray, radius: float, closed: bool) -> Mesh:
    """A tube of `radius` along `path` (n, 3)."""
    count = len(path)
    along = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.cross(along, np.where(np.abs(along[:, 2:]) > 0.8, [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, along)
    angle = np.linspace(0, 2 * np.pi, _SIDES, endpoint=False)
    circle = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * up[:, None]
    positions = (path[:, None] + radius * circle).reshape(-1, 3)
    i, k = (
        grid.ravel()
        for grid in np.meshgrid(np.arange(count if closed else count - 1), np.arange(_SIDES), indexing="ij")
    )
    j, m = (i + 1) % count, (k + 1) % _SIDES
    a, b, c, d = i * _SIDES + k, i * _SIDES + m, j * _SIDES + m, j * _SIDES + k
    return positions, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def joined(meshes: list[Mesh]) -> Mesh:
    """Several meshes as one."""
    starts = np.cumsum([0, *(len(positions) for positions, _ in meshes)])
    triangles = [triangles + start for (_, triangles), start in zip(meshes, starts, strict=False)]
    return np.concatenate([positions for positions, _ in meshes]), np.concatenate(triangles)
