"""The stages' loops with gates: attempts in rounds, who is let in, and what is kept of the rest. Names no backend.

Every attempt that is refused leaves a row in `rejected.jsonl`, whether by number, by seed or by what it failed at; a
stage that was killed goes on with the attempts that neither file tells of.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from facesyn.banks import BankPicture
from facesyn.gates.keeper import Keeper, figures, rejected_by
from facesyn.gates.measures import Verdict, thumbnail
from facesyn.identity.similarity import similarities
from facesyn.identity.uniqueness import UniquenessIndex
from facesyn.imaging import load_edge_map, load_image
from facesyn.labelled import asked_of
from facesyn.out import Advance
from facesyn.protocols import AttributeTransfer, FaceEncoder, FaceGenerator
from facesyn.records import FaceRow, PictureType, TransferRow, format_row, parse_rows
from facesyn.stages.folder import StageFolder
from facesyn.stages.generation import EdgeMaps, starting_point
from facesyn.stages.transfers import Pairing

REJECTED = "rejected.jsonl"


class Rejections:
    """The refused attempts of a stage's folder."""

    def __init__(self, folder: Path, kind: type[PictureType]):
        self._file = folder / REJECTED
        self.attempts: Counter[str] = Counter()
        if self._file.exists():
            whole = self._file.read_text(encoding="utf-8").rpartition("\n")[0]
            self._file.write_text(whole + "\n" if whole else "", encoding="utf-8")  # without a row torn by a kill
            self.attempts.update(row.file_name for row in parse_rows(whole.splitlines(), kind, str(self._file)))

    def add(self, row: PictureType, verdicts: Sequence[Verdict]) -> None:
        """Append a refused attempt with its figures and the gates that refused it."""
        said = {"gates": figures(verdicts), "rejected_by": rejected_by(verdicts)}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(format_row(row.model_copy(update=said)))
            file.flush()
            os.fsync(file.fileno())
        self.attempts[row.file_name] += 1


def generate_gated(
    rows: Sequence[FaceRow],
    generator: FaceGenerator,
    encoder: FaceEncoder | None,
    bank: Sequence[BankPicture],
    folder: StageFolder[FaceRow],
    keeper: Keeper,
    batch_size: int,
    advance: Advance,
) -> list[FaceRow]:
    """Make the faces of `rows` and add those the gates let in; returns the rows whose attempts are used up.

    Uniqueness is decided in order within a round, against all faces of the folder and the keeper's known people.
    """
    edge_maps, paths = EdgeMaps(bank), {picture.name: picture.path for picture in bank}
    opened = lru_cache(maxsize=1024)(load_edge_map)
    rejections = Rejections(folder.folder, FaceRow)
    index = _index_of(folder, encoder, keeper)

    def at(row: FaceRow, attempt: int) -> FaceRow:
        return row.model_copy(update={"attempt": attempt} | starting_point(row, edge_maps, attempt))

    def attempt_all(batch: Sequence[FaceRow]) -> list[bool]:
        seeded = [at(row, rejections.attempts[row.file_name]) for row in batch]
        edges = [opened(paths[row.edge_map]) for row in seeded]
        pictures = generator.generate(seeded, edges, [row.face_seed for row in seeded])
        asked = [asked_of(row) for row in seeded]
        embeddings = encoder.embed(pictures) if encoder is not None and index is not None else None
        passed = []
        for number, (row, picture, verdicts) in enumerate(
            zip(seeded, pictures, keeper.examine_sources(pictures, asked), strict=True)
        ):
            if index is not None and embeddings is not None:
                verdicts = verdicts + keeper.unique(index, embeddings[number])
            passed.append(not rejected_by(verdicts))
            if not passed[-1]:
                rejections.add(row, verdicts)
                continue
            folder.add(row.model_copy(update={"gates": figures(verdicts)}), picture)
            if index is not None and embeddings is not None:
                index.add([row.id], embeddings[number : number + 1])
        return passed

    return _rounds(rows, rejections, keeper.settings.attempts, batch_size, attempt_all, advance)


