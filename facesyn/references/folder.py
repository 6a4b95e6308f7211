"""The folder of rendered references: pictures with labels, portraits, edge maps, and maps of geometry. Renders nothing.

metadata.jsonl, 000000/000.png …    people in styles: a bank for `facesyn transfer --references`
portraits/                          the same people as source faces are shown, one picture each
edges/                              inner-face edges of the portraits: a bank for `facesyn generate --edges`
depth/ normals/ segmentation/       on demand; the same names as pictures
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facesyn.errors import RunError, UsageError
from facesyn.marking import COMPUTED
from facesyn.records import EdgeRow, RenderedRow, write_bytes
from facesyn.references.edges import HIGH, LOW, edge_map
from facesyn.references.looks import KINDS
from facesyn.references.photographer import Rendered
from facesyn.references.plans import Shot
from facesyn.references.studio import Geometry
from facesyn.rendered import PORTRAITS, REFERENCE_STYLE
from facesyn.stages.folder import StageFolder

MAPS = ("depth", "normals", "segmentation")
DEPTH_UNIT = 0.001
"""Decimetres per step of a 16-bit depth map: a tenth of a millimetre. 0 is background."""
EDGES = "edges"


class ReferenceFolder:
    """Adds rendered pictures to a folder; what is there already is left as it is.

    `facts` say how pictures are made: renderer, size, crop, seed. Raises RunError where the folder was made otherwise.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], maps: Sequence[str] = ()):
        for name in maps:
            if name not in MAPS:
                raise UsageError(f"There is no map {name!r}.", hint=f"Maps are {', '.join(MAPS)}.")
        self.folder, self._facts, self._maps = folder, dict(facts), tuple(maps)
        self.pictures = StageFolder(folder, RenderedRow, source=COMPUTED)
        self.portraits = StageFolder(folder / PORTRAITS, RenderedRow, source=COMPUTED)
        self.edges = StageFolder(folder / EDGES, EdgeRow, source=COMPUTED)
        for row in (*self.portraits.done.values(), *self.pictures.done.values()):
            if row.render != self._facts:
                changed = [key for key in sorted({*row.render, *facts}) if row.render.get(key) != facts.get(key)]
                raise RunError(
                    f"{folder / row.file_name} was made with another {' and '.join(changed)}.",
                    hint="Choose another output folder, or repeat the settings it was made with.",
                )

    def begin(self) -> None:
        """Make the folders, each with the file that says it is ours."""
        for each in (self.pictures, self.portraits, self.edges):
            each.begin()

    def row(self, name: str, labels: Mapping[str, Any]) -> RenderedRow:
        return RenderedRow.model_validate({"file_name": f"{name}.png", "render": self._facts, **labels})

    def has(self, shots: Iterable[Shot]) -> bool:
        """Whether all pictures of these shots are there."""
        return all(
            f"{shot.name}.png" in (self.portraits if shot.style.number == REFERENCE_STYLE else self.pictures).done
            for shot in shots
        )

    def add(self, rendered: Rendered) -> None:
        name, labels = rendered.shot.name, rendered.labels
        row = self.row(name, labels)
        if labels["style"] == REFERENCE_STYLE:
            self._add_edges(name, labels, rendered.picture)
            if row.file_name not in self.portraits.done:
                self.portraits.add(row, rendered.picture)
            return
        for kind in self._maps:
            assert rendered.geometry is not None, "maps need equipment that keeps geometry"
            path = self.folder / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, encode_map(rendered.geometry, kind))
        if row.file_name not in self.pictures.done:
            self.pictures.add(row, rendered.picture)

    def _add_edges(self, name: str, labels: Mapping[str, Any], picture: Image.Image) -> None:
        kept = ("identity", "ethnicity", "gender", "age", "age_interval", "landmarks")
        row = EdgeRow.model_validate(
            {
                "file_name": f"{name}.png",
                "source": f"../{PORTRAITS}/{name}.png",
                "edges": {"low": LOW, "high": HIGH, "inner_face": True},
                **{key: labels[key] for key in kept},
            }
        )
        if row.file_name not in self.edges.done:
            self.edges.add(row, edge_map(picture, labels["landmarks"]))


def encode_map(geometry: Geometry, kind: str) -> bytes:
    """PNG of a map: depth, 16 bits in `DEPTH_UNIT`; normals, (n + 1) / 2 · 255; segmentation, indices of `KINDS`."""
    if kind == "depth":
        picture = Image.fromarray((geometry.depth / DEPTH_UNIT).round().clip(0, 65535).astype(np.uint16))
    elif kind == "normals":
        there = geometry.kind[..., None] != 0
        picture = Image.fromarray(np.where(there, (geometry.normal + 1) * 127.5, 0).round().astype(np.uint8))
    else:
        picture = Image.fromarray(geometry.kind)
        picture.putpalette([value for kind in range(len(KINDS)) for value in _PALETTE[kind]])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


_PALETTE = (
    (0, 0, 0),
    (230, 170, 140),
    (110, 70, 40),
    (150, 100, 60),
    (60, 40, 30),
    (90, 160, 230),
    (200, 60, 80),
    (90, 150, 90),
    (160, 160, 170),
    (200, 170, 60),
)
"""Colours of `KINDS`, for people who open a map."""
