"""Source faces in rounds: attempt a of every identity still open, then one accepting pass in the plan's order.

Uniqueness depends on who was accepted before, so it is decided in one process and in the plan's order; what was made
where does not matter. A round's file is written once and whole; whoever is killed in between makes again what no file
tells of.

rounds/00.jsonl           every candidate of attempt 0: seed, edge map, figures, and the gates that refused it
rounds/103.jsonl          the same of attempt 3 of the first extension
candidates/00-00003/      the faces and embeddings of attempt 0 in shard 3, kept until the dataset is finished
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facesyn.dataset.plan import PlanRow, batches
from facesyn.dataset.run_folder import RunFolder, sync_files
from facesyn.gates.keeper import Keeper, figures, rejected_by
from facesyn.gates.measures import Verdict
from facesyn.identity.uniqueness import UniquenessIndex
from facesyn.marking import Made
from facesyn.protocols import FaceEncoder
from facesyn.records import Row, Seed, format_row, read_rows, write_rows

if TYPE_CHECKING:
    from PIL.Image import Image

Known = tuple[list[str], list[np.ndarray]]
"""Names and embeddings of people."""

CANDIDATES = "candidates.jsonl"
EMBEDDINGS = "embeddings.npy"


class Candidate(Row):
    """A source face that was made, and what the gates said of it; accepted where `rejected_by` is empty."""

    id: str
    shard: int
    attempt: int
    face_seed: Seed
    edge_map: str
    sha256: str
    """Of the picture's file."""
    gates: dict[str, float]
    rejected_by: list[str]
    nearest: str = ""
    """The accepted person it resembles most."""


def round_file(folder: RunFolder, segment: int, attempt: int) -> Path:
    """Where the outcome of an attempt is written; there are at most 100 in a segment of the plan."""
    return folder.rounds / f"{100 * segment + attempt:02d}.jsonl"


