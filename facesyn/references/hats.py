"""Hats as parts of the head: a knitted beanie, or a cap with a brim. Built over the skull they are worn on."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from scipy.spatial import cKDTree

from facesyn.references.assets import Fitting
from facesyn.references.grooming import Hat
from facesyn.references.head import Head, smoothstep
from facesyn.references.mesh import Part

_COLUMNS, _ROWS = 40, 14
_MIDDLE = np.array([0.0, 7.55, 0.45])
"""Centre of the rim on the reference head, at `Hat.rise` 0."""
_UP = np.array([0.0, 1.0, -0.33]) / np.hypot(1.0, 0.33)
"""The rim's plane rises from the nape over the ears to the forehead."""
_FRONT = np.cross([1.0, 0.0, 0.0], _UP)
_THICK = 0.09
"""How far (dm) cloth and flattened hair stand off the skull."""
_CUFF = 0.26
"""Share of a beanie's height that is turned up."""
_BRIM_HALF, _BRIM_COLUMNS, _BRIM_ROWS = np.radians(52), 21, 6
_NEIGHBOURS = 8

Grid = tuple[np.ndarray, np.ndarray]
"""Positions (rows, columns, 3) and uvs (rows, columns, 2) of a sheet."""


@dataclass(frozen=True)
class Rim:
    """The plane from which a hat covers the head: what has `normal` · rest > `height` lies under it; decimetres."""

    normal: np.ndarray
    height: float


def rim(hat: Hat) -> Rim:
    return Rim(_UP, float(_UP @ _MIDDLE) + hat.rise)


class Hatter:
    """Fits hats to one head model: a hat follows whatever shape the head takes."""

    def __init__(self, head: Head):
        self._head = head
        skin = head.skin.positions(head.reference)
        self._skin = cKDTree(skin)
        ears = (np.abs(skin[:, 0]) > 0.73) & (skin[:, 1] < 7.6)
        self._skull = skin[(skin[:, 1] > 7.0) & ~ears]

    def part(self, hat: Hat) -> Part:
        """uvs: u runs once round the head from the nape, v from 0 at the rim to 1 at the top; of a brim, v from 0 at
        the rim to -1 at its edge.
        """
        middle = _MIDDLE + _UP * hat.rise
        crown = self._crown(hat, middle)
        sheets = [crown, _brim(crown[0][1], hat)] if hat.brim else [crown]
        positions = np.concatenate([places.reshape(-1, 3) for places, _ in sheets])
        triangles, uvs, start = [], [], 0
        for places, coordinates in sheets:
            corners = _sheet(*places.shape[:2])
            triangles.append(corners + start)
            uvs.append(coordinates.reshape(-1, 2)[corners])
            start += places.shape[0] * places.shape[1]
        return self._bound(positions, np.concatenate(triangles), np.concatenate(uvs).astype(np.float32))

    def _crown(self, hat: Hat, middle: np.ndarray) -> Grid:
        """Closed at the top and, by a row turned inwards to the skin, at the rim; the last column repeats the first."""
        around = np.linspace(-np.pi, np.pi, _COLUMNS + 1)
        share = np.concatenate([[-0.02], np.linspace(0, 1, _ROWS)])
        up, turn = np.meshgrid(share * np.pi / 2, around, indexing="ij")
        level = np.sin(turn)[..., None] * [1.0, 0.0, 0.0] + np.cos(turn)[..., None] * _FRONT
        towards = np.cos(up)[..., None] * level + np.sin(up)[..., None] * _UP
        offset = self._skull - middle
        distance = np.linalg.norm(offset, axis=1)
        angle, near = cKDTree(offset / distance[:, None]).query(towards, _NEIGHBOURS)
        weight = 1 / (angle**2 + 0.02)
        radius = (weight * distance[near]).sum(-1) / weight.sum(-1)
        thick = _THICK + hat.loose * smoothstep(0.2, 1.0, share)
        if not hat.brim:
            thick = thick + 0.05 * (share < _CUFF)
        thick[0] = -0.03
        places = middle + (radius + thick[:, None])[..., None] * towards
        return places, np.stack([turn / (2 * np.pi) + 0.5, np.broadcast_to(share.clip(0)[:, None], up.shape)], -1)

    def _bound(self, positions: np.ndarray, triangles: np.ndarray, uvs: np.ndarray) -> Part:
        """Each vertex keeps its offset from the mean of the skin's vertices that are nearest to it."""
        head = self._head
        near = self._skin.query(positions, _NEIGHBOURS)[1]
        rows = np.repeat(np.arange(len(positions)), _NEIGHBOURS)
        mean = sparse.csr_matrix(
            (np.full(near.size, 1 / _NEIGHBOURS), (rows, near.ravel())), (len(positions), len(self._skin.data))
        )
        weights = (mean @ head.skin.weights).astype(np.float32)
        offsets = (positions - weights @ head.reference).astype(np.float32)
        return Part("hat", weights, triangles, uvs, Fitting(near, np.empty(0), offsets, {}))


def _brim(edge: np.ndarray, hat: Hat) -> Grid:
    """A sheet from the front of the rim `edge` (columns, 3) outwards, bent down at its sides."""
    turn = np.linspace(-_BRIM_HALF, _BRIM_HALF, _BRIM_COLUMNS)
    around = np.linspace(-np.pi, np.pi, len(edge))
    inner = np.stack([np.interp(turn, around, edge[:, axis]) for axis in range(3)], 1)
    out = np.linspace(0, 1, _BRIM_ROWS)[:, None]
    length = hat.brim * np.cos(turn / _BRIM_HALF * np.pi / 2) ** 0.7
    across = (inner[:, 0] / np.abs(inner[:, 0]).max()) ** 2
    down = out * length * 0.2 + out * 0.09 * across
    places = inner + (out * length)[..., None] * _FRONT - down[..., None] * _UP
    return places, np.stack(np.broadcast_arrays(turn / (2 * np.pi) + 0.5, -out), -1)


def _sheet(rows: int, columns: int) -> np.ndarray:
    """(t, 3) triangles of a grid of vertices, facing outwards where columns run to the left seen from outside."""
    i, j = (each.ravel() for each in np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij"))
    a, b = i * columns + j, i * columns + j + 1
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])
