"""The rows that flow between stages as JSONL, checked on reading. Knows nothing of how a row is made.

A row holds no dates, timings or machine paths; pictures are named relative to the folder of their `metadata.jsonl`.
"""

import json
import os
import sys
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from facesyn.demographics import AgeInterval, Cell
from facesyn.errors import FacesynError, RecordError

METADATA = "metadata.jsonl"


def _inside(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or not path:
        raise ValueError("must be a relative path that stays inside its folder")
    return path


def _age_interval(text: str) -> str:
    try:
        return str(AgeInterval.parse(text))
    except FacesynError as error:
        raise ValueError(str(error)) from error


InsidePath = Annotated[str, AfterValidator(_inside)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Row(BaseModel):
    """Unknown keys are kept, so that a later stage hands on what an earlier or foreign one wrote."""

    model_config = ConfigDict(extra="allow", frozen=True)


class PromptRow(Row):
    """p_i: one identity to be generated."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
    ethnicity: Annotated[str, Field(min_length=1)]
    gender: Annotated[str, Field(min_length=1)]
    age_interval: Annotated[str, AfterValidator(_age_interval)]
    prompt: Annotated[str, Field(min_length=1)]
    negative_prompt: str = ""
    seed: Seed

    @property
    def cell(self) -> Cell:
        return Cell(self.ethnicity, self.gender, AgeInterval.parse(self.age_interval))


class PictureRow(Row):
    """A picture of a folder, relative to its `metadata.jsonl`."""

    file_name: InsidePath


class FaceRow(PictureRow, PromptRow):
    """F_ij: a generated source face; what `facesyn generate` writes."""

    edge_map: str
    face_seed: Seed
    attempt: int = 0
    generator: dict[str, Any]
    gates: dict[str, float] | None = None
    """What the gates measured, where there were any."""


class TransferRow(PictureRow):
    """I_t: a face carried into a style; what `facesyn transfer` writes.

    `identity` is the source's id; similarities are cosines between embeddings of the face encoder named in `encoder`.
    """

    identity: str
    source: str
    reference: str
    transfer_seed: Seed
    transferred: list[str]
    source_similarity: float | None = None
    reference_similarity: float | None = None
    transfer: dict[str, Any]
    attempt: int | None = None
    gates: dict[str, float] | None = None
    rejected_by: list[str] | None = None
    """The gates that refused it, or would have: a picture of an exact pair is there all the same."""


class RenderedRow(PictureRow):
    """A picture of the 3D head; what `facesyn references render` writes, with many more labels as extra fields.

    `landmarks`: five (x, y) in pixels. `style` is -1 for portraits, which source faces look like.
    """

    identity: str
    style: int
    gender: str
    landmarks: list[tuple[float, float]]
    render: dict[str, Any]


class EdgeRow(PictureRow):
    """An edge map of a bank; what `facesyn references edges` writes. `source` is the picture it was taken from."""

    source: str
    edges: dict[str, Any]


class PairRow(Row):
    """An exact pairing asked of `facesyn transfer --pairs`; source and reference are relative to the file's folder."""

    source: Annotated[str, Field(min_length=1)]
    reference: Annotated[str, Field(min_length=1)]
    output: InsidePath


RowType = TypeVar("RowType", bound=Row)
PictureType = TypeVar("PictureType", bound=PictureRow)


def parse_rows(lines: Iterable[str], kind: type[RowType], name: str) -> Iterator[RowType]:
    """Rows of `kind` from JSONL lines; blank lines are skipped. Raises RecordError naming `name` and the line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield kind.model_validate(json.loads(line))
        except json.JSONDecodeError as error:
            raise RecordError(f"{name}, line {number}: not valid JSON ({error.msg} at column {error.colno}).") from None
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "row"
            raise RecordError(f"{name}, line {number}: {key}: {first['msg'].removeprefix('Value error, ')}.") from None


def read_rows(path: Path | str, kind: type[RowType]) -> list[RowType]:
    """All rows of a JSONL file, `-` for standard input. Raises RecordError, also for a file missing or not UTF-8."""
    if str(path) == "-":
        return list(parse_rows(sys.stdin, kind, "standard input"))
    try:
        with open(path, encoding="utf-8") as file:
            return list(parse_rows(file, kind, str(path)))
    except OSError as error:
        raise RecordError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise RecordError(f"{path} is not UTF-8 text.", hint="Rows are written one JSON object per line.") from None


class RowFile(Generic[RowType]):
    """A JSONL file read by the numbers of its lines, holding none: for files larger than what is asked of them."""

    def __init__(self, path: Path, kind: type[RowType]):
        self.path, self.kind = path, kind
        with open(path, "rb") as file:
            self._starts = array("Q", accumulate((len(line) for line in file), initial=0))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def read(self, lines: range) -> list[RowType]:
        """The rows on consecutive `lines`, counted from 0. Raises RecordError for a malformed one."""
        with open(self.path, "rb") as file:
            file.seek(self._starts[lines.start])
            data = file.read(self._starts[lines.stop] - self._starts[lines.start])
        return list(parse_rows(data.decode("utf-8").split("\n"), self.kind, str(self.path)))


def stream_rows(path: Path, kind: type[RowType]) -> Iterator[RowType]:
    """As `read_rows`, of a file that is there, one row at a time."""
    with open(path, encoding="utf-8") as file:
        yield from parse_rows(file, kind, str(path))


def format_row(row: Row) -> str:
    """One line of JSON, keys in field order, with its newline. Fields that are None are left out."""
    return json.dumps(row.model_dump(exclude_none=True), ensure_ascii=False) + "\n"


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a JSONL file whole or not at all (temporary file, fsync, rename)."""
    write_bytes(path, "".join(map(format_row, rows)).encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all (temporary file in the same folder, fsync, rename)."""
    write_parts(path, [data])


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """As `write_bytes`, a part at a time: for files larger than should be held in memory."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
