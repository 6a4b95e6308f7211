"""Identity and style put together: posed meshes, camera, landmarks, and what materials need. Draws nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from facesyn.references.crops import EYE_ROW, EYE_SPAN, crop_matrix
from facesyn.references.glasses import glasses_mesh
from facesyn.references.grooming import Fur, Hat, Rgb
from facesyn.references.hats import Hatter, rim
from facesyn.references.head import MIRROR, Head, smoothstep
from facesyn.references.lighting import Light
from facesyn.references.mesh import Part, incidence, vertex_normals
from facesyn.references.people import Identity
from facesyn.references.styles import Pose, Style

_ANCHOR = 0.55
"""The camera aims so far (dm) behind the middle of the eyes, towards the ears, so that turned heads stay centred."""
_CLOTH = 0.035
"""Clothes lie so far (dm) over the skin."""
_CARD = 0.015
"""Brows and lashes lie so far (dm) before the skin they were fitted to."""
_TRIMMED = {"bob01": 7.62, "bob02": 7.60, "braid01": 7.60, "short03": 7.62}
"""Long fringes are cut at this height so that they do not hide the eyes."""


@dataclass(frozen=True)
class Surface:
    """A mesh to be drawn. `positions`, `normals`, `rest` (v, 3); `rest` is where a vertex lies on the reference head.

    `occlusion` names the part whose ambient visibility applies, if any. `values` (v, c) are the material's own.
    """

    material: str
    positions: np.ndarray
    normals: np.ndarray
    rest: np.ndarray
    triangles: np.ndarray
    uvs: np.ndarray
    texture: str = ""
    occlusion: str = ""
    values: np.ndarray | None = None
    casts_shadow: bool = False
    settings: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """What is in front of the camera. World axes are the picture's: x right, y up, z towards the camera; decimetres.

    `matrix` (4, 4) leads from the world to clip space; `landmarks` (5, 2) in a picture of side 1, top left origin.
    """

    identity: Identity
    style: Style
    solid: Sequence[Surface]
    cutout: Sequence[Surface]
    matrix: np.ndarray
    eye: np.ndarray
    centre: np.ndarray
    crown: np.ndarray
    eye_centres: np.ndarray
    turn: np.ndarray
    light: Light
    exposure: float
    landmarks: np.ndarray
    landmarks_3d: np.ndarray


def linear(rgb: Rgb) -> np.ndarray:
    """(3,) linear RGB in [0, 1] from sRGB in [0, 255], by the power 2.2."""
    return np.asarray((np.asarray(rgb, float) / 255) ** 2.2)


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """(3, 3) for degrees as in `facesyn.references.styles.Pose`."""
    y, p, r = np.radians([yaw, -pitch, -roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def angles(turn: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees of a rotation (3, 3): the inverse of `rotation`."""
    yaw = np.degrees(np.arctan2(-turn[2, 0], turn[2, 2]))
    pitch = -np.degrees(np.arcsin(np.clip(turn[2, 1], -1, 1)))
    roll = -np.degrees(np.arctan2(-turn[0, 1], turn[1, 1]))
    return float(yaw), float(pitch), float(roll)


