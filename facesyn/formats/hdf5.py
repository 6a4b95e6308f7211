"""HDF5: one file of encoded pictures, labels, names and rows. Holds a block of samples at a time.

`images` (n,) variable-length uint8, the encoded pictures · `labels` (n,) int64 · `names` (n,) and `metadata` (n,)
UTF-8, file names and rows as JSON · `classes` (identities,) UTF-8.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from facesyn.errors import DatasetError
from facesyn.formats.samples import Fields, Layout, Reader, Sample, row_text, rows_of

FILE = "dataset.h5"
_BLOCK = 64
_COLUMNS = ("images", "labels", "names", "metadata")


class Hdf5Reader(Reader):
    """Samples of `dataset.h5` in `folder`."""

    format = "hdf5"

    def __init__(self, folder: Path):
        self.path = folder / FILE
        with self._open() as file:
            missing = [name for name in (*_COLUMNS, "classes") if name not in file]
            if missing:
                raise DatasetError(f"{self.path} has no dataset {missing[0]!r}.")
            self.classes = [str(each) for each in file["classes"].asstr()[:]]
            lengths = {name: len(file[name]) for name in _COLUMNS}
            self._count = lengths["images"]
        if len(set(lengths.values())) > 1:
            raise DatasetError(f"{self.path} has datasets of different lengths: {lengths}.")

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sample]:
        with self._open() as file:
            for start in range(0, self._count, _BLOCK):
                part = slice(start, start + _BLOCK)
                images, labels = file["images"][part], file["labels"][part]
                names, texts = file["names"].asstr()[part], file["metadata"].asstr()[part]
                rows = rows_of(texts, f"{self.path}, block at {start}")
                for name, row, label, image in zip(names, rows, labels, images, strict=True):
                    if row["file_name"] != name:
                        raise DatasetError(f"{self.path}: {name} has the row of {row['file_name']}.")
                    yield Sample(row, int(label), image.tobytes())

    def rows(self) -> Iterator[Fields]:
        with self._open() as file:
            for start in range(0, self._count, _BLOCK):
                texts = file["metadata"].asstr()[start : start + _BLOCK]
                yield from rows_of(texts, f"{self.path}, block at {start}")

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            with h5py.File(self.path, "r") as file:
                yield file
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # h5py's, by where the damage is
            raise DatasetError(f"{self.path} is damaged: {error}.") from None


def write_hdf5(folder: Path, source: Reader, layout: Layout) -> None:
    """Write `source` as `dataset.h5`."""
    count = len(source)
    text = h5py.string_dtype()
    kinds = {"images": h5py.vlen_dtype(np.uint8), "labels": np.dtype(np.int64), "names": text, "metadata": text}
    with _Disk(folder / FILE) as disk, h5py.File(disk, "w", track_order=False) as file:
        file.create_dataset("classes", data=np.array(source.classes, dtype=object), dtype=text)
        for name, kind in kinds.items():
            file.create_dataset(name, (count,), kind, chunks=(min(count, _BLOCK),))
        samples = iter(source)
        for start in range(0, count, _BLOCK):
            block = list(islice(samples, _BLOCK))
            part = slice(start, start + len(block))
            for at, sample in enumerate(block, start):  # one by one: h5py takes several of one length for a matrix
                file["images"][at] = np.frombuffer(sample.data, dtype=np.uint8)
            file["labels"][part] = [sample.label for sample in block]
            file["names"][part] = [sample.file_name for sample in block]
            file["metadata"][part] = [row_text(sample.row) for sample in block]
            if disk.refused:
                break


class _Disk(io.FileIO):
    """A new file that takes everything, even when the disk does not, and raises the disk's OSError when left.

    The HDF5 library crashes where it cannot write what it still holds in memory, also while it closes a file.
    """

    def __init__(self, path: Path):
        super().__init__(path, "w+")
        self.refused: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data)
        try:
            while left and not self.refused:
                left = left[super().write(left) or 0 :]
        except OSError as error:
            self.refused = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.refused = self.refused or error
            return size or 0

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        if self.refused:
            raise self.refused
