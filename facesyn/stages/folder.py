"""The output folder of one stage: pictures, and a `metadata.jsonl` with a row for each. Makes none of them itself.

A picture is written whole, then its row is appended: a stage killed anywhere goes on with the first picture that has
no row. A folder made with other settings is refused, never mixed.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic

from facesyn.errors import RecordError, RunError
from facesyn.marking import Made, model_of
from facesyn.records import (
    METADATA,
    FaceRow,
    PictureRow,
    PictureType,
    TransferRow,
    format_row,
    parse_rows,
    write_bytes,
    write_rows,
)

if TYPE_CHECKING:
    from PIL.Image import Image


class StageFolder(Generic[PictureType]):
    """`measured` are the fields of a row that are only known once the picture is there.

    `source` is the IPTC digital source type that pictures are marked with; see `facesyn.imaging.encode_png`.
    """

    def __init__(
        self,
        folder: Path,
        kind: type[PictureType],
        measured: Sequence[str] = (),
        source: str = "trainedAlgorithmicMedia",
    ):
        self.folder = folder
        self._source = source
        self.metadata = folder / METADATA
        self._measured = set(measured)
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder} is a file, not a folder.", hint="Choose another output folder.")
        self.done: dict[str, PictureType] = {}
        if self.metadata.exists():
            self.done = {row.file_name: row for row in self._read(kind)}
        elif folder.exists() and any(folder.iterdir()):
            raise RunError(f"{folder} is not empty and holds no {METADATA}.", hint="Choose an empty output folder.")

    def _read(self, kind: type[PictureType]) -> list[PictureType]:
        text = self.metadata.read_text(encoding="utf-8")
        whole, _, torn = text.rpartition("\n")
        rows = list(parse_rows(whole.splitlines(), kind, str(self.metadata)))
        if torn:  # a row that was being written when the stage was killed
            write_rows(self.metadata, rows)
        return rows

    def begin(self) -> None:
        """Make the folder, where there is none, and an empty `metadata.jsonl`: by it the stage knows its own again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.metadata.touch()

    def missing(self, rows: Sequence[PictureType]) -> list[PictureType]:
        """The rows still to be made, in order. Raises RunError where a finished picture was made otherwise."""
        left = []
        for row in rows:
            before = self.done.get(row.file_name)
            if before is None:
                left.append(row)
            elif changed := self._differences(before, row):
                raise RunError(
                    f"{self.folder / row.file_name} was made with another {' and '.join(changed)}.",
                    hint="Choose another output folder, or repeat the settings it was made with.",
                )
        return left

    def _differences(self, before: PictureType, now: PictureType) -> list[str]:
        old, new = (row.model_dump(exclude_none=True, exclude=self._measured) for row in (before, now))
        return [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]

    def add(self, row: PictureType, picture: "Image") -> None:
        """Write a picture, then its row."""
        from facesyn.imaging import encode_png

        path = self.folder / row.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, encode_png(picture, self._source, _made(row)))
        with open(self.metadata, "a", encoding="utf-8") as file:
            file.write(format_row(row))
            file.flush()
            os.fsync(file.fileno())
        self.done[row.file_name] = row


def _made(row: PictureRow) -> Made | None:
    """What the picture's file says of how it was made."""
    if isinstance(row, FaceRow):
        return Made(row.id, row.face_seed, model_of(row.generator))
    if isinstance(row, TransferRow):
        return Made(row.identity, row.transfer_seed, model_of(row.transfer))
    return None


def check_unique(names: Sequence[str], what: str) -> None:
    """Raises RecordError where a name occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise RecordError(f"The {what} {name!r} occurs twice.", hint=f"Give every row its own {what}.")
        seen.add(name)
