"""Reads a MakeHuman data folder in its native layout: meshes, morph targets, fittings, textures. Draws nothing."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from facesyn.errors import AssetError

ENVIRONMENT = "FACESYN_ASSETS"
SOURCES = (
    "MakeHuman's CC0 assets are at https://github.com/makehumancommunity/makehuman (makehuman/data) and "
    "https://github.com/makehumancommunity/makehuman-assets (base, fetched with git-lfs); lay them into one folder."
)
_NEEDED = (
    "3dobjs/base.obj",
    "skins/*_*_*/*.png",
    "eyes/high-poly/high-poly.obj",
    "eyes/materials/*_eye.png",
    "teeth/teeth_base/teeth_base.obj",
    "tongue/tongue01/tongue01.obj",
    "hair/*/*.mhclo",
    "eyebrows/*/*.mhclo",
    "eyelashes/*/*.mhclo",
)
_PACKED_KEYS = {"names", "ptr", "idx", "dxyz"}


def find_assets(folder: Path | None = None) -> "Assets":
    """The assets in `folder`, or in the one FACESYN_ASSETS names; either a `data` folder or the one that holds it.

    Raises AssetError with what is missing and where to get it.
    """
    if folder is None:
        named = os.environ.get(ENVIRONMENT)
        if not named:
            raise AssetError(
                f"No MakeHuman data folder is named; give --assets FOLDER or set {ENVIRONMENT}.", hint=SOURCES
            )
        folder = Path(named)
    if not folder.is_dir():
        raise AssetError(f"There is no MakeHuman data folder {folder}.", hint=SOURCES)
    data = folder / "data" if (folder / "data").is_dir() else folder
    missing = [pattern for pattern in _NEEDED if next(data.glob(pattern), None) is None]
    if not (data / "targets.npz").is_file() and not (data / "targets" / "macrodetails").is_dir():
        missing.append("targets/**/*.target")
    if missing:
        raise AssetError(f"The MakeHuman data folder {data} lacks {', '.join(missing)}.", hint=SOURCES)
    return Assets(data)


@dataclass(frozen=True)
class Obj:
    """A mesh in decimetres: `positions` (v, 3), `uvs` (u, 2) with the origin bottom left.

    `faces` maps a group to lists of corners (position index, uv index).
    """

    positions: np.ndarray
    uvs: np.ndarray
    faces: Mapping[str, list[list[tuple[int, int]]]]

    @property
    def all_faces(self) -> list[list[tuple[int, int]]]:
        return [face for group in self.faces.values() for face in group]


@dataclass(frozen=True)
class Fitting:
    """How a proxy (hair, eyes, …) hangs on the base mesh.

    Vertex i lies at Σ_j weights[i, j]·base[indices[i, j]] + offsets[i]·scale; `scales` maps an axis (0-2) to two base
    vertices and the distance along the axis at which the scale is 1.
    """

    indices: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    scales: Mapping[int, tuple[int, int, float]]


@dataclass(frozen=True)
class Target:
    """A morph target: base vertex `indices` (k,) move by `deltas` (k, 3), in decimetres."""

    indices: np.ndarray
    deltas: np.ndarray


class Assets:
    """The folder `data` of MakeHuman. Everything is read on first use."""

    def __init__(self, data: Path):
        self.data = data

    @cached_property
    def base(self) -> Obj:
        return read_obj(self.data / "3dobjs/base.obj")

    @cached_property
    def targets(self) -> Mapping[str, Target]:
        """By path below `targets`, without suffix: `nose/nose-hump-incr`."""
        packed = self.data / "targets.npz"
        if packed.is_file():
            with np.load(packed) as archive:
                if _PACKED_KEYS <= set(archive.files):
                    starts = archive["ptr"]
                    indices, deltas = archive["idx"].astype(np.int64), archive["dxyz"].astype(np.float32)
                    return {
                        str(name): Target(indices[start:end], deltas[start:end])
                        for name, start, end in zip(archive["names"], starts, starts[1:], strict=False)
                    }
        folder = self.data / "targets"
        files = sorted(folder.rglob("*.target"))
        return {file.relative_to(folder).with_suffix("").as_posix(): read_target(file) for file in files}

    @cached_property
    def skins(self) -> Mapping[tuple[str, str, str], list[Path]]:
        """(age, race, gender), e.g. (young, asian, female) → diffuse textures."""
        found: dict[tuple[str, str, str], list[Path]] = {}
        for folder in sorted((self.data / "skins").iterdir()):
            parts = folder.name.split("_")
            if len(parts) == 3 and (files := sorted(folder.glob("*.png"))):
                found[parts[0], parts[1], parts[2]] = files
        return found

    @cached_property
    def irises(self) -> Mapping[str, Path]:
        """Iris colour → texture of the eyeball."""
        files = sorted((self.data / "eyes/materials").glob("*_eye.png"))
        return {file.name.removesuffix("_eye.png"): file for file in files}

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits over names and sizes of all files: which assets pictures were made from."""
        files = sorted(file for file in self.data.rglob("*") if file.is_file())
        listing = "".join(f"{file.relative_to(self.data).as_posix()} {file.stat().st_size}\n" for file in files)
        return hashlib.sha256(listing.encode()).hexdigest()[:16]

    def names(self, kind: str) -> list[str]:
        """The proxies of a kind (`hair`, `eyebrows`, `eyelashes`), sorted."""
        return sorted(file.parent.name for file in (self.data / kind).glob("*/*.mhclo"))

    def proxy(self, kind: str, name: str) -> tuple[Obj, Fitting]:
        folder = self.data / kind / name
        return read_obj(folder / f"{name}.obj"), read_fitting(folder / f"{name}.mhclo")

    def texture(self, kind: str, name: str) -> Path:
        """The diffuse texture of a proxy. Raises AssetError where there is none."""
        files = sorted((self.data / kind / name).glob("*.png"))
        if not files:
            raise AssetError(f"The MakeHuman data folder {self.data} lacks {kind}/{name}/*.png.", hint=SOURCES)
        return files[0]


