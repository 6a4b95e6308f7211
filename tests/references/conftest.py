"""The 3D head's assets, which are no part of the repository, and a renderer that runs here."""

from pathlib import Path
from typing import Any

import pytest

from facesyn import registry
from facesyn.references.photographer import Equipment, Photographer
from facesyn.references.plans import Order


@pytest.fixture(scope="session")
def assets(shared: Path) -> Path:
    folder = shared / "assets" / "makehuman"
    if not folder.is_dir():
        pytest.skip(f"no 3D head: {folder} is missing")
    return folder


@pytest.fixture(scope="session")
def renderer() -> Any:
    reason = registry.why_unavailable(registry.find(registry.Role.RENDERER, "moderngl"))
    if reason:
        pytest.skip(reason)
    return registry.create(registry.Role.RENDERER, "moderngl")


@pytest.fixture(scope="session")
def photographer(assets: Path, renderer: Any) -> Photographer:
    return Photographer(Equipment(assets, size=64), Order(identities=4, styles=6, seed=3))
