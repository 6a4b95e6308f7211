"""Banks: folders of labelled pictures, to draw edge maps and style references from. Decodes no picture."""

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facesyn import registry
from facesyn.errors import ImageError, UsageError
from facesyn.records import METADATA, PictureRow, read_rows


@dataclass(frozen=True)
class BankPicture:
    """A picture of a bank: its `name` relative to the bank's folder, and its labels from `metadata.jsonl`."""

    name: str
    path: Path
    labels: dict[str, Any] = field(default_factory=dict)


def bank_folder(name: str, part: str) -> Path:
    """The folder meant by `name`: part `part` (`edges`, `references`) of a model bundle, or a folder on disk.

    Raises UsageError where it is neither.
    """
    bundles = registry.names(registry.Role.MODEL)
    if name in bundles:
        folders = registry.bundle(name).folders()
        if part not in folders:
            raise UsageError(f"The model bundle {name!r} has no {part}.", hint=f"It has {', '.join(sorted(folders))}.")
        return folders[part]
    if not Path(name).is_dir():
        raise UsageError(
            f"There is no folder {name} to take {part} from.",
            hint=registry.suggest(name, bundles, "Banks shipped"),
        )
    return Path(name)


def read_bank(folder: Path) -> list[BankPicture]:
    """The pictures that a folder's `metadata.jsonl` lists, in order; without one, all by name and unlabelled.

    Raises ImageError where there are none or a listed one is missing, RecordError for a malformed row.
    """
    from facesyn.imaging import list_images

    if not (folder / METADATA).is_file():
        return [BankPicture(path.name, path) for path in list_images(folder)]
    rows = read_rows(folder / METADATA, PictureRow)
    bank = [BankPicture(row.file_name, folder / row.file_name, dict(row.model_extra or {})) for row in rows]
    if not bank:
        raise ImageError(f"{folder / METADATA} lists no picture.")
    for picture in bank:
        if not picture.path.is_file():
            raise ImageError(f"{folder / METADATA} lists {picture.name}, which is not there.")
    return bank


def choose(bank: Sequence[BankPicture], count: int, gender: str, rng: random.Random) -> list[BankPicture]:
    """`count` pictures of a bank, in random order, without repeats until the bank is used up.

    Pictures labelled with the same `gender` come before all others.
    """
    same = [picture for picture in bank if picture.labels.get("gender") == gender]
    others = [picture for picture in bank if picture.labels.get("gender") != gender]
    chosen: list[BankPicture] = []
    while bank and len(chosen) < count:
        for group in (same, others):
            chosen += rng.sample(group, min(len(group), count - len(chosen)))
    return chosen


def digest(pictures: Iterable[BankPicture]) -> str:
    """SHA-256 over the names and contents of pictures; reads every file."""
    total = hashlib.sha256()
    for picture in sorted(pictures, key=lambda picture: picture.name):
        content = hashlib.sha256(picture.path.read_bytes()).hexdigest()
        total.update(f"{content}  {picture.name}\n".encode())
    return total.hexdigest()
