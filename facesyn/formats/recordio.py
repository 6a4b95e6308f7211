"""RecordIO as face recognition trains from it: `train.rec`, `train.idx`, `train.lst`, `property`. Needs no mxnet.

Each record is: magic, a word of a 3-bit part flag and a 29-bit length, the content, padding to 4 bytes. The content is
a header (flag, label, id, id2: `IfQQ`), `flag` further float32 labels, then the encoded picture. Where a content holds
the magic at a multiple of 4 bytes, it is written in parts there, and the magic itself is left out. Record 0 has no
picture: its two labels say where pictures end (record 1 up to there) and where the dataset ends; insightface's
arcface_torch reads the first. `train.idx` says at which byte a record begins, `train.lst` what number, label and name
each picture has, `property` is `identities,height,width`.

Rows have no place in a record, so they stand beside it in `metadata.jsonl`, line by line in the order of the records.
A `train.rec` made elsewhere is read without: names are then made of label and number.
"""

import io
import struct
from array import array
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from facesyn.errors import DatasetError
from facesyn.formats.samples import (
    Fields,
    Layout,
    Reader,
    Sample,
    read_classes,
    read_rows_lazily,
    row_text,
    suffix_by_content,
    survey,
    write_classes,
)
from facesyn.records import METADATA

RECORDS, INDEX, LIST, PROPERTY = "train.rec", "train.idx", "train.lst", "property"

_MAGIC = struct.pack("<I", 0xCED7230A)
_WORD = struct.Struct("<I")
_HEADER = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_LENGTH_BITS = 29
EXACT = 2**24
"""Labels are float32, which counts no further than this."""
_GAP = 1_000_000
"""How many numbers an index may leave out in a row; more is damage, not a dataset."""


class RecordIOReader(Reader):
    """The pictures of `train.rec` in the order of their numbers; eight bytes each are held."""

    format = "recordio"

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / RECORDS
        self._offsets = _read_index(folder / INDEX)
        with self._open() as file:
            flag, labels, _ = _unpack(_read_record(file, max(self._offsets[0], 0), self.path), self.path)
        # Without a first record that says so, every record is a picture.
        first, end = (1, int(labels[0])) if flag > 0 else (int(self._offsets[0] < 0), len(self._offsets))
        self._numbers = range(first, end)
        self._has_rows = (folder / METADATA).is_file()
        classes = read_classes(folder)
        self.classes = survey(self.rows(), str(folder))[0] if classes is None else classes
        self._labels = {identity: label for label, identity in enumerate(self.classes)}

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Sample]:
        if not self._has_rows:
            for row, data in self._unnamed():
                yield Sample(row, self._labels[row["identity"]], data)
            return
        for row, picture in zip_longest(self.rows(), self._pictures()):
            if row is None or picture is None:
                lacking = "fewer" if row is None else "more"
                raise DatasetError(f"{self.folder / METADATA} has {lacking} rows than {self.path} has pictures.")
            yield Sample(row, *picture)

    def rows(self) -> Iterator[Fields]:
        if self._has_rows:
            return read_rows_lazily(self.folder / METADATA)
        return (row for row, _ in self._unnamed())

    def _unnamed(self) -> Iterator[tuple[Fields, bytes]]:
        for number, (label, data) in zip(self._numbers, self._pictures(), strict=True):
            suffix = suffix_by_content(data, f"{self.path}, record {number}")
            yield {"file_name": f"{label:07d}/{number:08d}{suffix}", "identity": f"{label:07d}"}, data

    def _pictures(self) -> Iterator[tuple[int, bytes]]:
        with self._open() as file:
            for number in self._numbers:
                if number >= len(self._offsets) or self._offsets[number] < 0:
                    raise DatasetError(f"{self.folder / INDEX} does not list record {number}.")
                _, labels, data = _unpack(_read_record(file, self._offsets[number], self.path), self.path)
                yield int(labels[0]), data

    def _open(self) -> IO[bytes]:
        try:
            return open(self.path, "rb")
        except OSError as error:
            raise DatasetError(f"Cannot read {self.path}: {error.strerror}.") from None


def _read_index(path: Path) -> "array[int]":
    """Byte offset of every record by its number; -1 where a number is left out."""
    offsets = array("q")
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                number, offset = map(int, line.split())
                if not 0 <= number <= len(offsets) + _GAP or offset < 0:
                    raise ValueError(f"record {number} is out of order")
                offsets.extend([-1] * (number + 1 - len(offsets)))
                offsets[number] = offset
    except OSError as error:
        raise DatasetError(f"Cannot read {path}: {error.strerror}.") from None
    except ValueError as error:
        raise DatasetError(f"{path} is no index of records: {error}.") from None
    if not offsets:
        raise DatasetError(f"{path} lists no record.")
    return offsets


