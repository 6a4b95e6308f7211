"""What trainings are tried on: held-out renders, and the embedded autoencoder."""

from pathlib import Path
from typing import Any

import pytest
from diffusers import AutoencoderKL

from facesyn.rendered import RenderedFaces, read_shards


@pytest.fixture(scope="module")
def renders(shared: Path) -> RenderedFaces:
    return read_shards(shared / "data" / "renders", "val-00022.tar")


@pytest.fixture
def autoencoder() -> Any:
    from facesyn.models import resolve

    return AutoencoderKL.from_pretrained(resolve("mini", "atd") / "vae", local_files_only=True).eval()
