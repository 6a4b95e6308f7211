"""What a labelled picture is in every format, and the promise of a reader. Knows no format.

A sample is an encoded picture, which nobody decodes, and the row of metadata that came with it. Rows are plain
dicts, so that what a format carries is what was put in: no key is added, dropped or retyped.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from facesyn.errors import DatasetError
from facesyn.imaging import SUFFIXES
from facesyn.records import PictureRow, parse_rows

CLASSES = "classes.json"
"""The identities in the order of their labels, as a JSON array; in formats that have no place of their own for it."""

_MAGIC = ((b"\x89PNG\r\n\x1a\n", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"BM", ".bmp"))
IDENTITY_KEYS = ("identity", "id", "label")

Fields = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """`data` is the encoded picture, `row` its metadata with `file_name`; `label` the number of its identity."""

    row: Fields
    label: int
    data: bytes

    @property
    def file_name(self) -> str:
        return str(self.row["file_name"])


@dataclass(frozen=True)
class Layout:
    """What a writer may be told: bytes after which a new shard is begun, and the seed samples are shuffled by."""

    shard_bytes: int = 1_000_000_000
    seed: int = 0


class Reader(ABC):
    """A dataset on disk, gone through in its order as often as wanted, in memory that does not grow with it.

    `classes[label]` is an identity; `len` the number of pictures. All methods raise DatasetError or RecordError where
    the dataset is damaged.
    """

    format: str
    classes: Sequence[str]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Sample]: ...

    def rows(self) -> Iterator[Fields]:
        """The rows alone, in the same order."""
        return (sample.row for sample in self)


def identity_of(row: Fields, place: str) -> str:
    """Whose picture a row describes. Raises DatasetError, naming `place`, where it does not say."""
    for key in IDENTITY_KEYS:
        if row.get(key) is not None:
            return str(row[key])
    raise DatasetError(f"{place} does not say whose {row['file_name']} is: no key 'identity'.")


def check_label(sample: Sample, classes: Sequence[str], place: str) -> None:
    """Raises DatasetError, naming `place`, where the label of a sample is not that of the identity in its row."""
    identity = identity_of(sample.row, place)
    if not 0 <= sample.label < len(classes):
        raise DatasetError(f"{place}: {sample.file_name} has the label {sample.label}, of {len(classes)} identities.")
    if classes[sample.label] != identity:
        said = classes[sample.label]
        raise DatasetError(f"{place}: the label of {sample.file_name} says {said!r}, its row {identity!r}.")


def rows_of(lines: Iterable[str], place: str) -> Iterator[Fields]:
    """Rows from JSON lines, each naming a picture inside its folder. Raises RecordError naming `place`."""
    return (row.model_dump() for row in parse_rows(lines, PictureRow, place))


def read_rows_lazily(path: Path) -> Iterator[Fields]:
    """Rows of a `metadata.jsonl`, one at a time. Raises DatasetError where it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            yield from rows_of(file, str(path))
    except OSError as error:
        raise DatasetError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{path} is not UTF-8 text.") from None


def row_text(row: Fields) -> str:
    """A row as one line of JSON, without the newline; `null` stays, since it was there."""
    return json.dumps(row, ensure_ascii=False)


def survey(rows: Iterable[Fields], place: str) -> tuple[list[str], int]:
    """The identities of `rows`, sorted, and the number of rows."""
    seen: set[str] = set()
    count = 0
    for row in rows:
        seen.add(identity_of(row, place))
        count += 1
    return sorted(seen), count


def read_classes(folder: Path) -> list[str] | None:
    """The identities by label; None where the folder does not list them."""
    path = folder / CLASSES
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise DatasetError(f"{path} is no JSON array of identities.")
    return found


def write_classes(folder: Path, classes: Sequence[str]) -> None:
    (folder / CLASSES).write_text(json.dumps(list(classes), ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def picture_suffix(name: str) -> str:
    """The suffix of a picture's name, in lower case. Raises DatasetError where it is none of a picture."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise DatasetError(f"{name} is not named like a PNG, JPEG, WebP or BMP picture.")
    return suffix


def suffix_by_content(data: bytes, place: str) -> str:
    """The suffix a picture should have, by its first bytes. Raises DatasetError naming `place`."""
    for magic, suffix in _MAGIC:
        if data.startswith(magic):
            return suffix
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    raise DatasetError(f"{place} is not a PNG, JPEG, WebP or BMP picture.")
