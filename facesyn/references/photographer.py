"""One process that renders shots: assets, head, renderer and materials together. Writes no file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facesyn import registry
from facesyn.protocols import Renderer
from facesyn.references.assets import Assets, find_assets
from facesyn.references.head import Head
from facesyn.references.labels import label
from facesyn.references.people import People
from facesyn.references.photograph import backdrop, degrade, develop
from facesyn.references.plans import Order, Planner, Shot
from facesyn.references.scene import Poser
from facesyn.references.studio import Geometry, Studio
from facesyn.references.styles import Styles
from facesyn.seeds import derive_seed

_FINE_FROM = 161
"""Pictures of so many pixels and more show the skin's triangles, and get finer ones."""


@dataclass(frozen=True)
class Rendered:
    """A finished picture with its `labels`, and the geometry seen in it where that was asked for."""

    shot: Shot
    picture: Image.Image
    labels: dict[str, Any]
    geometry: Geometry | None


@dataclass(frozen=True)
class Equipment:
    """How pictures are taken; small enough to be handed to a worker process. `geometry` keeps what maps are made of."""

    assets: Path
    size: int = 128
    crop: str = "head"
    renderer: str = "moderngl"
    options: tuple[tuple[str, Any], ...] = ()
    geometry: bool = False


def planner(order: Order, assets: Assets) -> Planner:
    """The planner of an order for what the assets offer."""
    return Planner(order, People(assets, order.seed), Styles(assets.names("hair"), order.seed))


class Photographer:
    """Raises AssetError or BackendError where assets or renderer are missing."""

    def __init__(self, equipment: Equipment, order: Order):
        self.equipment, self.order = equipment, order
        self.assets: Assets = find_assets(equipment.assets)
        renderer: Renderer = registry.create(registry.Role.RENDERER, equipment.renderer, dict(equipment.options))
        head = Head(self.assets, fine=equipment.size >= _FINE_FROM)
        self._poser, self._studio = Poser(head), Studio(head, renderer)
        self.planner = planner(order, self.assets)

    def take(self, shot: Shot) -> Rendered:
        """The same shot gives the same pixels."""
        size = self.equipment.size
        scene = self._poser.scene(shot.identity, shot.style, self.equipment.crop)
        exposure = self._studio.expose(scene, size, self.equipment.geometry)
        developed = develop(exposure.rgba, backdrop(shot.style.background, size))
        rng = np.random.default_rng(derive_seed(self.order.seed, "film", shot.name))
        picture = degrade(developed, shot.style.quality, rng)
        return Rendered(shot, picture, label(scene, size) | shot.facts, exposure.geometry)

    def session(self, number: int) -> Iterator[Rendered]:
        """All pictures of a person, the portrait first."""
        identity = self.planner.identity(number)
        yield self.take(self.planner.portrait(identity))
        for shot in self.planner.shots(identity):
            yield self.take(shot)
