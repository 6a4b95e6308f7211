"""Parquet as Hugging Face lays it out: `data/train-00000-of-00003.parquet`, for `datasets` an Image and a ClassLabel.

Columns: `image` {bytes, path}, `label`, one for every key of the rows that holds one kind of value throughout, and
`row`, the whole row as JSON: what a table cannot say (a key left out rather than empty, mixed kinds) is kept there,
and that is what is read back. Tables made elsewhere have no `row`; theirs is made of their columns.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from facesyn.errors import DatasetError
from facesyn.formats.samples import (
    IDENTITY_KEYS,
    Fields,
    Layout,
    Reader,
    Sample,
    row_text,
    rows_of,
    suffix_by_content,
)

DATA = "data"
IMAGE, LABEL, ROW = "image", "label", "row"
_GROUP_ROWS = 500
_GROUP_BYTES = 16_000_000
_BATCH = 64
_INFERRED = 1000
"""Rows looked at together when the kinds of their values are found out."""


class ParquetReader(Reader):
    """The rows of all tables of `folder`, some at a time."""

    format = "parquet"

    def __init__(self, folder: Path):
        self.folder = folder
        self._files = _files(folder)
        self._count = 0
        names: list[str] | None = None
        for path in self._files:
            with _opened(path) as table:
                self._count += table.metadata.num_rows
                names = names or _class_names(table.schema_arrow)
                if not {IMAGE, LABEL} <= set(table.schema_arrow.names):
                    raise DatasetError(f"{path} has no columns 'image' and 'label'.")
                self._whole = ROW in table.schema_arrow.names
        self._named = names is not None
        self.classes = names if names is not None else self._numbers()
        self._labels = {identity: label for label, identity in enumerate(self.classes)}

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sample]:
        number = 0
        for path, block in self._blocks(None):
            for values in block:
                image, label = values.pop(IMAGE), values.pop(LABEL)
                place = f"{path}, row {number}"
                if not image or not image.get("bytes"):
                    raise DatasetError(f"{place} holds no picture.")
                if self._whole:
                    row = next(rows_of([values[ROW]], place))
                else:
                    row = self._foreign(values, image, label, number, place)
                yield Sample(row, label if self._named else self._labels[str(label)], image["bytes"])
                number += 1

    def rows(self) -> Iterator[Fields]:
        if not self._whole:
            yield from super().rows()
            return
        for path, block in self._blocks([ROW]):
            yield from rows_of((values[ROW] for values in block), str(path))

    def _foreign(self, values: Fields, image: Fields, label: int, number: int, place: str) -> Fields:
        identity = self.classes[label] if self._named and 0 <= label < len(self.classes) else str(label)
        name = Path(image.get("path") or "").name
        file_name = f"{identity}/{number:08d}{Path(name).suffix or suffix_by_content(image['bytes'], place)}"
        # What else a table calls an identity is not what its label says.
        row = {key: value for key, value in values.items() if key not in (*IDENTITY_KEYS, "file_name")}
        return next(rows_of([json.dumps({"file_name": file_name, "identity": identity} | row, default=str)], place))

    def _numbers(self) -> list[str]:
        found = {values[LABEL] for _, block in self._blocks([LABEL]) for values in block}
        return [str(each) for each in sorted(found)]

    def _blocks(self, columns: list[str] | None) -> Iterator[tuple[Path, list[Fields]]]:
        for path in self._files:
            with _opened(path) as table:
                try:
                    for group in range(table.num_row_groups):  # asked for all at once, pyarrow holds all of them
                        for batch in table.iter_batches(_BATCH, row_groups=[group], columns=columns):
                            yield path, batch.to_pylist()
                except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                    raise DatasetError(f"{path} is damaged: {error}.") from None


def _files(folder: Path) -> list[Path]:
    return sorted((folder / DATA).glob("*.parquet")) or sorted(folder.glob("*.parquet"))


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path} is damaged: {error}.") from None


def _class_names(schema: pa.Schema) -> list[str] | None:
    """The names of the labels, where the schema says them the way `datasets` does."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        return [str(each) for each in info["info"]["features"][LABEL]["names"]]
    except (KeyError, TypeError, ValueError):
        return None