def transfer_gated(
    rows: Sequence[TransferRow],
    pairings: Sequence[Pairing],
    again: Callable[[str, int], Pairing] | None,
    cells: Mapping[str, Mapping[str, str]],
    transfer: AttributeTransfer,
    encoder: FaceEncoder | None,
    folder: StageFolder[TransferRow],
    keeper: Keeper,
    batch_size: int,
    advance: Advance,
) -> list[TransferRow]:
    """Make the pictures of `rows` and add those the gates let in; returns the rows whose attempts are used up.

    `cells` tell of an identity what was asked for, where that is known. `again` pairs an output by its attempt. Without
    it the pairs are what was asked for: every picture is added, with the gates that would have refused it in its row,
    and none is returned.
    """
    by_output = {pairing.output: pairing for pairing in pairings}
    opened = lru_cache(maxsize=256)(load_image)
    rejections = Rejections(folder.folder, TransferRow)
    small: dict[str, list[np.ndarray]] = {}
    for done in folder.done.values():
        small.setdefault(done.identity, []).append(thumbnail(load_image(folder.folder / done.file_name)))

    def pair(row: TransferRow) -> Pairing:
        return again(row.file_name, rejections.attempts[row.file_name]) if again else by_output[row.file_name]

    def attempt_all(batch: Sequence[TransferRow]) -> list[bool]:
        pairs = [pair(row) for row in batch]
        sources, references = [opened(each.source) for each in pairs], [opened(each.reference) for each in pairs]
        pictures = transfer.transfer(sources, references, [each.seed for each in pairs])
        passed = []
        for row, made_of, picture, likeness in zip(
            batch, pairs, pictures, similarities(encoder, pictures, sources, references), strict=True
        ):
            others = small.setdefault(row.identity, [])
            asked = cells.get(row.identity, {})
            verdicts = keeper.examine_image(picture, likeness.source, likeness.reference, others, asked)
            reasons = rejected_by(verdicts)
            known = {"reference": made_of.reference_name, "transfer_seed": made_of.seed}
            measured = {"source_similarity": likeness.source, "reference_similarity": likeness.reference}
            row = row.model_copy(update=known | measured)
            passed.append(again is None or not reasons)
            if not passed[-1]:
                rejections.add(row, verdicts)
                continue
            said = {"attempt": rejections.attempts[row.file_name], "gates": figures(verdicts)}
            folder.add(row.model_copy(update=said | ({"rejected_by": reasons} if reasons else {})), picture)
            others.append(thumbnail(picture))
        return passed

    return _rounds(rows, rejections, keeper.settings.attempts, batch_size, attempt_all, advance)


def _rounds(
    rows: Sequence[Any],
    rejections: Rejections,
    attempts: int,
    batch_size: int,
    attempt_all: Callable[[Sequence[Any]], list[bool]],
    advance: Advance,
) -> list[Any]:
    """Attempt a of every open row, then attempt a + 1 of those refused; rows that are ahead wait for their round."""
    left = list(rows)
    for attempt in range(attempts):
        waiting = [row for row in left if rejections.attempts[row.file_name] > attempt]
        todo = [row for row in left if rejections.attempts[row.file_name] <= attempt]
        for start in range(0, len(todo), batch_size):
            batch = todo[start : start + batch_size]
            passed = attempt_all(batch)
            waiting += [row for row, well in zip(batch, passed, strict=True) if not well]
            advance(sum(passed))
        names = {row.file_name for row in waiting}
        left = [row for row in left if row.file_name in names]
    advance(len(left))
    return left


def _index_of(folder: StageFolder[FaceRow], encoder: FaceEncoder | None, keeper: Keeper) -> UniquenessIndex | None:
    """Everybody a new face must not resemble: the known people, then the faces of the folder."""
    if encoder is None or "unique" not in keeper.thresholds:
        return None
    names, embeddings = keeper.known()
    done = list(folder.done.values())
    for start in range(0, len(done), 64):
        part = done[start : start + 64]
        names += [row.id for row in part]
        embeddings += list(encoder.embed([load_image(folder.folder / row.file_name) for row in part]))
    if not embeddings:
        from PIL import Image

        dim = encoder.embed([Image.new("RGB", (128, 128), "gray")]).shape[1]
        return UniquenessIndex(dim)
    index = UniquenessIndex(len(embeddings[0]))
    index.add(names, np.stack(embeddings))
    return index
