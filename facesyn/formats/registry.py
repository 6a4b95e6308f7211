"""The formats by name, and which one a folder is in. Imports a format's library only when that format is used."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facesyn.errors import BackendError, DatasetError, UsageError
from facesyn.formats.samples import Layout, Reader


@dataclass(frozen=True)
class Format:
    """Where a format's reader and writer are, and what they need beside facesyn's own dependencies."""

    name: str
    reader: str
    writer: str
    needs: str | None = None

    def open(self, folder: Path) -> Reader:
        """Raises BackendError where the format's library is missing, DatasetError where the dataset is damaged."""
        reader: Reader = self._load(self.reader)(folder)
        return reader

    def write(self, folder: Path, source: Reader, layout: Layout) -> None:
        """Write all of `source` into an empty folder. Raises BackendError and DatasetError."""
        self._load(self.writer)(folder, source, layout)

    def _load(self, name: str) -> Any:
        if self.needs and importlib.util.find_spec(self.needs) is None:
            raise BackendError(
                f"The {self.name} format needs {self.needs}, which is not installed.",
                hint="pip install 'facesyn[formats]'",
            )
        return getattr(importlib.import_module(f"facesyn.formats.{self.name}"), name)


FORMATS = {
    each.name: each
    for each in (
        Format("imagefolder", "ImageFolderReader", "write_imagefolder"),
        Format("webdataset", "WebDatasetReader", "write_webdataset"),
        Format("parquet", "ParquetReader", "write_parquet", needs="pyarrow"),
        Format("recordio", "RecordIOReader", "write_recordio"),
        Format("hdf5", "Hdf5Reader", "write_hdf5", needs="h5py"),
    )
}

# What a folder holds, the surest sign first: a folder with records may hold a metadata.jsonl as well.
_SIGNS: tuple[tuple[str, Callable[[Path], bool]], ...] = (
    ("recordio", lambda folder: (folder / "train.rec").is_file()),
    ("webdataset", lambda folder: any(folder.glob("*.tar"))),
    ("parquet", lambda folder: any(folder.glob("data/*.parquet")) or any(folder.glob("*.parquet"))),
    ("hdf5", lambda folder: (folder / "dataset.h5").is_file()),
    ("imagefolder", lambda folder: (folder / "metadata.jsonl").is_file()),
)


def named(name: str) -> Format:
    """The format of that name. Raises UsageError where there is none."""
    if name not in FORMATS:
        raise UsageError(f"There is no format {name}.", hint=f"Formats: {', '.join(FORMATS)}.")
    return FORMATS[name]


def detect(folder: Path) -> Format:
    """The format `folder` is in. Raises UsageError where it is none, or no folder."""
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    for name, sign in _SIGNS:
        if sign(folder):
            return FORMATS[name]
    from facesyn.formats.imagefolder import has_subfolders

    if has_subfolders(folder):
        return FORMATS["imagefolder"]
    raise UsageError(
        f"{folder} is no dataset that facesyn reads.",
        hint=f"It reads {', '.join(FORMATS)}, and folders of 'facesyn dataset build'.",
    )


def open_dataset(folder: Path) -> Reader:
    """The dataset in `folder`, whatever its format. Raises DatasetError also where it holds no picture."""
    reader = detect(folder).open(folder)
    if not len(reader):
        raise DatasetError(f"{folder} holds no pictures.")
    return reader