def write_parquet(folder: Path, source: Reader, layout: Layout) -> None:
    """Write `source` as tables of about `layout.shard_bytes` of pictures. The rows are gone through once before."""
    columns = _columns(source.rows())
    schema = _schema(columns, source)
    (folder / DATA).mkdir()
    tables = _Tables(folder / DATA, schema, layout.shard_bytes)
    try:
        samples = iter(source)
        while block := list(islice(samples, _BATCH)):
            tables.add(block)
        tables.close()
    except BaseException:
        tables.abandon()
        raise
    for number in range(tables.count):
        tables.path(number).rename(folder / DATA / f"train-{number:05d}-of-{tables.count:05d}.parquet")


def _columns(rows: Iterator[Fields]) -> dict[str, pa.DataType]:
    """Key → type, of the keys whose values are of one kind; whole numbers among fractions are fractions."""
    found: dict[str, pa.DataType | None] = {}
    while block := list(islice(rows, _INFERRED)):
        for key in dict.fromkeys(key for row in block for key in row):
            before = found.get(key, pa.null())
            found[key] = None if before is None else _unified(before, [row.get(key) for row in block])
    return {
        key: kind
        for key, kind in found.items()
        if key not in (IMAGE, LABEL, ROW) and kind is not None and not _empty(kind)
    }


def _unified(before: pa.DataType, values: list[Any]) -> pa.DataType | None:
    try:
        schemas = [pa.schema([("", kind)]) for kind in (before, pa.array(values).type)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowException, OverflowError):
        return None


def _empty(kind: pa.DataType) -> bool:
    """Whether nothing can be told in a type: no value was ever seen there."""
    if pa.types.is_list(kind):
        return _empty(kind.value_type)
    if pa.types.is_struct(kind):
        return kind.num_fields == 0 or any(_empty(field.type) for field in kind)
    return bool(pa.types.is_null(kind))


def _schema(columns: dict[str, pa.DataType], source: Reader) -> pa.Schema:
    features = {IMAGE: {"_type": "Image"}, LABEL: {"names": list(source.classes), "_type": "ClassLabel"}}
    fields = [
        pa.field(IMAGE, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        pa.field(LABEL, pa.int64()),
        *(pa.field(key, kind) for key, kind in columns.items()),
        pa.field(ROW, pa.string()),
    ]
    told = json.dumps({"info": {"features": features}}, ensure_ascii=False)
    return pa.schema(fields, metadata={"huggingface": told})


class _Tables:
    """Appends samples to tables, beginning a new one where the last is full. Row groups are small: they are held."""

    def __init__(self, folder: Path, schema: pa.Schema, limit: int):
        self._folder, self._schema, self._limit = folder, schema, limit
        self._columns = [name for name in schema.names if name not in (IMAGE, LABEL, ROW)]
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[Sample] = []
        self._waiting_bytes = self._written = 0
        self.count = 0

    def path(self, number: int) -> Path:
        """Where a table stands until their number is known."""
        return self._folder / f".{number:05d}"

    def add(self, samples: list[Sample]) -> None:
        for sample in samples:
            size = len(sample.data)
            if self._waiting and self._written + self._waiting_bytes + size > self._limit:
                self.close()
            self._waiting.append(sample)
            self._waiting_bytes += size
            if len(self._waiting) >= _GROUP_ROWS or self._waiting_bytes >= _GROUP_BYTES:
                self._flush()

    def close(self) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()
        self._writer, self._written = None, 0

    def abandon(self) -> None:
        """Let go of a table that cannot be finished; what is still said of that hides what went wrong."""
        if self._writer is not None:
            with suppress(pa.ArrowException, OSError):
                self._writer.close()
            self._writer.is_open = False  # or it tries again when it is collected

    def _flush(self) -> None:
        if not self._waiting:
            return
        if self._writer is None:
            # Pictures are compressed already, and never the same; the other columns repeat themselves.
            self._writer = pq.ParquetWriter(
                self.path(self.count),
                self._schema,
                compression={name: "zstd" for name in self._schema.names if name != IMAGE} | {"image.bytes": "none"},
                use_dictionary=self._columns,
                write_statistics=False,
            )
            self.count += 1
        self._writer.write_table(self._table())
        self._written += self._waiting_bytes
        self._waiting, self._waiting_bytes = [], 0

    def _table(self) -> pa.Table:
        samples = self._waiting
        values: dict[str, list[Any]] = {
            IMAGE: [{"bytes": sample.data, "path": sample.file_name} for sample in samples],
            LABEL: [sample.label for sample in samples],
            ROW: [row_text(sample.row) for sample in samples],
        }
        values |= {key: [sample.row.get(key) for sample in samples] for key in self._columns}
        return pa.table([pa.array(values[field.name], field.type) for field in self._schema], schema=self._schema)
