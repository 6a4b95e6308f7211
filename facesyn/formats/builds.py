"""Checks a run folder of `facesyn dataset build`: markers of its shards, rows, pictures, counts. Changes nothing.

A marker is one hash over all files of a shard: it tells that something changed. What changed is then looked for in
that shard: files that are missing, pictures that do not decode or whose checksums fail, rows that differ from those
of the whole. Where that finds nothing, the shard is named.
"""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from facesyn.dataset.plan import PlanRow
from facesyn.dataset.run_folder import IMAGE_ROWS, SOURCE_ROWS, RunFolder
from facesyn.errors import FacesynError
from facesyn.formats.findings import Findings, picture_problem
from facesyn.formats.manifest import files_of
from facesyn.formats.samples import Fields, read_rows_lazily
from facesyn.labelled import CELL
from facesyn.out import out
from facesyn.records import METADATA, read_rows


def verify_build(path: Path) -> Findings:
    """Raises UsageError where the plan cannot be read."""
    folder, found = RunFolder(path), Findings("run folder")
    plan = {row.id: row for row in read_rows(folder.plan, PlanRow)}
    shards = sorted({row.shard for row in plan.values()})
    with out.progress("verify", len(shards)) as advance:
        for shard in shards:
            _verify_shard(folder, shard, plan, found)
            advance()
    whole = ((folder.metadata, IMAGE_ROWS), (folder.source_rows, SOURCE_ROWS))
    for joined, part in whole:
        _verify_rows(folder, joined, [folder.shard(shard) / part for shard in shards], found)
    _verify_pictures(folder, plan, found)
    if (path / "aligned" / METADATA).is_file():
        _verify_aligned(folder, found)
    return found


def _verify_shard(folder: RunFolder, shard: int, plan: dict[str, PlanRow], found: Findings) -> None:
    place = folder.shard(shard)
    if not (place / "DONE").is_file():
        found.add(_name(folder, place / "DONE"), "is missing: the shard was not finished")
        return
    try:
        people = [row["identity"] for row in read_rows_lazily(place / SOURCE_ROWS)]
        images = [row["file_name"] for row in read_rows_lazily(place / IMAGE_ROWS)]
    except (FacesynError, KeyError) as error:
        found.add(_name(folder, place), f"has rows that cannot be read: {error}")
        return
    found.files += len(images) + len(people) + 2
    for person in people:
        if person not in plan or plan[person].shard != shard:
            found.add(_name(folder, place / SOURCE_ROWS), f"holds {person}, who is not of this shard")
    try:
        if folder.is_done(shard, people):
            return
    except OSError as error:
        found.add(_name(folder, Path(error.filename)), f"cannot be read: {error.strerror}")
    before = len(found.bad)
    for picture in [folder.images / name for name in images] + [folder.sources / f"{person}.png" for person in people]:
        if problem := _problem(picture):
            found.add(_name(folder, picture), problem)
    for person in people:
        listed = {name for name in images if name.startswith(f"{person}/")}
        for name in files_of(folder.images, f"{person}/") if (folder.images / person).is_dir() else ():
            if name not in listed:
                found.add(_name(folder, folder.images / name), "has no row")
    if len(found.bad) == before:
        found.add(_name(folder, place / "DONE"), "is of other rows or pictures than are there")


def _problem(picture: Path) -> str | None:
    try:
        return picture_problem(picture.read_bytes())
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _verify_rows(folder: RunFolder, joined: Path, parts: list[Path], found: Findings) -> None:
    """The rows of the whole are those of its shards, one after the other."""

    def of_shards() -> Iterator[tuple[Path, Fields]]:
        for part in parts:
            if part.is_file():
                yield from ((part, row) for row in read_rows_lazily(part))

    try:
        for number, (row, other) in enumerate(zip_longest(read_rows_lazily(joined), of_shards()), 1):
            if other is None:
                found.add(_name(folder, joined), f"has a row more than the shards: line {number}")
                return
            if row != other[1]:
                where = _name(folder, other[0])
                said = "is cut off" if row is None else f"says other than {where} of {other[1]['file_name']}"
                found.add(_name(folder, joined), f"{said}, line {number}")
                if row is None or row["file_name"] != other[1]["file_name"]:
                    return  # from here on every line would differ
    except FacesynError as error:
        found.add(_name(folder, joined), str(error))


def _verify_pictures(folder: RunFolder, plan: dict[str, PlanRow], found: Findings) -> None:
    """Every row has a picture, is of someone in the plan, and says what the plan says of them."""
    people = set()
    try:
        for row in read_rows_lazily(folder.metadata):
            found.images += 1
            people.add(row.get("identity"))
            planned = plan.get(str(row.get("identity")))
            if planned is None or not row["file_name"].startswith(f"{planned.id}/"):
                found.add(f"images/{row['file_name']}", f"is labelled {row.get('identity')!r}, who is not in its place")
            elif any(row.get(key) != getattr(planned, key) for key in CELL):
                found.add(f"images/{row['file_name']}", "is labelled with another cell than the plan's")
            if not (folder.images / row["file_name"]).is_file():
                found.add(f"images/{row['file_name']}", "is missing")
    except FacesynError as error:
        found.add(_name(folder, folder.metadata), str(error))
    found.identities = len(people)


def _verify_aligned(folder: RunFolder, found: Findings) -> None:
    """Aligned copies carry the names and identities of their images."""
    aligned = folder.path / "aligned"
    try:
        identities = {row["file_name"]: row.get("identity") for row in read_rows_lazily(folder.metadata)}
        for row in read_rows_lazily(aligned / METADATA):
            name = row["file_name"]
            if identities.get(name) != row.get("identity") or name not in identities:
                found.add(f"aligned/{name}", "has no image of that name and identity")
            if problem := _problem(aligned / name):
                found.add(f"aligned/{name}", problem)
    except FacesynError as error:
        found.add(_name(folder, aligned / METADATA), str(error))


def _name(folder: RunFolder, file: Path) -> str:
    return file.relative_to(folder.path).as_posix() if file.is_relative_to(folder.path) else str(file)