def read_picture(path: Path, size: int | None = None) -> np.ndarray:
    """(h, w, 4) float32 RGBA in [0, 1], bottom row first as uv coordinates count; at most `size` on a side.

    Raises AssetError for a file that is no picture, such as the pointer that git-lfs leaves.
    """
    try:
        picture = Image.open(path).convert("RGBA")
    except OSError:
        raise AssetError(
            f"{path} is not a picture.", hint="Where it is a git-lfs pointer, run `git lfs pull` in its repository."
        ) from None
    if size is not None and max(picture.size) > size:
        picture = picture.resize((min(size, picture.width), min(size, picture.height)), Image.Resampling.LANCZOS)
    return np.asarray(picture, np.float32)[::-1] / 255


def read_obj(path: Path) -> Obj:
    positions: list[list[float]] = []
    uvs: list[list[float]] = []
    faces: dict[str, list[list[tuple[int, int]]]] = {}
    group = "default"
    for line in _lines(path):
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            positions.append([float(word) for word in words[1:4]])
        elif words[0] == "vt":
            uvs.append([float(word) for word in words[1:3]])
        elif words[0] == "g":
            group = words[1] if len(words) > 1 else "default"
        elif words[0] == "f":
            corners = [word.split("/") for word in words[1:]]
            faces.setdefault(group, []).append([(int(c[0]) - 1, int(c[1]) - 1) for c in corners])
    return Obj(np.array(positions, np.float32), np.array(uvs, np.float32), faces)


def read_fitting(path: Path) -> Fitting:
    indices: list[list[int]] = []
    weights: list[list[float]] = []
    offsets: list[list[float]] = []
    scales: dict[int, tuple[int, int, float]] = {}
    listing = False
    for line in _lines(path):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if scale := re.fullmatch(r"([xyz])_scale", words[0]):
            scales["xyz".index(scale[1])] = (int(words[1]), int(words[2]), float(words[3]))
        elif words[0] == "verts":
            listing = True
        elif not words[0].isdigit():
            listing = listing and words[0] not in ("delete_verts", "weights", "vertexboneweights_file")
        elif listing and len(words) == 1:  # exactly that base vertex
            indices.append([int(words[0])] * 3)
            weights.append([1.0, 0.0, 0.0])
            offsets.append([0.0, 0.0, 0.0])
        elif listing and len(words) >= 9:
            indices.append([int(word) for word in words[:3]])
            weights.append([float(word) for word in words[3:6]])
            offsets.append([float(word) for word in words[6:9]])
    return Fitting(np.array(indices), np.array(weights, np.float32), np.array(offsets, np.float32), scales)


def read_target(path: Path) -> Target:
    rows = [line.split() for line in _lines(path) if line[:1].isdigit()]
    return Target(
        np.array([int(row[0]) for row in rows], np.int64),
        np.array([[float(word) for word in row[1:4]] for row in rows], np.float32).reshape(-1, 3),
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise AssetError(f"Cannot read {path}: {error.strerror}.", hint=SOURCES) from None
