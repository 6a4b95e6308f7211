"""Pictures of known people, from any folder that says who is who. Knows nothing of encoders or of how pictures are
made.

Four layouts are read: a dataset of `facesyn dataset build`, a folder whose `metadata.jsonl` names identities, a
folder with one subfolder of pictures per identity, and a folder of WebDataset shards of rendered faces.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facesyn.errors import ImageError, UsageError
from facesyn.imaging import SUFFIXES, load_image
from facesyn.records import METADATA, PictureRow, read_rows
from facesyn.rendered import PORTRAITS, REFERENCE_STYLE, RenderedFaces, read_shards

CELL = ("ethnicity", "gender", "age_interval")


def asked_of(row: Any) -> dict[str, str]:
    """Attribute → category that a row of a prompt, plan or face says was asked for."""
    return {key: str(getattr(row, key)) for key in CELL}


def categories_of(labels: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What occurs in `labels`, under the names a classifier takes categories by; none where none are labelled."""
    known, plural = list(labels), zip(("ethnicities", "genders", "age_intervals"), CELL, strict=True)
    found = {name: sorted({str(label[key]) for label in known if label.get(key)}) for name, key in plural}
    return {name: values for name, values in found.items() if values}


@dataclass(frozen=True)
class LabelledFaces:
    """`identities[i]` is who picture i shows, `labels[i]` what else is known of it; `open(i)` decodes it."""

    names: list[str]
    identities: np.ndarray
    labels: list[dict[str, Any]]
    open: Callable[[int], Image.Image] = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def cells(self) -> np.ndarray | None:
        """(n,) the demographic cell of every picture in words; None where one has none."""
        if not all(label.get(key) for label in self.labels for key in CELL):
            return None
        return np.array([" / ".join(str(label[key]) for key in CELL) for label in self.labels])

    @property
    def categories(self) -> dict[str, list[str]]:
        """See `categories_of`."""
        return categories_of(self.labels)

    @property
    def frontal(self) -> np.ndarray:
        """(n,) which pictures are known to be frontal and neutral: renders in the reference style."""
        return np.array([label.get("style") == REFERENCE_STYLE for label in self.labels], dtype=bool)

    def digest(self) -> str:
        """SHA-256 over whose every picture is and over its pixels: the same faces by whatever name."""
        total = hashlib.sha256()
        for index, identity in enumerate(self.identities):
            total.update(f"{identity}\0".encode() + self.open(index).tobytes())
        return total.hexdigest()

    def subset(self, indices: Sequence[int] | np.ndarray) -> "LabelledFaces":
        """The pictures at `indices`, in that order."""
        chosen = [int(index) for index in indices]
        return LabelledFaces(
            [self.names[index] for index in chosen],
            self.identities[chosen],
            [self.labels[index] for index in chosen],
            lambda index: self.open(chosen[index]),
        )

    def joined(self, other: "LabelledFaces") -> "LabelledFaces":
        """These faces, then those of `other`."""
        own = len(self)
        return LabelledFaces(
            self.names + other.names,
            np.concatenate([self.identities, other.identities]),
            self.labels + other.labels,
            lambda index: self.open(index) if index < own else other.open(index - own),
        )

    def equal_number(self, other: "LabelledFaces", seed: int = 0) -> "LabelledFaces":
        """As many people, with as many pictures each, as `other` has, drawn by `seed`; fewer where there are fewer."""
        rng = np.random.default_rng(seed)
        own, counts = self.members(), sorted(map(len, other.members().values()), reverse=True)
        drawn = rng.permutation(sorted(own))[: len(counts)]
        people = sorted(drawn, key=lambda name: -len(own[str(name)]))
        chosen = [rng.permutation(own[str(name)])[:count] for name, count in zip(people, counts, strict=False)]
        return self.subset(np.sort(np.concatenate(chosen)))

    def members(self) -> dict[str, list[int]]:
        """Identity → its pictures, both in the order they were read."""
        found: dict[str, list[int]] = {}
        for index, identity in enumerate(self.identities):
            found.setdefault(str(identity), []).append(index)
        return found


def read_labelled(folder: Path) -> LabelledFaces:
    """All pictures of `folder` with whose they are. Raises UsageError where it has none of the four layouts."""
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    for place in (folder / "images", folder):
        if (place / METADATA).is_file():
            return _from_rows(place)
    if any(folder.glob("*.tar")):
        return of_rendered(read_shards(folder))
    return _from_subfolders(folder)


def read_people(folder: Path) -> LabelledFaces:
    """The people of a folder, with their portraits where it is one of rendered references."""
    faces = read_labelled(folder)
    return faces.joined(read_labelled(folder / PORTRAITS)) if (folder / PORTRAITS).is_dir() else faces


def read_gallery(folder: Path) -> LabelledFaces:
    """As `read_labelled`; a bare folder of pictures is read too, each then its own identity."""
    flat = folder.is_dir() and not (folder / METADATA).is_file() and not any(folder.glob("*.tar"))
    pictures = [path for path in sorted(folder.iterdir()) if _is_picture(path)] if flat else []
    if pictures and not (folder / "images" / METADATA).is_file():
        return _from_files(folder, ((path, path.stem, {}) for path in pictures))
    return read_labelled(folder)


def _from_rows(folder: Path) -> LabelledFaces:
    files = []
    for row in read_rows(folder / METADATA, PictureRow):
        labels = dict(row.model_extra or {})
        identity = labels.get("identity", labels.get("id", labels.get("label")))
        if identity is None:
            raise UsageError(f"{folder / METADATA} does not say whose {row.file_name} is: no key 'identity'.")
        files.append((folder / row.file_name, str(identity), labels))
    return _from_files(folder, files)


def _from_subfolders(folder: Path) -> LabelledFaces:
    people = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    return _from_files(
        folder, ((path, person.name, {}) for person in people for path in sorted(person.iterdir()) if _is_picture(path))
    )


def _from_files(folder: Path, files: Iterable[tuple[Path, str, dict[str, Any]]]) -> LabelledFaces:
    found = list(files)
    if not found:
        raise UsageError(
            f"{folder} holds no pictures of known people.",
            hint="Give a facesyn dataset, a folder with one subfolder per person, or WebDataset shards.",
        )
    for path, _, _ in found:
        if not path.is_file():
            raise ImageError(f"{folder / METADATA} lists {path.name}, which is not there.")
    return LabelledFaces(
        [path.relative_to(folder).as_posix() for path, _, _ in found],
        np.array([identity for _, identity, _ in found]),
        [labels for _, _, labels in found],
        lambda index: load_image(found[index][0]),
    )


def of_rendered(faces: RenderedFaces) -> LabelledFaces:
    """Rendered faces in memory, as pictures of known people."""
    return LabelledFaces(
        [f"{label['identity']}_{label.get('image', index)}" for index, label in enumerate(faces.labels)],
        np.array([str(label["identity"]) for label in faces.labels]),
        faces.labels,
        lambda index: Image.fromarray(faces.images[index]),
    )


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()
