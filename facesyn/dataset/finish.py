"""The sum of finished shards: rows of the whole dataset, shortfalls, contact sheet. Makes no face.

Rows are handed through, never held: there may be millions.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facesyn.dataset.plan import PlanRow, segments
from facesyn.dataset.recipe import Recipe
from facesyn.dataset.rounds import Candidate, round_files
from facesyn.dataset.run_folder import ALIGNED_ROWS, IMAGE_ROWS, REJECTED_ROWS, SOURCE_ROWS, RunFolder
from facesyn.dataset.shard import ImageRow, RejectedRow, SourceRow
from facesyn.demographics import AgeInterval, Cell
from facesyn.records import Row, format_row, read_rows, stream_rows, write_bytes, write_parts, write_rows


class Shortfall(Row):
    """A cell that the gates left with fewer people or images than were asked for."""

    ethnicity: str
    gender: str
    age_interval: str
    identities: int
    identities_asked: int
    images: int
    images_asked: int

    def __str__(self) -> str:
        return (
            f"{self.ethnicity} / {self.gender} / {self.age_interval}: {self.identities} of {self.identities_asked} "
            f"people, {self.images} of {self.images_asked} images"
        )


@dataclass(frozen=True)
class Built:
    """What a build made; `images` and `identities` of the whole dataset."""

    identities: int
    images: int
    shards_made: int
    shortfalls: list[Shortfall]


def finish(folder: RunFolder, recipe: Recipe, plan: Sequence[PlanRow]) -> None:
    """Write what is told of the dataset as a whole, from its shards."""
    from facesyn.dataset.sheet import dataset_sheet
    from facesyn.imaging import encode_png

    shards = range(segments(recipe)[-1].shards.stop)

    def joined(name: str) -> Iterator[bytes]:
        return ((folder.shard(shard) / name).read_bytes() for shard in shards)

    write_parts(folder.metadata, joined(IMAGE_ROWS))
    write_parts(folder.source_rows, joined(SOURCE_ROWS))
    if recipe.output.aligned:
        write_parts(folder.aligned_metadata, joined(ALIGNED_ROWS))
    if recipe.gates.enabled:
        write_parts(folder.rejected, _chained(_rejected_sources(folder), joined(REJECTED_ROWS)))
        write_rows(folder.shortfalls, _shortfalls(folder, plan))
    write_bytes(folder.sheet, encode_png(dataset_sheet(folder, recipe, plan)))


def is_finished(folder: RunFolder, recipe: Recipe) -> bool:
    """Whether `finish` was called once all shards were made."""
    return all(file.is_file() for file in _summaries(folder, recipe))


def unfinish(folder: RunFolder, recipe: Recipe) -> None:
    """Take back what `finish` wrote: more shards are to come."""
    for file in _summaries(folder, recipe):
        file.unlink(missing_ok=True)


def _summaries(folder: RunFolder, recipe: Recipe) -> list[Path]:
    aligned = [folder.aligned_metadata] if recipe.output.aligned else []
    return [folder.metadata, folder.source_rows, *aligned, folder.sheet]


def count(folder: RunFolder, recipe: Recipe, made: int) -> Built:
    """What a finished dataset holds."""
    if not recipe.gates.enabled:
        return Built(recipe.identities, recipe.image_total, made, [])
    shortfalls = read_rows(folder.shortfalls, Shortfall)
    return Built(_lines(folder.source_rows), _lines(folder.metadata), made, shortfalls)


def _lines(file: Path) -> int:
    with open(file, "rb") as lines:
        return sum(1 for _ in lines)


def _chained(rows: Iterable[Row], parts: Iterable[bytes]) -> Iterator[bytes]:
    yield from (format_row(row).encode() for row in rows)
    yield from parts


def _rejected_sources(folder: RunFolder) -> Iterator[RejectedRow]:
    return (
        RejectedRow(
            stage="generate",
            identity=row.id,
            attempt=row.attempt,
            seed=row.face_seed,
            gates=row.gates,
            rejected_by=row.rejected_by,
            nearest=row.nearest or None,
        )
        for file in round_files(folder)
        for row in stream_rows(file, Candidate)
        if row.rejected_by
    )


def _shortfalls(folder: RunFolder, plan: Sequence[PlanRow]) -> list[Shortfall]:
    """The cells that did not get what the plan asks for, in the plan's order."""
    sources = {row.identity for row in stream_rows(folder.source_rows, SourceRow)}
    images = Counter(row.identity for row in stream_rows(folder.metadata, ImageRow))
    cells: dict[Cell, list[PlanRow]] = {}
    for row in plan:
        cells.setdefault(Cell(row.ethnicity, row.gender, AgeInterval.parse(row.age_interval)), []).append(row)
    found = [
        Shortfall(
            ethnicity=cell.ethnicity,
            gender=cell.gender,
            age_interval=str(cell.age_interval),
            identities=sum(row.id in sources for row in rows),
            identities_asked=len(rows),
            images=sum(images[row.id] for row in rows),
            images_asked=sum(len(row.references) for row in rows),
        )
        for cell, rows in cells.items()
    ]
    return [row for row in found if row.images < row.images_asked or row.identities < row.identities_asked]
