"""What a written dataset says of itself: `manifest.json`, counts and a digest; `SHA256SUMS`, a hash of every file.

`SHA256SUMS` is what `sha256sum --check` reads. The digest is over rows, labels and pictures in their order, and so the
same in every format. Knows no format.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facesyn.errors import DatasetError
from facesyn.formats.samples import Sample, row_text

MANIFEST, SUMS = "manifest.json", "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64})  ((?!/)[^\0\n]+)\n")


class Manifest(BaseModel):
    """What is in a dataset; `content` is the digest of `Content`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str
    images: int = Field(ge=0)
    identities: int = Field(ge=0)
    content: str = Field(pattern="^sha256:[0-9a-f]{64}$")


class Content:
    """Counts samples and digests them, one by one."""

    def __init__(self) -> None:
        self._total = hashlib.sha256()
        self._labels: set[int] = set()
        self._images = 0

    def add(self, sample: Sample) -> None:
        row = row_text(sample.row).encode()
        self._total.update(f"{sample.label} {len(row)} {len(sample.data)}\n".encode() + row)
        self._total.update(sample.data)
        self._labels.add(sample.label)
        self._images += 1

    def manifest(self, format: str) -> Manifest:
        digest = f"sha256:{self._total.hexdigest()}"
        return Manifest(format=format, images=self._images, identities=len(self._labels), content=digest)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write both files; hashes are of what is on disk."""
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    with open(folder / SUMS, "w", encoding="utf-8", newline="\n") as sums:
        for name in files_of(folder):
            if name != SUMS:
                sums.write(f"{file_hash(folder / name)}  {name}\n")


def read_manifest(folder: Path) -> Manifest:
    """Raises DatasetError where it is missing or not a manifest."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"Cannot read {path}: {error.strerror}.") from None
    except ValidationError:
        raise DatasetError(f"{path} is not a manifest of facesyn.") from None


def read_sums(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and hash of every file listed. Raises DatasetError at a line that is damaged or leads out of the folder."""
    path = folder / SUMS
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, 1):
            found = _LINE.fullmatch(line)
            if found is None or ".." in found[2].split("/"):
                raise DatasetError(f"{path}, line {number}: not a hash and a file of this folder.")
            yield found[2], found[1]


def files_of(folder: Path, inside: str = "") -> Iterator[str]:
    """The files below `folder` by their names relative to it, in order, one folder at a time; hidden ones are not."""
    with os.scandir(folder / inside) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in found:
        if name.startswith("."):
            continue
        if is_folder:
            yield from files_of(folder, f"{inside}{name}/")
        else:
            yield inside + name


def file_hash(path: Path) -> str:
    """SHA-256 in hex. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
