"""ImageFolder: pictures in folders, one row each in `metadata.jsonl`. What `datasets` calls imagefolder.

A folder without rows is read too where it has one subfolder of pictures per identity.
"""

from collections.abc import Iterator
from pathlib import Path

from facesyn.errors import DatasetError
from facesyn.formats.samples import (
    Fields,
    Layout,
    Reader,
    Sample,
    identity_of,
    picture_suffix,
    read_classes,
    read_rows_lazily,
    row_text,
    survey,
    write_classes,
)
from facesyn.imaging import SUFFIXES
from facesyn.records import METADATA


class ImageFolderReader(Reader):
    """Pictures of `folder`, in the order of its rows, or by name where it has none."""

    format = "imagefolder"

    def __init__(self, folder: Path):
        self.folder = folder
        self._labelled = (folder / METADATA).is_file()
        self._place = str(folder / METADATA if self._labelled else folder)
        found, self._count = survey(self.rows(), self._place)
        self.classes = read_classes(folder) or found
        self._labels = {identity: label for label, identity in enumerate(self.classes)}

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sample]:
        return map(self.sample, self.rows())

    def sample(self, row: Fields) -> Sample:
        """The sample of one of the rows. Raises DatasetError where its picture cannot be read."""
        name, identity = row["file_name"], identity_of(row, self._place)
        if identity not in self._labels:
            raise DatasetError(f"{self.folder} lists no identity {identity}, whose {name} is.")
        try:
            return Sample(row, self._labels[identity], (self.folder / name).read_bytes())
        except OSError as error:
            raise DatasetError(f"Cannot read {self.folder / name}: {error.strerror}.") from None

    def rows(self) -> Iterator[Fields]:
        return read_rows_lazily(self.folder / METADATA) if self._labelled else _in_subfolders(self.folder)


def _in_subfolders(folder: Path) -> Iterator[Fields]:
    for person in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for path in sorted(person.iterdir()):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield {"file_name": f"{person.name}/{path.name}", "identity": person.name}


def has_subfolders(folder: Path) -> bool:
    """Whether `folder` is read without rows."""
    return next(_in_subfolders(folder), None) is not None


def write_imagefolder(folder: Path, source: Reader, layout: Layout) -> None:
    """Write `source` as pictures under their own names, with `metadata.jsonl` and the identities by label."""
    made: set[str] = set()
    with open(folder / METADATA, "w", encoding="utf-8", newline="\n") as rows:
        for sample in source:
            picture_suffix(sample.file_name)
            path = folder / sample.file_name
            if path.parent.as_posix() not in made:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.add(path.parent.as_posix())
            try:
                with open(path, "xb") as file:
                    file.write(sample.data)
            except FileExistsError:
                raise DatasetError(f"Two pictures are named {sample.file_name}.") from None
            rows.write(row_text(sample.row) + "\n")
    write_classes(folder, source.classes)
