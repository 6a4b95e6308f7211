"""The marks of a built dataset's pictures agree with its rows."""

from pathlib import Path
from typing import Any

from facesyn.dataset.shard import ImageRow, SourceRow
from facesyn.marking import TRAINED, read_marks
from facesyn.records import read_rows


def test_a_built_dataset_tells_of_every_picture_how_it_was_made(finished: Path) -> None:
    rows: list[tuple[Path, str, Any]] = [
        (finished / "images" / row.file_name, row.identity, row.transfer_seed)
        for row in read_rows(finished / "images" / "metadata.jsonl", ImageRow)
    ]
    rows += [
        (finished / "sources" / row.file_name, row.identity, row.face_seed)
        for row in read_rows(finished / "sources" / "sources.jsonl", SourceRow)
    ]
    assert rows
    for path, identity, seed in rows:
        marks = read_marks(path)
        assert marks is not None and marks.source == TRAINED
        assert (marks.made.identity, marks.made.seed) == (identity, seed)
