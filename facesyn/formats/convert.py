"""`facesyn dataset convert`: a dataset from one format into another, whole or not at all. Decodes no picture.

The new dataset grows in a hidden folder beside its place and is moved there when all of it is on the disk.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from facesyn.errors import DatasetError, UsageError
from facesyn.formats.manifest import Content, Manifest, write_manifest
from facesyn.formats.registry import Format, named, open_dataset
from facesyn.formats.samples import Fields, Layout, Reader, Sample, check_label
from facesyn.out import Advance, out
from facesyn.records import METADATA

Images = Literal["images", "aligned"]


def pictures_of(source: Path, target: Format, images: Images | None) -> Path:
    """The folder to read: `source`, or of a build its `images`, or its `aligned` copies where these are wanted.

    RecordIO takes the aligned ones by itself where there are any. Raises UsageError where what is asked for is missing.
    """
    if not (source / "recipe.toml").is_file():
        if images is not None:
            raise UsageError(f"{source} is no run folder of 'facesyn dataset build': --images has no meaning there.")
        return source
    if images is None:
        aligned = target.name == "recordio" and (source / "aligned" / METADATA).is_file()
        images = "aligned" if aligned else "images"
    if not (source / images / METADATA).is_file():
        finish = "Finish it first: facesyn dataset build."
        raise UsageError(f"{source} has no {images}.", hint=finish if images == "images" else "Take --images images.")
    return source / images


def convert(
    source: Path, target: Path, to: str, images: Images | None = None, layout: Layout | None = None
) -> Manifest:
    """Write the dataset `source` into the new folder `target` in the format `to`; returns what is in it.

    Raises UsageError, DatasetError, BackendError or OSError; `target` is then as it was.
    """
    format = named(to)
    _check_place(target)
    reader = open_dataset(pictures_of(source, format, images))
    with _work_folder(target) as work, out.progress("convert", len(reader)) as advance:
        passage = _Passage(reader, source, advance)
        format.write(work, passage, layout or Layout())
        manifest = passage.content.manifest(format.name)
        if manifest.images != len(reader):
            raise DatasetError(f"{source} holds {manifest.images} pictures and says it holds {len(reader)}.")
        write_manifest(work, manifest)
    return manifest


class _Passage(Reader):
    """Hands samples on, counting them and refusing those whose label is not that of their identity."""

    def __init__(self, reader: Reader, place: Path, advance: Advance):
        self.format, self.classes = reader.format, reader.classes
        self.content = Content()
        self._reader, self._place, self._advance = reader, place, advance

    def __len__(self) -> int:
        return len(self._reader)

    def __iter__(self) -> Iterator[Sample]:
        for sample in self._reader:
            check_label(sample, self.classes, str(self._place))
            self.content.add(sample)
            yield sample
            self._advance()

    def rows(self) -> Iterator[Fields]:
        return self._reader.rows()


def _check_place(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists and is not an empty folder.", hint="Give a new folder.")


@contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` that becomes it, unless something is raised. Holds a lock: one writer per target."""
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f".{target.name}.converting")
    work.mkdir(exist_ok=True)
    lock = os.open(work, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"Another conversion into {target} is running.", hint="Wait for it.") from None
        try:
            _clear(work)  # of a conversion that was killed
            yield work
            os.sync()  # all of it at once: a hundred thousand files one by one would take minutes
            os.rename(work, target)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    finally:
        os.close(lock)


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
