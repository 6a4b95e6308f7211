"""WebDataset: tar shards in which the members of a sample are neighbours: NUMBER.png, NUMBER.cls, NUMBER.json.

NUMBER is the sample's place in the dataset it was written from: shards are shuffled across identities, since trainers
read them front to back, and a reader here gives the first order back. Tars made elsewhere, with other keys, are read
in their own order. Writing needs room for the pictures twice while it lasts: a shuffle of what does not fit into memory
goes over the disk.
"""

import io
import json
import struct
import tarfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from facesyn.errors import DatasetError
from facesyn.formats.samples import (
    IDENTITY_KEYS,
    Fields,
    Layout,
    Reader,
    Sample,
    identity_of,
    picture_suffix,
    read_classes,
    row_text,
    rows_of,
    survey,
    write_classes,
)
from facesyn.imaging import SUFFIXES
from facesyn.seeds import derive_seed

_SPOOL = ".spool"
_HEAD = struct.Struct("<IIQ")
_BLOCK = 512


class WebDatasetReader(Reader):
    """Samples of all tars of `folder`; an index of 24 bytes each is all that is held."""

    format = "webdataset"

    def __init__(self, folder: Path):
        self.folder = folder
        self._shards = sorted(folder.glob("*.tar"))
        self._index = _index(self._shards)
        classes = read_classes(folder)
        self.classes = survey(self.rows(), str(folder))[0] if classes is None else classes
        self._labels = {identity: label for label, identity in enumerate(self.classes)}

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[Sample]:
        for row, label, data in self._members():
            identity = identity_of(row, str(self.folder))
            yield Sample(row, self._labels.get(identity, -1) if label is None else label, data)

    def rows(self) -> Iterator[Fields]:
        return (row for row, _, _ in self._members())

    def _members(self) -> Iterator[tuple[Fields, int | None, bytes]]:
        """Row, label where there is one, and picture of every sample."""
        for number, start, end in self._index:
            shard = self._shards[int(number)]
            with open(shard, "rb") as file:
                file.seek(int(start))
                region = file.read(int(end - start))
            yield _sample(region, shard)


def _sample(region: bytes, shard: Path) -> tuple[Fields, int | None, bytes]:
    """A sample from the part of a tar that holds its members."""
    parts: dict[str, bytes] = {}
    key = ""
    with tarfile.open(fileobj=io.BytesIO(region), mode="r:") as tar:
        for member in tar:
            if (content := tar.extractfile(member)) is not None:
                key, suffix = _split(member.name)
                parts[suffix] = content.read()
    pictures = [suffix for suffix in parts if f".{suffix}" in SUFFIXES]
    if len(pictures) != 1:
        raise DatasetError(f"{shard}: sample {key} has {len(pictures)} pictures, not one.")
    try:
        row = json.loads(parts.get("json", b"{}"))
        label = int(parts["cls"]) if "cls" in parts else None
    except ValueError:
        raise DatasetError(f"{shard}: sample {key} has labels that cannot be read.") from None
    if not isinstance(row, dict):
        raise DatasetError(f"{shard}: sample {key} has a JSON member that is no object.")
    if "file_name" not in row:
        row = {"file_name": f"{key}.{pictures[0]}"} | row
    if label is not None and not any(row.get(name) is not None for name in IDENTITY_KEYS):
        row["identity"] = str(label)
        label = None  # the identities are numbered by name, as everywhere
    return next(rows_of([json.dumps(row)], f"{shard}, sample {key}")), label, parts[pictures[0]]


def _split(name: str) -> tuple[str, str]:
    """Key and extension of a member: the extension begins at the first dot of the last part of its name."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix.lower()


def _index(shards: list[Path]) -> np.ndarray:
    """(n, 3) int64: shard, begin and end of every sample, in the order of the keys where all of them are numbers."""
    places, numbers = array("q"), array("q")
    numbered = True
    for shard, path in enumerate(shards):
        before = None
        try:
            with tarfile.open(path, "r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined] # or it remembers each one
                    key = _split(member.name)[0]
                    end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                    if not member.isfile():
                        continue
                    if key != before:
                        places.extend((shard, member.offset, end))
                        numbered = numbered and key.isdecimal() and len(key) < 19
                        numbers.append(int(key) if numbered else 0)
                        before = key
                    places[-1] = end
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DatasetError(f"{path} is damaged: {error}.") from None
    index = np.frombuffer(places, dtype=np.int64).reshape(-1, 3)
    if numbered:
        index = index[np.argsort(np.frombuffer(numbers, dtype=np.int64), kind="stable")]
    return index


def write_webdataset(folder: Path, source: Reader, layout: Layout) -> None:
    """Write `source` as `train-000000.tar` … of at most `layout.shard_bytes`, or of one sample.

    The order follows from `layout.seed` and the file names alone; so do, with fixed times and owners, the bytes.
    """
    spool = folder / _SPOOL
    keys, starts = array("q"), array("q")
    with open(spool, "w+b") as file:
        for sample in source:
            keys.append(derive_seed(layout.seed, "shuffle", sample.file_name))
            starts.append(file.tell())
            row, data = row_text(sample.row).encode(), sample.data
            file.write(_HEAD.pack(sample.label, len(row), len(data)) + row + data)
        order = np.argsort(np.frombuffer(keys, dtype=np.int64), kind="stable")
        shards = _Shards(folder, layout.shard_bytes)
        try:
            for number in order:
                file.seek(starts[int(number)])
                shards.add(int(number), *_spooled(file))
        finally:
            shards.close()
    spool.unlink()
    write_classes(folder, source.classes)


def _spooled(file: IO[bytes]) -> tuple[int, bytes, bytes]:
    label, row, data = _HEAD.unpack(file.read(_HEAD.size))
    return label, file.read(row), file.read(data)


class _Shards:
    """Appends samples to tars, beginning a new one where the next would outgrow the limit."""

    def __init__(self, folder: Path, limit: int):
        self._folder, self._limit = folder, limit
        self._number = 0
        self._tar: tarfile.TarFile | None = None

    def add(self, number: int, label: int, row: bytes, data: bytes) -> None:
        suffix = picture_suffix(json.loads(row)["file_name"]).removeprefix(".")
        members = ((suffix, data), ("cls", str(label).encode()), ("json", row))
        size = sum(_BLOCK + -(-len(content) // _BLOCK) * _BLOCK for _, content in members)
        if self._tar is not None and self._tar.offset + size + tarfile.RECORDSIZE > self._limit:
            self.close()
        if self._tar is None:
            path = self._folder / f"train-{self._number:06d}.tar"
            self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)
            self._number += 1
        for extension, content in members:
            info = tarfile.TarInfo(f"{number:09d}.{extension}")  # time 0, owner 0, no names
            info.size = len(content)
            self._tar.addfile(info, io.BytesIO(content))
        self._tar.members.clear()  # type: ignore[attr-defined]

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._tar = None
