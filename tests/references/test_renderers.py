"""Renderers keep their promises, and agree with each other."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facesyn import registry
from facesyn.references.grooming import Hair
from facesyn.references.photographer import Equipment, Photographer
from facesyn.references.plans import Order
from facesyn.testing import RendererContract

BALD = Hair("bald", "black", (24.0, 20.0, 19.0))


def available(name: str) -> Any:
    reason = registry.why_unavailable(registry.find(registry.Role.RENDERER, name))
    if reason:
        pytest.skip(reason)
    return registry.create(registry.Role.RENDERER, name)


class TestModernGL(RendererContract):
    def make(self) -> Any:
        return available("moderngl")


def test_renderers_do_not_draw_into_each_others_context() -> None:
    positions = torch.tensor([[-0.8, -0.8, 0.0], [0.8, -0.8, 0.0], [0.0, 0.8, 0.0]])
    triangle, camera = torch.tensor([[0, 1, 2]]), torch.diag(torch.tensor([1.0, 1.0, -1.0, 1.0]))
    first = available("moderngl")
    expected = {size: available("moderngl").rasterise(positions, triangle, camera, size) for size in (32, 48)}
    for size, layers in expected.items():
        found = first.rasterise(positions, triangle, camera, size)
        assert (found.triangle == layers.triangle).all() and (found.depth == layers.depth).all()
        assert (found.triangle == 0).any()


class TestPyTorch3D(RendererContract):
    def make(self) -> Any:
        return available("pytorch3d")


@pytest.mark.parametrize("hair_cards", [False, True])
def test_pytorch3d_draws_the_same_pictures(assets: Path, monkeypatch: pytest.MonkeyPatch, hair_cards: bool) -> None:
    """Few directions of ambient occlusion, the same for both: on a CPU PyTorch3D takes minutes for all of them."""
    available("pytorch3d")
    monkeypatch.setattr("facesyn.references.visibility._DIRECTIONS", 4)
    order = Order(identities=2, styles=2, seed=1)
    ours, theirs = (
        Photographer(Equipment(assets, 64, renderer=name, geometry=True), order) for name in ("moderngl", "pytorch3d")
    )
    for number in range(order.identities):
        who = ours.planner.identity(number)
        for shot in ours.planner.shots(who):
            hair = replace(shot.style.hair, mesh="short01") if hair_cards else replace(BALD, scalp=0.9)
            worn = replace(shot, style=replace(shot.style, hair=hair))
            first, second = ours.take(worn), theirs.take(worn)
            assert first.geometry is not None and second.geometry is not None
            covered, there = first.geometry.kind > 0, second.geometry.kind > 0
            assert (covered & there).sum() / (covered | there).sum() >= 0.98
            pixels, others = (np.asarray(each.picture, float) for each in (first, second))
            assert np.abs(pixels - others).mean() <= 6


def test_what_pytorch3d_draws_in_tiles_is_what_it_draws_at_once() -> None:
    available("pytorch3d")
    renderer = registry.create(registry.Role.RENDERER, "pytorch3d", {"device": "cpu"})
    corners = torch.rand((40, 3, 3), generator=torch.Generator().manual_seed(4)) * torch.tensor([3.0, 3.0, 1.0]) - 1
    corners[..., 2] += 1
    for size in (32, 43):
        for tiled, whole in zip(renderer._tiled(corners, size, 3), renderer._whole(corners, size, 3), strict=True):
            assert torch.allclose(tiled, whole, atol=1e-5)