def round_files(folder: RunFolder, segment: int | None = None) -> list[Path]:
    """The files of every finished round, in order, of one segment or of all."""
    numbers = sorted(int(file.stem) for file in folder.rounds.glob("[0-9]*.jsonl"))
    return [round_file(folder, *divmod(n, 100)) for n in numbers if segment is None or n // 100 == segment]


def settled(folder: RunFolder, segment: int) -> list[list[Candidate]]:
    """The candidates of every finished round of a segment of the plan."""
    return [read_rows(file, Candidate) for file in round_files(folder, segment)]


def accepted(rounds: Sequence[Sequence[Candidate]]) -> dict[str, Candidate]:
    """Identity → the candidate that became its source."""
    return {row.id: row for candidates in rounds for row in candidates if not row.rejected_by}


def open_rows(plan: Sequence[PlanRow], rounds: Sequence[Sequence[Candidate]]) -> list[PlanRow]:
    """The identities that still have no source, in the plan's order."""
    done = accepted(rounds)
    return [row for row in plan if row.id not in done]


def run_rounds(
    folder: RunFolder,
    segment: int,
    plan: Sequence[PlanRow],
    rounds: list[list[Candidate]],
    keeper: Keeper,
    known: Callable[[], Known],
    make: Callable[[int, Sequence[int]], None],
) -> None:
    """Make and judge the sources of a segment's `plan` until every identity has one or its attempts are used up.

    Adds to `rounds`, which are those finished before. `known` are the people nobody may resemble, from outside the
    segment; `make(attempt, shards)` makes the candidates of these shards.
    """
    known = cache(known)
    for attempt in range(len(rounds), keeper.settings.attempts):
        todo = open_rows(plan, rounds)
        if not todo:
            break
        shards = sorted({row.shard for row in todo})
        missing = [shard for shard in shards if not (folder.candidates(attempt, shard) / CANDIDATES).is_file()]
        if missing:
            make(attempt, missing)
        made = _read(folder, attempt, shards)
        judged = _accept(folder, todo, made, rounds, keeper, known)
        write_rows(round_file(folder, segment, attempt), judged)
        rounds.append(judged)


def published(folder: RunFolder, plan: Sequence[PlanRow], encoder: FaceEncoder) -> Known:
    """The people of earlier segments: names and embeddings of their sources, of those who have one."""
    from facesyn.imaging import load_image

    rows = [row for row in plan if (folder.sources / f"{row.id}.png").is_file()]
    embeddings: list[np.ndarray] = []
    for batch in batches(len(rows), 64):
        embeddings += list(encoder.embed([load_image(folder.sources / f"{row.id}.png") for row in rows[batch]]))
    return [row.id for row in rows], embeddings


def restore(
    folder: RunFolder,
    chosen: Mapping[str, Candidate],
    wanted: Sequence[str],
    make: Callable[[int, Sequence[int]], None],
) -> None:
    """See that the candidates behind the `wanted` sources are there, making again what is missing or damaged."""
    lacking: dict[int, set[int]] = {}
    for identity in wanted:
        row = chosen[identity]
        file = folder.candidates(row.attempt, row.shard) / f"{identity}.png"
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != row.sha256:
            lacking.setdefault(row.attempt, set()).add(row.shard)
    for attempt, shards in sorted(lacking.items()):
        make(attempt, sorted(shards))


def publish_candidates(
    folder: RunFolder,
    attempt: int,
    shard: int,
    rows: Sequence[PlanRow],
    pictures: Mapping[str, "Image"],
    verdicts: Mapping[str, Sequence[Verdict]],
    embeddings: np.ndarray | None,
    model: str | None = None,
) -> None:
    """Write the candidates of a shard; the folder appears whole or not at all.

    `rows` are as attempted; `model`: SHA-256 of the generator's.
    """
    from facesyn.imaging import encode_png

    target = folder.candidates(attempt, shard)
    work = target.with_name(f".{target.name}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    records = []
    for row in rows:
        made = Made(row.id, row.face_seed, model)
        data = encode_png(pictures[row.id].convert("RGB"), made=made)
        (work / f"{row.id}.png").write_bytes(data)
        records.append(
            Candidate(
                id=row.id,
                shard=shard,
                attempt=attempt,
                face_seed=row.face_seed,
                edge_map=row.edge_map,
                sha256=hashlib.sha256(data).hexdigest(),
                gates=figures(verdicts[row.id]),
                rejected_by=rejected_by(verdicts[row.id]),
            )
        )
    if embeddings is not None:
        buffer = BytesIO()
        np.save(buffer, embeddings.astype(np.float32))
        (work / EMBEDDINGS).write_bytes(buffer.getvalue())
    (work / CANDIDATES).write_bytes("".join(map(format_row, records)).encode())
    sync_files(work)
    if target.exists():
        shutil.rmtree(target)
    work.rename(target)


def _read(folder: RunFolder, attempt: int, shards: Sequence[int]) -> dict[str, tuple[Candidate, np.ndarray | None]]:
    found: dict[str, tuple[Candidate, np.ndarray | None]] = {}
    for shard in shards:
        place = folder.candidates(attempt, shard)
        rows = read_rows(place / CANDIDATES, Candidate)
        embeddings = np.load(place / EMBEDDINGS) if (place / EMBEDDINGS).is_file() else [None] * len(rows)
        found |= {row.id: (row, embedding) for row, embedding in zip(rows, embeddings, strict=True)}
    return found


def _accept(
    folder: RunFolder,
    todo: Sequence[PlanRow],
    made: Mapping[str, tuple[Candidate, np.ndarray | None]],
    rounds: Sequence[Sequence[Candidate]],
    keeper: Keeper,
    known: Callable[[], Known],
) -> list[Candidate]:
    """The accepting pass: who passed its own gates and resembles nobody accepted before."""
    index: UniquenessIndex | None = None
    judged = []
    for row in todo:
        candidate, embedding = made[row.id]
        if embedding is not None and "unique" in keeper.thresholds:
            if index is None:
                index = _known(folder, rounds, known(), len(embedding))
            (verdict,) = keeper.unique(index, embedding)
            said: dict[str, Any] = {
                "gates": candidate.gates | {verdict.gate: verdict.figure},
                "rejected_by": candidate.rejected_by + rejected_by([verdict]),
                "nearest": index.nearest(embedding[None])[0].name,
            }
            candidate = candidate.model_copy(update=said)
            if not candidate.rejected_by:
                index.add([row.id], embedding[None])
        judged.append(candidate)
    return judged


def _known(folder: RunFolder, rounds: Sequence[Sequence[Candidate]], known: Known, dim: int) -> UniquenessIndex:
    """The index as earlier rounds left it: the people known before, then the accepted in order."""
    index = UniquenessIndex(dim)
    names, embeddings = known
    if names:
        index.add(names, np.stack(embeddings))
    for candidates in rounds:
        shards = sorted({row.shard for row in candidates})
        made = _read(folder, candidates[0].attempt, shards) if candidates else {}
        for row in candidates:
            embedding = made[row.id][1]
            if not row.rejected_by and embedding is not None:
                index.add([row.id], embedding[None])
    return index


def clear(folder: RunFolder) -> None:
    """Remove the candidates of a finished dataset; the rounds still tell how to make them again."""
    place: Path = folder.path / "candidates"
    shutil.rmtree(place, ignore_errors=True)
