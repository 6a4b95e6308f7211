"""The run folder of a build: layout, lock, shard markers, atomic writes. Knows not how pictures are made.

recipe.toml               the resolved recipe
prompts.jsonl             one prompt per identity
plan.jsonl                one row per identity: cell, shard, edge map, references, seeds
provenance.json           models, banks and versions, the same for every picture
shards/00003/             rows of a finished shard, and DONE: a hash over its rows and pictures
sources/ID.png            the source face of an identity, with sources.jsonl
images/ID/000.png …       the transferred images, with metadata.jsonl
aligned/ID/000.png …      the same in a recogniser's frame, with the same names and labels, where the recipe asks for it
rounds/, rejected.jsonl   what the gates said of sources, and of images that were not let in
shortfalls.jsonl          cells with fewer people or images than were asked for
contact-sheet.png
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facesyn.dataset.recipe import Recipe, differences, parse_recipe
from facesyn.errors import RunError, UsageError
from facesyn.records import METADATA, write_bytes

IMAGE_ROWS = "images.jsonl"
ALIGNED_ROWS = "aligned.jsonl"
SOURCE_ROWS = "sources.jsonl"
REJECTED_ROWS = "rejected.jsonl"
LOCK_PATIENCE = 5.0
"""Seconds to wait for the workers of a build that was killed a moment ago to be gone."""


class RunFolder:
    """Paths and state of one run folder; nothing is created before `begin`."""

    def __init__(self, path: Path):
        self.path = path
        self.recipe = path / "recipe.toml"
        self.prompts = path / "prompts.jsonl"
        self.plan = path / "plan.jsonl"
        self.provenance = path / "provenance.json"
        self.shards = path / "shards"
        self.sources = path / "sources"
        self.images = path / "images"
        self.aligned = path / "aligned"
        self.rounds = path / "rounds"
        self.sheet = path / "contact-sheet.png"

    @property
    def metadata(self) -> Path:
        return self.images / METADATA

    @property
    def aligned_metadata(self) -> Path:
        return self.aligned / METADATA

    @property
    def source_rows(self) -> Path:
        return self.sources / SOURCE_ROWS

    def shard(self, number: int) -> Path:
        return self.shards / f"{number:05d}"

    def candidates(self, attempt: int, number: int) -> Path:
        """Where the source faces of one attempt in one shard wait to be judged; see `facesyn.dataset.rounds`."""
        return self.path / "candidates" / f"{attempt:02d}-{number:05d}"

    def work(self, number: int) -> Path:
        """Where a shard is made before it is published."""
        return self.shards / f".{number:05d}"

    def check(self, recipe: Recipe) -> None:
        """Raises RunError where the folder holds anything but nothing, or a run of this very recipe."""
        if self.recipe.is_file():
            try:
                begun = parse_recipe(self.recipe.read_text(encoding="utf-8"), str(self.recipe))
            except UsageError as error:
                raise RunError(f"{self.path} is a run whose recipe cannot be read: {error}") from None
            changed = differences(begun.model_dump(), recipe.model_dump())
            if changed:
                raise RunError(
                    f"{self.path} was begun with another recipe; changed: {', '.join(changed)}.",
                    hint="Build into a new folder, or go back to the recipe it was begun with.",
                )
        elif self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file, not a folder.")
        elif self.path.is_dir() and not all(_before_recipe(file) for file in self.path.iterdir()):
            raise RunError(
                f"{self.path} is not empty and holds no run of facesyn.",
                hint="Give a new or an empty folder.",
            )

    def begin(self) -> None:
        """Create the folders, and clear away what a killed build left unfinished."""
        for folder in (self.shards, self.sources, self.images):
            folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.shards.glob(".[0-9]*"):
            shutil.rmtree(leftover)
        self.rounds.mkdir(exist_ok=True)
        for folder in (self.path, self.sources, self.images, self.aligned, self.rounds, *self.shards.iterdir()):
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one build and its workers, see `join`. Raises RunError where another has it.

        The operating system lets go of the lock when the last process that holds it ends, however it ends.
        """
        with self._lock_file() as lock:
            deadline = time.monotonic() + LOCK_PATIENCE
            while not _try_lock(lock, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise RunError(
                        f"Another build is running in {self.path}.",
                        hint="Wait for it, or build into another folder.",
                    )
                time.sleep(0.05)
            # Shared from here on: workers join, another build cannot.
            if not _try_lock(lock, fcntl.LOCK_SH):
                raise RunError(f"Another build is running in {self.path}.")
            yield

    def join(self) -> int:
        """Share the lock of the build this process works for, until it ends. Returns the open lock file."""
        lock = os.open(self.path / ".lock", os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_SH)
        return lock

    def pin(self, facts: Mapping[str, Any], *, whole: bool) -> None:
        """Raises RunError where `facts` contradict provenance.json; writes `whole` ones if it is missing."""
        facts = json.loads(json.dumps(facts))
        if self.provenance.is_file():
            before = json.loads(self.provenance.read_text(encoding="utf-8"))
            changed = differences({key: before.get(key) for key in facts}, facts)
            if changed:
                raise RunError(
                    f"{self.path} was begun with other models or banks; changed: {', '.join(changed)}.",
                    hint="Build into a new folder, or restore what it was begun with.",
                )
        elif whole:
            self.write_provenance(facts)

    def write_provenance(self, facts: Mapping[str, Any]) -> None:
        write_bytes(self.provenance, (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode())

    @property
    def rejected(self) -> Path:
        return self.path / "rejected.jsonl"

    @property
    def shortfalls(self) -> Path:
        return self.path / "shortfalls.jsonl"

    def publish(self, number: int, identities: Iterable[str]) -> None:
        """Move a shard's work into place, then mark it done. Whatever is killed in between is done again."""
        work, identities = self.work(number), list(identities)
        sync_files(work)
        kinds = [folder for folder in (self.images, self.aligned, self.sources) if (work / folder.name).is_dir()]
        for folder in kinds:
            folder.mkdir(exist_ok=True)
            for identity in identities:
                name = f"{identity}.png" if folder == self.sources else identity
                _replace(work / folder.name / name, folder / name)
            (work / folder.name).rmdir()
        _replace(work, self.shard(number))
        for folder in (*kinds, self.shards):
            _sync(folder)
        write_bytes(self.shard(number) / "DONE", self._marker(number, identities))

    def is_done(self, number: int, identities: Iterable[str]) -> bool:
        """Whether a shard is marked, and its rows and pictures are still those that were marked, by their hash."""
        try:
            return (self.shard(number) / "DONE").read_bytes() == self._marker(number, identities)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def looks_done(self, number: int, identities: Iterable[str]) -> bool:
        """As `is_done`, by the number of files and bytes alone: a hundred thousand pictures take seconds."""
        try:
            sizes = [file.stat().st_size for file in self._marked(number, identities)]
            return (self.shard(number) / "DONE").read_text().endswith(_count(len(sizes), sum(sizes)))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _marked(self, number: int, identities: Iterable[str]) -> list[Path]:
        """The files a marker speaks for."""
        aligned, rejected = self.shard(number) / ALIGNED_ROWS, self.shard(number) / REJECTED_ROWS
        files = [self.shard(number) / IMAGE_ROWS, self.shard(number) / SOURCE_ROWS]
        files += [file for file in (rejected, aligned) if file.is_file()]
        for identity in identities:
            files += [self.sources / f"{identity}.png", *sorted((self.images / identity).iterdir())]
            files += sorted((self.aligned / identity).iterdir()) if aligned.is_file() else []
        return files

    def _marker(self, number: int, identities: Iterable[str]) -> bytes:
        total, files, size = hashlib.sha256(), self._marked(number, identities), 0
        for file in files:
            content = file.read_bytes()
            size += len(content)
            total.update(f"{hashlib.sha256(content).hexdigest()}  {file.relative_to(self.path).as_posix()}\n".encode())
        return f"sha256 {total.hexdigest()}{_count(len(files), size)}".encode()

    @contextmanager
    def _lock_file(self) -> Iterator[int]:
        lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            yield lock
        finally:
            os.close(lock)


def _before_recipe(file: Path) -> bool:
    """Whether a file may be there although a build was killed before it had written its recipe."""
    return file.name == ".lock" or file.match(".recipe.toml.*.tmp")


def _count(files: int, size: int) -> str:
    return f" of {files} files, {size} bytes\n"


def sync_files(folder: Path) -> None:
    """Write every file under a folder through to the disk: at once, which takes a fraction of one after the other."""
    for place, _, names in os.walk(folder):
        for name in names:
            _sync(Path(place, name))


def _replace(source: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    if source.is_dir():
        _sync(source)
    os.replace(source, target)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _try_lock(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return False
    return True
