"""Renderers keep their promises, and agree with each other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facesyn import registry
from facesyn.references.photographer import Equipment, Photographer
from facesyn.references.plans import Order
from facesyn.testing import RendererContract


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


def test_pytorch3d_draws_the_same_pictures(assets: Path) -> None:
    available("pytorch3d")
    order = Order(identities=2, styles=2, seed=1)
    first, second = (
        Photographer(Equipment(assets, 64, renderer=name, geometry=True), order) for name in ("moderngl", "pytorch3d")
    )
    for number in range(order.identities):
        for ours, theirs in zip(first.session(number), second.session(number), strict=True):
            assert ours.geometry is not None and theirs.geometry is not None
            covered, there = ours.geometry.kind > 0, theirs.geometry.kind > 0
            assert (covered & there).sum() / (covered | there).sum() >= 0.98
            pixels, others = (np.asarray(each.picture, float) for each in (ours, theirs))
            assert np.abs(pixels - others).mean() <= 6
