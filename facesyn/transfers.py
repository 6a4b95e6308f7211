"""Who is carried into which style: pairings for `facesyn transfer`. Opens no picture but to list folders."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facesyn.banks import BankPicture, choose
from facesyn.errors import ImageError
from facesyn.imaging import list_images
from facesyn.records import METADATA, FaceRow, PairRow, read_rows
from facesyn.seeds import derive_seed

STYLE_FACTORS = [
    "pose",
    "illumination",
    "expression",
    "hair",
    "facial hair",
    "make-up",
    "background",
    "camera",
    "image quality",
]
"""What ATD takes from a reference; what a person is (bones, features, skin, eyes, age) stays."""


@dataclass(frozen=True)
class Pairing:
    """One picture to be made: `output` is relative to the output folder, the names say in rows what the files are."""

    output: str
    identity: str
    source: Path
    source_name: str
    reference: Path
    reference_name: str
    seed: int


@dataclass(frozen=True)
class SourceFace:
    identity: str
    path: Path
    gender: str
    seed: int


def read_sources(folder: Path, seed: int) -> list[SourceFace]:
    """The faces of a folder of `facesyn generate`, or of a bare folder of pictures, each then its own identity."""
    if (folder / METADATA).is_file():
        rows = read_rows(folder / METADATA, FaceRow)
        missing = [row.file_name for row in rows if not (folder / row.file_name).is_file()]
        if missing:
            raise ImageError(f"{folder / METADATA} lists {missing[0]}, which is not there.")
        return [
            SourceFace(row.id, folder / row.file_name, row.gender, derive_seed(seed, "transfer", row.id))
            for row in rows
        ]
    return [SourceFace(path.stem, path, "", derive_seed(seed, "transfer", path.stem)) for path in list_images(folder)]


def pair_randomly(sources: Sequence[SourceFace], bank: Sequence[BankPicture], per_identity: int) -> list[Pairing]:
    """`per_identity` references for every source, without repeats while the bank lasts; same gender first."""
    pairings = []
    for source in sources:
        chosen = choose(
            bank,
            per_identity,
            source.gender,
            random.Random(derive_seed(source.seed, "references", source.identity)),
        )
        pairings += [
            Pairing(
                output=f"{source.identity}/{number:03d}.png",
                identity=source.identity,
                source=source.path,
                source_name=source.path.name,
                reference=reference.path,
                reference_name=reference.name,
                seed=derive_seed(source.seed, "transfer", str(number)),
            )
            for number, reference in enumerate(chosen)
        ]
    return pairings


def pair_exactly(file: Path, seed: int) -> list[Pairing]:
    """The pairings of a JSONL file; sources and references are relative to its folder."""
    return [
        Pairing(
            output=row.output,
            identity=Path(row.source).stem,
            source=file.parent / row.source,
            source_name=row.source,
            reference=file.parent / row.reference,
            reference_name=row.reference,
            seed=derive_seed(seed, "transfer", row.output),
        )
        for row in read_rows(file, PairRow)
    ]