def _read_record(file: IO[bytes], offset: int, path: Path) -> bytes:
    """The content of the record at `offset`, its parts joined by the magic that was left out between them."""
    file.seek(offset)
    parts: list[bytes] = []
    while True:
        head = file.read(8)
        if len(head) < 8 or head[:4] != _MAGIC:
            raise DatasetError(f"{path} is damaged: no record at byte {offset}.")
        word = _WORD.unpack(head[4:])[0]
        part, length = word >> _LENGTH_BITS, word & (1 << _LENGTH_BITS) - 1
        content = file.read(length)
        if len(content) < length or (part in (_WHOLE, _FIRST)) != (not parts):
            raise DatasetError(f"{path} is damaged: the record at byte {offset} is cut off.")
        file.seek(-length % 4, 1)
        parts.append(content)
        if part in (_WHOLE, _LAST):
            return _MAGIC.join(parts)


def _unpack(content: bytes, path: Path) -> tuple[int, tuple[float, ...], bytes]:
    """Flag, labels and picture of a record."""
    if len(content) < _HEADER.size:
        raise DatasetError(f"{path} holds a record of {len(content)} bytes, too few for its header.")
    flag, label, _, _ = _HEADER.unpack_from(content)
    end = _HEADER.size + 4 * flag
    if len(content) < end:
        raise DatasetError(f"{path} holds a record of {len(content)} bytes, too few for its {flag} labels.")
    labels = struct.unpack_from(f"<{flag}f", content, _HEADER.size) if flag else (label,)
    return flag, labels, content[end:]


def write_recordio(folder: Path, source: Reader, layout: Layout) -> None:
    """Write `source` as records 1 to n. Raises DatasetError where there are more than float32 can number."""
    count = len(source)
    if max(count + 1, len(source.classes)) >= EXACT:
        raise DatasetError(
            f"{count:,} pictures of {len(source.classes):,} identities are more than RecordIO can number.",
            hint=f"Its labels are float32, exact up to {EXACT:,}: split the dataset, or use another format.",
        )
    size = ""
    with (
        open(folder / RECORDS, "wb") as records,
        open(folder / INDEX, "w", encoding="ascii", newline="\n") as index,
        open(folder / LIST, "w", encoding="utf-8", newline="\n") as listing,
        open(folder / METADATA, "w", encoding="utf-8", newline="\n") as rows,
    ):
        ends = struct.pack("<2f", count + 1, count + 1)
        index.write("0\t0\n")
        _write_record(records, _HEADER.pack(2, 0, 0, 0) + ends)
        for number, sample in enumerate(source, 1):
            size = size or _size(sample)
            index.write(f"{number}\t{records.tell()}\n")
            listing.write(f"{number}\t{sample.label:.6f}\t{sample.file_name}\n")
            rows.write(row_text(sample.row) + "\n")
            _write_record(records, _HEADER.pack(0, sample.label, number, 0) + sample.data)
    (folder / PROPERTY).write_text(f"{len(source.classes)},{size}\n", encoding="ascii")
    write_classes(folder, source.classes)


def _write_record(file: IO[bytes], content: bytes) -> None:
    """Append a record, in parts where the content holds the magic at a multiple of 4 bytes."""
    if len(content) >= 1 << _LENGTH_BITS:
        raise DatasetError(f"A picture of {len(content):,} bytes is too large for RecordIO.")
    parts: list[bytes] = []
    start = at = 0
    while (at := content.find(_MAGIC, at)) >= 0:
        if at % 4:
            at += 1
            continue
        parts.append(content[start:at])
        start = at = at + 4
    parts.append(content[start:])
    for number, part in enumerate(parts):
        kind = _WHOLE if len(parts) == 1 else _FIRST if number == 0 else _LAST if number == len(parts) - 1 else _MIDDLE
        file.write(_MAGIC + _WORD.pack(kind << _LENGTH_BITS | len(part)) + part + b"\0" * (-len(part) % 4))


def _size(sample: Sample) -> str:
    """Height and width of a picture, as `property` gives them."""
    try:
        with Image.open(io.BytesIO(sample.data)) as picture:
            return f"{picture.height},{picture.width}"
    except UnidentifiedImageError:
        raise DatasetError(f"{sample.file_name} is not a picture.") from None
