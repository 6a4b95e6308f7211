"""Labels are true: landmarks, light, pose."""

import numpy as np
import pytest
import torch

from facesyn.references.crops import TEMPLATES, crop_matrix, similarity
from facesyn.references.lighting import direction, project_surroundings, sphere
from facesyn.references.photographer import Photographer
from facesyn.references.raster import locate, occupied, project
from facesyn.references.scene import angles, rotation
from facesyn.references.shading import Lit, surface, unit
from facesyn.references.styles import Pose, reference_style


@pytest.mark.parametrize("yaw, pitch, roll", [(0, 0, 0), (25, 10, -5), (-40, -12, 9)])
def test_markers_on_the_head_land_on_the_landmarks(
    photographer: Photographer, yaw: float, pitch: float, roll: float
) -> None:
    """Small markers at the landmarks, drawn with the head by the renderer, lie where the labels say: within a pixel."""
    from dataclasses import replace

    renderer, size = photographer._studio.renderer, 128
    for number in range(3):
        who = photographer.planner.identity(number)
        style = replace(reference_style(who), pose=Pose(yaw, pitch, roll))
        scene = photographer._poser.scene(who, style)
        skin = scene.solid[0]
        corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.02
        markers = (scene.landmarks_3d[:, None] + corners + [0, 0, 0.06]).reshape(-1, 3)
        faces = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
        triangles = np.concatenate([faces + 4 * i for i in range(5)])
        seen = renderer.rasterise(
            torch.tensor(np.concatenate([skin.positions, markers]), dtype=torch.float32),
            torch.tensor(np.concatenate([skin.triangles, triangles + len(skin.positions)])),
            torch.tensor(scene.matrix, dtype=torch.float32),
            size * 4,
        ).triangle[0]
        for place, landmark in enumerate(scene.landmarks * size):
            first = len(skin.triangles) + 4 * place
            rows, columns = ((seen >= first) & (seen < first + 4)).nonzero().T
            assert len(rows), "the marker is hidden"
            found = np.array([columns.float().mean() + 0.5, rows.float().mean() + 0.5]) / 4
            assert np.linalg.norm(found - landmark) < 1


def test_the_light_on_a_drawn_sphere_comes_from_where_the_label_says(photographer: Photographer) -> None:
    renderer, size = photographer._studio.renderer, 96
    style = photographer.planner._styles.style(2, "female")
    for place, towards in enumerate((*style.light.directions[:1], direction(40, 30), direction(-70, -10))):
        colours, directions = np.zeros((3, 3)), np.eye(3)
        colours[place % 3], directions[place % 3] = 1.0, towards
        lit = Lit.of(type(style.light)("test", directions, colours, np.zeros((9, 3))), 1.0, "cpu")
        positions, triangles = ball()
        matrix = torch.diag(torch.tensor([0.9, 0.9, -0.9, 1.0]))
        places = occupied(renderer.rasterise(positions, triangles, matrix, size).triangle)
        samples = locate(places, size, triangles, project(positions, matrix))
        normal = unit(samples.interpolate(positions))
        one, none = torch.ones_like(normal[0]), torch.zeros(3, 1)
        view = torch.tensor([[0.0], [0.0], [1.0]]).expand_as(normal)
        shaded = surface(lit, normal, view, torch.ones_like(normal), one, one, none, 0.0, one, one * 0)[1]
        bright = shaded > 0.05
        fitted = torch.linalg.lstsq(normal[:, bright].T, shaded[bright][:, None]).solution[:, 0].numpy()
        assert fitted @ towards / np.linalg.norm(fitted) > np.cos(np.radians(1))


def ball(rings: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    polar = torch.linspace(0.01, np.pi - 0.01, rings)
    around = torch.linspace(0, 2 * np.pi, rings)
    p, a = torch.meshgrid(polar, around, indexing="ij")
    positions = torch.stack([p.sin() * a.cos(), p.cos(), p.sin() * a.sin()], -1).reshape(-1, 3)
    i, j = torch.meshgrid(torch.arange(rings - 1), torch.arange(rings - 1), indexing="ij")
    corner = (i * rings + j).reshape(-1)
    return positions, torch.cat(
        [
            torch.stack([corner, corner + 1, corner + rings], 1),
            torch.stack([corner + 1, corner + rings + 1, corner + rings], 1),
        ]
    )


def test_surroundings_give_the_irradiance_they_are_projected_from() -> None:
    towards = sphere(4000)
    radiance = np.exp(2 * towards @ direction(30, 40))[:, None] * np.ones(3)
    lit = Lit(torch.eye(3), torch.zeros(3, 3), torch.tensor(project_surroundings(towards, radiance)).float())
    for normal in (direction(0, 0), direction(30, 40), direction(-120, 10)):
        exact = (np.clip(towards @ normal, 0, None) * radiance[:, 0]).mean() * 4
        assert lit.around(torch.tensor(normal).float()[:, None])[0, 0] == pytest.approx(exact, rel=0.05)


def test_angles_are_those_the_head_was_turned_by() -> None:
    for turn in ((0, 0, 0), (30, -20, 10), (-75, 15, -8)):
        assert angles(rotation(*turn)) == pytest.approx(turn, abs=1e-6)


def test_the_arcface_crop_puts_landmarks_where_recognisers_expect_them(photographer: Photographer) -> None:
    for number in range(3):
        who = photographer.planner.identity(number)
        scene = photographer._poser.scene(who, reference_style(who), "arcface")
        scale, turned, shift = similarity(scene.landmarks, TEMPLATES["arcface"])
        assert scale == pytest.approx(1, abs=1e-3)
        assert turned == pytest.approx(np.eye(2), abs=1e-3)
        assert shift == pytest.approx(np.zeros(2), abs=1e-3)


def test_the_ffhq_crop_is_centred_below_the_eyes() -> None:
    landmarks = np.array([[0.4, 0.5], [0.6, 0.5], [0.5, 0.6], [0.43, 0.7], [0.57, 0.7]])
    clip = np.concatenate([landmarks * [2, -2] + [-1, 1], np.zeros((5, 1)), np.ones((5, 1))], 1)
    moved = clip @ crop_matrix("ffhq", landmarks).T
    placed = moved[:, :2] * [0.5, -0.5] + 0.5
    side = 1 / (2 * max(2 * 0.2, 1.8 * 0.2))
    assert placed[1, 0] - placed[0, 0] == pytest.approx(0.2 * side)
    centre = placed[:2].mean(0) + 0.1 * (placed[3:].mean(0) - placed[:2].mean(0))
    assert centre == pytest.approx([0.5, 0.5])