class Poser:
    """Builds scenes of one head model."""

    def __init__(self, head: Head):
        self.head = head
        self._rest: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._last: tuple[Identity, np.ndarray] | None = None

    def scene(self, identity: Identity, style: Style, crop: str = "head") -> Scene:
        head = self.head
        base = self._shape(identity)
        posed = head.morph(self._expression(identity, style), base)
        orbit = rotation(-style.camera.azimuth, -style.camera.elevation)
        pose = _Rotated(head, base, style.pose, orbit)
        eye_centres = head.eye_centres(base)
        landmarks = head.landmarks(posed)
        landmarks[:2] = head.landmarks(base)[:2]  # eyeballs do not follow the lids

        skin, skin_vertices, skin_normals = self._skin(posed, pose, style)
        solid = [skin, self._eyes(posed, pose, eye_centres, identity, style)]
        if style.expression.shows_teeth:
            solid += [self._fitted("mouth", kind, name, posed, pose) for kind, name in MOUTH]
        cutout = []
        if style.hair.mesh:
            cutout.append(self._hair(posed, pose, style))
        for where, fur in (("scalp", style.hair.fur), ("beard", style.beard.fur)):
            if fur is not None:
                cutout.append(self._fur(where, fur, skin_vertices, skin_normals, style))
        for kind, name, rgb, gain in (
            ("eyebrows", identity.brows, linear(identity.brow_rgb), identity.brow_gain),
            ("eyelashes", identity.lashes, np.array([0.012, 0.010, 0.009]), 1.3),
        ):
            settings = {"rgb": rgb, "gain": gain}
            cutout.append(self._fitted("card", kind, name, posed, pose, settings))
        if style.glasses is not None:
            frame, lenses = glasses_mesh(style.glasses, landmarks, posed[head.ear_vertices])
            settings = {"rgb": linear(style.glasses.rgb), "glasses": style.glasses}
            solid.append(_plain("frame", *frame, pose, settings))
            cutout.append(_plain("lens", *lenses, pose, settings))
        if style.hat is not None:
            solid.append(self._hat(style.hat, posed, pose))

        turned = pose.of_head(landmarks)
        anchor = pose.of_head(((landmarks[0] + landmarks[1]) / 2 - [0, 0, _ANCHOR])[None])[0]
        matrix, eye = _camera(anchor, style.camera.distance, float(np.linalg.norm(landmarks[1] - landmarks[0])))
        matrix = crop_matrix(crop, _on_picture(turned, matrix)) @ matrix
        return Scene(
            identity=identity,
            style=style,
            solid=solid,
            cutout=cutout,
            matrix=matrix,
            eye=eye,
            centre=anchor,
            crown=pose.of_head(head.crown(base)[None])[0],
            eye_centres=pose.of_head(eye_centres),
            turn=pose.head_turn,
            light=style.light.turned(orbit) if style.camera.azimuth or style.camera.elevation else style.light,
            exposure=style.light.exposure * _exposure(identity),
            landmarks=_on_picture(turned, matrix),
            landmarks_3d=turned,
        )

    def _shape(self, identity: Identity) -> np.ndarray:
        """Base vertices of a person; pictures come person by person, so the last one is kept."""
        if self._last is None or self._last[0] is not identity:
            self._last = identity, self.head.morph(identity.targets)
        return self._last[1]

    def _expression(self, identity: Identity, style: Style) -> dict[str, float]:
        """Expression units exist once per macro race; they are mixed as the identity is."""
        weights: dict[str, float] = {}
        for unit, weight in style.expression.weights.items():
            for race, share in identity.races.items():
                name = f"expression/units/{race}/{unit}"
                if name in self.head.assets.targets:
                    weights[name] = weights.get(name, 0.0) + weight * share
        return weights

    def _at_rest(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """(v, 3) positions on the reference head, and (v, 1) how far each vertex follows the head."""
        if part.name not in self._rest:
            rest = part.positions(self.head.reference)
            self._rest[part.name] = rest, self.head.head_weight(rest)
        return self._rest[part.name]

    def _skin(self, posed: np.ndarray, pose: "_Rotated", style: Style) -> tuple[Surface, np.ndarray, np.ndarray]:
        """The skin with clothes on, and its bare positions and normals."""
        part = self.head.skin
        rest, weight = self._at_rest(part)
        positions = pose(part.positions(posed), weight)
        normals = part.normals(positions)
        cover = cloth_depth(rest, style.clothing.neckline)
        dressed = positions + normals * (_CLOTH * smoothstep(0, 0.12, cover))[:, None].astype(np.float32)
        surface = Surface(
            "skin",
            dressed,
            normals,
            rest,
            part.triangles,
            part.uvs,
            occlusion="skin",
            values=np.stack([self._beard, self._scalp, cover], 1).astype(np.float32),
            casts_shadow=True,
        )
        return surface, positions, normals

    @cached_property
    def _beard(self) -> np.ndarray:
        """(v,) of the skin."""
        return self.head.beard_weight(self._at_rest(self.head.skin)[0])

    def _eyes(
        self, posed: np.ndarray, pose: "_Rotated", centres: np.ndarray, identity: Identity, style: Style
    ) -> Surface:
        part = self.head.part("eyes", "high-poly")
        rest, weight = self._at_rest(part)
        positions = part.positions(posed)
        gaze = rotation(*style.expression.gaze)
        left = rest[:, 0] > 0
        for centre, side in zip(centres, (left, ~left), strict=True):
            positions[side] = (positions[side] - centre) @ gaze.T + centre
        positions = pose(positions, weight)
        return Surface(
            "eye",
            positions,
            part.normals(positions),
            rest,
            part.triangles,
            part.uvs,
            texture=f"iris/{identity.iris[0]}",
            occlusion=part.name,
        )

    def _fitted(
        self,
        material: str,
        kind: str,
        name: str,
        posed: np.ndarray,
        pose: "_Rotated",
        settings: dict[str, object] | None = None,
    ) -> Surface:
        part = self.head.part(kind, name)
        rest, weight = self._at_rest(part)
        positions = pose(part.positions(posed), weight)
        if material == "card":  # or coarse skin would swallow brows in places
            positions = positions + (pose.head_turn[:, 2] * _CARD).astype(np.float32)
        return Surface(
            material,
            positions,
            part.normals(positions),
            rest,
            part.triangles,
            part.uvs,
            texture=f"{kind}/{name}",
            settings=settings or {},
        )

    def _hair(self, posed: np.ndarray, pose: "_Rotated", style: Style) -> Surface:
        hair = style.hair
        assert hair.mesh is not None
        part = self.head.part("hair", hair.mesh)
        rest, weight = self._at_rest(part)
        positions, centre = part.positions(posed), self.head.centre(posed)
        if hair.mirrored:
            positions = positions * MIRROR
            rest = rest * MIRROR
        widen = np.array([hair.widen, 1 + (hair.widen - 1) * 0.7, hair.widen])
        positions = centre + (positions - centre) * widen
        positions[:, 1] -= np.maximum(0, centre[1] - positions[:, 1]) * (hair.lengthen - 1)
        positions = pose(positions, weight)
        normals = part.normals(positions)
        return Surface(
            "hair",
            positions,
            -normals if hair.mirrored else normals,
            rest,
            part.triangles,
            part.uvs,
            texture=part.name,
            occlusion=part.name,
            casts_shadow=True,
            settings={"trim": _TRIMMED.get(hair.mesh, 0.0), "rim": rim(style.hat) if style.hat else None},
        )

    def _fur(self, where: str, fur: Fur, skin: np.ndarray, normals: np.ndarray, style: Style) -> Surface:
        """The outermost shell of short hair; how it looks inside is the material's."""
        part = self.head.skin
        rest, _ = self._at_rest(part)
        if where == "beard":
            length, comb = fur.length * self._beard, np.array([0.0, -0.5, 0.1], np.float32)
        else:  # at the hairline the shell comes down to the skin
            length, comb = fur.length * np.sqrt(self._scalp), np.zeros(3, np.float32)
        chosen = self._grown[where]
        positions = skin + (normals + comb) * length[:, None]
        values = np.stack([self._beard, self._scalp, length], 1).astype(np.float32)
        return Surface(
            "fur",
            positions.astype(np.float32),
            normals,
            rest,
            part.triangles[chosen],
            part.uvs[chosen],
            occlusion="skin",
            values=values,
            settings={"where": where, "fur": fur, "rim": rim(style.hat) if style.hat else None},
        )

    def _hat(self, hat: Hat, posed: np.ndarray, pose: "_Rotated") -> Surface:
        part = self._hatter.part(hat)
        rest = part.positions(self.head.reference)
        positions = pose(part.positions(posed), self.head.head_weight(rest))
        return Surface(
            "hat",
            positions,
            part.normals(positions),
            rest,
            part.triangles,
            part.uvs,
            casts_shadow=True,
            settings={"hat": hat},
        )

    @cached_property
    def _hatter(self) -> Hatter:
        return Hatter(self.head)

    @cached_property
    def _grown(self) -> dict[str, np.ndarray]:
        """Triangles of the skin on which the scalp's and the beard's hair grows."""
        triangles = self.head.skin.triangles
        return {"scalp": self._scalp[triangles].max(1) > 0.05, "beard": self._beard[triangles].max(1) > 0.05}

    @cached_property
    def _scalp(self) -> np.ndarray:
        """(v,) of the skin: where hair grows. On a seam of the texture the larger value counts."""
        part, mask = self.head.skin, self.head.scalp_mask
        columns, rows = (part.uvs * len(mask)).astype(int).clip(0, len(mask) - 1).transpose(2, 0, 1)
        grown = np.zeros(part.weights.shape[0], np.float32)
        np.maximum.at(grown, part.triangles.ravel(), mask[rows, columns].ravel())
        return grown


MOUTH = (("teeth", "teeth_base"), ("tongue", "tongue01"))


def cloth_depth(rest: np.ndarray, neckline: tuple[float, float, float]) -> np.ndarray:
    """(v,) how far (dm) a place at `rest` (v, 3) lies below the neckline; negative above it."""
    height, fall, vee = neckline
    front = smoothstep(-0.2, 0.9, rest[:, 2])
    cut = vee * front * np.maximum(0, 1 - np.abs(rest[:, 0]) / 0.55)
    return np.asarray(height - fall * front - cut - rest[:, 1])


class _Rotated:
    """Turns the head about its pivot; the torso follows less, and the neck lies between."""

    def __init__(self, head: Head, base: np.ndarray, pose: Pose, orbit: np.ndarray):
        self._pivot = head.pivot(base)
        self.head_turn = orbit @ rotation(pose.yaw, pose.pitch, pose.roll)
        follow = pose.body
        self._body_turn = orbit @ rotation(pose.yaw * follow, pose.pitch * 0.15 * follow, pose.roll * 0.2 * follow)

    def __call__(self, positions: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """(v, 3) float32; `weight` (v, 1) as by `Head.head_weight`."""
        offset = positions - self._pivot
        turned = (offset @ self.head_turn.T) * weight + (offset @ self._body_turn.T) * (1 - weight)
        return turned.astype(np.float32)

    def of_head(self, points: np.ndarray) -> np.ndarray:
        return np.asarray((points - self._pivot) @ self.head_turn.T)


def _plain(
    material: str, positions: np.ndarray, triangles: np.ndarray, pose: _Rotated, settings: dict[str, object]
) -> Surface:
    """A mesh without texture that sits on the head."""
    turned = pose.of_head(positions).astype(np.float32)
    return Surface(
        material,
        turned,
        vertex_normals(turned, triangles, incidence(triangles, len(turned))),
        positions.astype(np.float32),
        triangles,
        np.zeros((len(triangles), 3, 2), np.float32),
        casts_shadow=material == "frame",
        settings=settings,
    )


def _camera(anchor: np.ndarray, distance: float, eye_distance: float) -> tuple[np.ndarray, np.ndarray]:
    """World-to-clip matrix (4, 4) and place (3,) of a camera that looks along -z at the anchor.

    A vertical lens shift puts the anchor onto the eye row without tilting the camera.
    """
    focal = EYE_SPAN * (distance - _ANCHOR) / eye_distance * 2
    eye = anchor + [0, 0, distance]
    near, far = max(0.5, distance - 4), distance + 5
    view = np.eye(4)
    view[:3, 3] = -eye
    lens = np.zeros((4, 4))
    lens[0, 0] = lens[1, 1] = focal
    lens[1, 2] = -(1 - 2 * EYE_ROW)
    lens[2, 2], lens[2, 3], lens[3, 2] = -(far + near) / (far - near), -2 * far * near / (far - near), -1
    return lens @ view, eye


def _on_picture(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(n, 2) in a picture of side 1, top left origin, of points (n, 3)."""
    clip = np.concatenate([points, np.ones((len(points), 1))], 1) @ matrix.T
    ndc = clip[:, :2] / clip[:, 3:]
    return np.stack([ndc[:, 0] * 0.5 + 0.5, 0.5 - ndc[:, 1] * 0.5], 1)


def _exposure(identity: Identity) -> float:
    """A camera opens up a little for dark skin and closes down for fair skin."""
    luminance = float(linear(identity.skin.rgb) @ [0.30, 0.59, 0.11])
    return float(np.clip((0.30 / luminance) ** 0.18, 0.86, 1.35))
