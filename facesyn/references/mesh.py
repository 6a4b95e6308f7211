"""Triangle meshes that are affine in the vertices of the base mesh, and Catmull-Clark subdivision. Knows no head."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sparse

from facesyn.references.assets import Fitting, Obj


@dataclass(frozen=True)
class Part:
    """A mesh with positions `weights` @ base + offsets·scale, for any shape of the base mesh.

    `triangles`: (t, 3) vertex indices; `uvs`: (t, 3, 2) of their corners, origin bottom left.
    """

    name: str
    weights: sparse.csr_matrix
    triangles: np.ndarray
    uvs: np.ndarray
    fitting: Fitting | None = None

    def positions(self, base: np.ndarray) -> np.ndarray:
        """(v, 3) float32 for base vertices (b, 3)."""
        positions = self.weights @ base
        if self.fitting is not None:
            scale = np.ones(3, np.float32)
            for axis, (first, second, distance) in self.fitting.scales.items():
                scale[axis] = abs(base[first, axis] - base[second, axis]) / distance
            positions = positions + self.fitting.offsets * scale
        return positions.astype(np.float32)

    def normals(self, positions: np.ndarray) -> np.ndarray:
        """(v, 3); see `vertex_normals`."""
        return vertex_normals(positions, self.triangles, self.incidence)

    @cached_property
    def incidence(self) -> sparse.csr_matrix:
        return incidence(self.triangles, self.weights.shape[0])

    def smoothed(self, values: np.ndarray, steps: int) -> np.ndarray:
        """`values` (v,) averaged with their neighbours, `steps` times."""
        neighbours = self.incidence @ self.incidence.T
        total = np.asarray(neighbours.sum(1)).ravel()
        for _ in range(steps):
            values = (neighbours @ values) / total
        return values


def incidence(triangles: np.ndarray, vertices: int) -> sparse.csr_matrix:
    """(v, t): 1 where a vertex is a corner of a triangle."""
    count = len(triangles)
    return sparse.csr_matrix(
        (np.ones(3 * count, np.float32), (triangles.ravel(), np.repeat(np.arange(count), 3))), (vertices, count)
    )


def vertex_normals(positions: np.ndarray, triangles: np.ndarray, corners: sparse.csr_matrix) -> np.ndarray:
    """(v, 3) unit normals: those of the triangles, weighted by area; `corners` is their `incidence`."""
    a, b, c = positions[triangles[:, 0]], positions[triangles[:, 1]], positions[triangles[:, 2]]
    e, f = b - a, c - a
    faces = np.empty_like(e)
    faces[:, 0] = e[:, 1] * f[:, 2] - e[:, 2] * f[:, 1]
    faces[:, 1] = e[:, 2] * f[:, 0] - e[:, 0] * f[:, 2]
    faces[:, 2] = e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]
    normals = corners @ faces
    normals /= np.sqrt((normals * normals).sum(1, keepdims=True)) + 1e-9
    return normals.astype(np.float32)


def proxy_part(name: str, mesh: Obj, fitting: Fitting, base_vertices: int) -> Part:
    """A proxy as a part of the base mesh."""
    count = min(len(fitting.indices), len(mesh.positions))
    rows = np.repeat(np.arange(count), 3)
    weights = sparse.csr_matrix(
        (fitting.weights[:count].ravel(), (rows, fitting.indices[:count].ravel())), (count, base_vertices)
    )
    triangles, uvs = [], []
    for face in mesh.all_faces:
        for i in range(1, len(face) - 1):
            triangles.append([face[j][0] for j in (0, i, i + 1)])
            uvs.append([mesh.uvs[face[j][1]] for j in (0, i, i + 1)])
    cut = Fitting(fitting.indices[:count], fitting.weights[:count], fitting.offsets[:count], fitting.scales)
    return Part(name, weights.astype(np.float32), np.array(triangles), np.array(uvs, np.float32), cut)


def smooth_part(name: str, quads: np.ndarray, uvs: np.ndarray, base_vertices: int, fine: bool) -> Part:
    """Quads (q, 4) of base vertices with corner `uvs` (q, 4, 2), smoothed by one step of Catmull-Clark.

    `fine` keeps all new vertices; otherwise the quads stay as many as they were, between smoothed corners.
    """
    weights, small = catmull_clark(quads, base_vertices)
    if fine:
        uvs = refine_uvs(uvs)
    else:
        small = small[:, 0].reshape(-1, 4)  # a small quad starts with the corner it was cut from
        weights = weights[: small.max() + 1]
    return Part(
        name,
        weights.astype(np.float32),
        np.concatenate([small[:, [0, 1, 2]], small[:, [0, 2, 3]]]),
        np.concatenate([uvs[:, [0, 1, 2]], uvs[:, [0, 2, 3]]]).astype(np.float32),
    )


def catmull_clark(quads: np.ndarray, base_vertices: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """One step: the matrix from base vertices to new ones, and the new quads (4q, 4), corner by corner of the old.

    New vertices are the old ones used, then one per edge, then one per face. Rules of Catmull and Clark (1978);
    boundary vertices follow the cubic B-spline of the boundary.
    """
    count = len(quads)
    used, corners = np.unique(quads, return_inverse=True)
    corners = corners.reshape(quads.shape)
    old = len(used)
    pairs = np.sort(np.stack([corners, np.roll(corners, -1, 1)], 2).reshape(-1, 2), 1)
    edges, edge_of = np.unique(pairs, axis=0, return_inverse=True)
    edge_of = edge_of.reshape(count, 4)
    edge_count = len(edges)
    faces_at_edge = np.bincount(edge_of.ravel(), minlength=edge_count)
    inner = faces_at_edge == 2
    face_rows = np.repeat(np.arange(count), 4)

    def matrix(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
        return sparse.csr_matrix((values, (rows, columns)), shape)

    face_points = matrix(np.full(4 * count, 0.25), face_rows, corners.ravel(), (count, old))
    middles = matrix(
        np.full(2 * edge_count, 0.5), np.repeat(np.arange(edge_count), 2), edges.ravel(), (edge_count, old)
    )
    edge_faces = matrix(np.ones(4 * count), edge_of.ravel(), face_rows, (edge_count, count))
    mean_face = sparse.diags(1 / np.maximum(faces_at_edge, 1)) @ edge_faces @ face_points
    edge_points = sparse.diags(np.where(inner, 0.5, 1)) @ middles + sparse.diags(inner * 0.5) @ mean_face

    vertex_faces = matrix(np.ones(4 * count), corners.ravel(), face_rows, (old, count))
    vertex_edges = matrix(
        np.ones(2 * edge_count), edges.ravel(), np.repeat(np.arange(edge_count), 2), (old, edge_count)
    )
    valence = np.asarray(vertex_faces.sum(1)).ravel()
    boundary_edges = vertex_edges @ sparse.diags((~inner).astype(float))
    boundary_valence = np.asarray(boundary_edges.sum(1)).ravel()
    on_boundary = boundary_valence > 0
    around = sparse.diags(1 / valence) @ vertex_faces @ face_points
    along = sparse.diags(1 / np.asarray(vertex_edges.sum(1)).ravel()) @ vertex_edges @ middles
    smooth = (
        sparse.diags(1 / valence) @ around + sparse.diags(2 / valence) @ along + sparse.diags((valence - 3) / valence)
    )
    border = (
        sparse.diags(0.5 / np.maximum(boundary_valence, 1)) @ (boundary_edges @ middles) + sparse.identity(old) * 0.5
    )
    vertex_points = (
        sparse.diags((~on_boundary).astype(float)) @ smooth + sparse.diags(on_boundary.astype(float)) @ border
    )

    selection = matrix(np.ones(old), np.arange(old), used, (old, base_vertices))
    weights = sparse.vstack([vertex_points, edge_points, face_points]).tocsr() @ selection
    numbers = old + edge_count + np.arange(count)
    fine = [np.stack([corners[:, c], old + edge_of[:, c], numbers, old + edge_of[:, (c - 1) % 4]], 1) for c in range(4)]
    return weights.tocsr(), np.stack(fine, 1).reshape(-1, 4)


def refine_uvs(uvs: np.ndarray) -> np.ndarray:
    """Corner uvs (q, 4, 2) → (4q, 4, 2), in the order of `catmull_clark`."""
    centre = uvs.mean(1)
    fine = []
    for c in range(4):
        here, after, before = uvs[:, c], uvs[:, (c + 1) % 4], uvs[:, (c - 1) % 4]
        fine.append(np.stack([here, (here + after) / 2, centre, (here + before) / 2], 1))
    return np.stack(fine, 1).reshape(-1, 4, 2)
