"""Faces into styles: who is carried into which, and the loop that makes them. Names no backend."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from facesyn.banks import BankPicture, choose
from facesyn.errors import ImageError
from facesyn.identity.similarity import similarities
from facesyn.imaging import list_images, load_image
from facesyn.labelled import asked_of
from facesyn.out import Advance
from facesyn.protocols import AttributeTransfer, FaceEncoder
from facesyn.records import METADATA, FaceRow, PairRow, TransferRow, read_rows
from facesyn.seeds import derive_seed
from facesyn.stages.folder import StageFolder
from facesyn.strata import Stratum, draw, stratify

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
    """A face to be carried into styles; `cell`, attribute → category, is what its prompt asked for, if it had one."""

    identity: str
    path: Path
    cell: Mapping[str, str]

    @property
    def gender(self) -> str:
        return self.cell.get("gender", "")


def draw_references(seed: int, identity: str, gender: str, strata: Sequence[Stratum], count: int) -> list[BankPicture]:
    """`count` references of one identity, drawn by the run's seed; see `facesyn.strata.draw`."""
    return draw(strata, count, gender, random.Random(derive_seed(seed, "references", identity)))


def redraw_reference(
    seed: int, identity: str, number: int, attempt: int, gender: str, planned: Collection[str], stratum: Stratum
) -> BankPicture:
    """The reference of a later attempt at image `number` of an identity: another of the planned one's stratum.

    With other noise alone a transfer comes out much the same. Of its gender one is taken that the identity was not
    `planned` to have, where there is such.
    """
    rng = random.Random(derive_seed(seed, "references", f"{identity}/{number}", attempt))
    same = [picture for picture in stratum.pictures if picture.labels.get("gender") == gender] or stratum.pictures
    fresh = [picture for picture in same if picture.name not in planned]
    return choose(fresh or same, 1, gender, rng)[0]


def image_name(identity: str, number: int) -> str:
    """File name of transferred image `number` of an identity, relative to the folder of images."""
    return f"{identity}/{number:03d}.png"


def transfer_seed(seed: int, identity: str, number: int, attempt: int = 0) -> int:
    """The noise of an attempt at transferred image `number` of an identity; `seed` is the run's."""
    return derive_seed(seed, "transfer", f"{identity}/{number}", attempt)


def read_sources(folder: Path) -> list[SourceFace]:
    """The faces of a folder of `facesyn generate`, or of a bare folder of pictures, each then its own identity."""
    if (folder / METADATA).is_file():
        rows = read_rows(folder / METADATA, FaceRow)
        missing = [row.file_name for row in rows if not (folder / row.file_name).is_file()]
        if missing:
            raise ImageError(f"{folder / METADATA} lists {missing[0]}, which is not there.")
        return [SourceFace(row.id, folder / row.file_name, asked_of(row)) for row in rows]
    return [SourceFace(path.stem, path, {}) for path in list_images(folder)]


class RandomPairs:
    """`per_identity` references for every source, drawn from the bank as a whole; see `draw_references`."""

    def __init__(self, sources: Sequence[SourceFace], bank: Sequence[BankPicture], per_identity: int, seed: int):
        self._seed = seed
        (self._stratum,) = stratify(bank, [], {})
        self._planned: dict[str, tuple[SourceFace, int, list[BankPicture]]] = {}
        for source in sources:
            drawn = draw_references(seed, source.identity, source.gender, [self._stratum], per_identity)
            for number in range(per_identity):
                self._planned[image_name(source.identity, number)] = source, number, drawn

    def pairings(self, done: Mapping[str, TransferRow]) -> list[Pairing]:
        """Of every picture its first attempt, of those `done`, by file name, the one that was let in."""
        return [self.attempt(output, (done[output].attempt or 0) if output in done else 0) for output in self._planned]

    def attempt(self, output: str, attempt: int) -> Pairing:
        """A later attempt has other noise and another reference; see `redraw_reference`."""
        source, number, drawn = self._planned[output]
        reference = drawn[number]
        if attempt:
            names = [picture.name for picture in drawn]
            gender, stratum = source.gender, self._stratum
            reference = redraw_reference(self._seed, source.identity, number, attempt, gender, names, stratum)
        return Pairing(
            output=output,
            identity=source.identity,
            source=source.path,
            source_name=source.path.name,
            reference=reference.path,
            reference_name=reference.name,
            seed=transfer_seed(self._seed, source.identity, number, attempt),
        )


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


def plan_transfers(pairings: Sequence[Pairing], facts: Mapping[str, object]) -> list[TransferRow]:
    """The row of every picture to be made, before anything is measured on it; `facts` are the backends'."""
    return [
        TransferRow(
            file_name=pairing.output,
            identity=pairing.identity,
            source=pairing.source_name,
            reference=pairing.reference_name,
            transfer_seed=pairing.seed,
            transferred=STYLE_FACTORS,
            transfer=dict(facts),
        )
        for pairing in pairings
    ]


def transfer_faces(
    rows: Sequence[TransferRow],
    pairings: Sequence[Pairing],
    transfer: AttributeTransfer,
    encoder: FaceEncoder | None,
    folder: StageFolder[TransferRow],
    batch_size: int,
    advance: Advance,
) -> None:
    """Make the pictures of `rows`, whose files are told by `pairings`, and add them to `folder`, in order."""
    by_output = {pairing.output: pairing for pairing in pairings}
    opened = lru_cache(maxsize=256)(load_image)
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        pairs = [by_output[row.file_name] for row in batch]
        sources, references = [opened(pair.source) for pair in pairs], [opened(pair.reference) for pair in pairs]
        pictures = transfer.transfer(sources, references, [pair.seed for pair in pairs])
        measured = similarities(encoder, pictures, sources, references)
        for row, picture, likeness in zip(batch, pictures, measured, strict=True):
            figures = {"source_similarity": likeness.source, "reference_similarity": likeness.reference}
            folder.add(row.model_copy(update=figures), picture)
        advance(len(batch))
