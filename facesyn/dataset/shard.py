"""Makes the pictures of one shard, in whatever process an executor chose. Knows one shard at a time."""

import functools
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facesyn import __version__, registry
from facesyn.banks import BankPicture, bank_folder, read_bank
from facesyn.dataset.aligned import Aligner
from facesyn.dataset.plan import PlanRow, Segment, batches, segments
from facesyn.dataset.recipe import Recipe, parse_recipe
from facesyn.dataset.rounds import Candidate, accepted, publish_candidates, round_files
from facesyn.dataset.run_folder import ALIGNED_ROWS, IMAGE_ROWS, REJECTED_ROWS, SOURCE_ROWS, RunFolder
from facesyn.errors import BackendError
from facesyn.gates.keeper import Keeper, figures, rejected_by
from facesyn.gates.measures import Verdict, thumbnail
from facesyn.identity.similarity import Similarities, similarities
from facesyn.labelled import asked_of
from facesyn.marking import Made, model_of
from facesyn.records import PictureRow, PromptRow, Row, RowFile, Seed, format_row, read_rows
from facesyn.stages.generation import EdgeMaps, starting_point
from facesyn.stages.transfers import image_name, redraw_reference, transfer_seed
from facesyn.strata import stratify

if TYPE_CHECKING:
    from PIL.Image import Image

    from facesyn.protocols import AttributeTransfer, FaceEncoder, FaceGenerator


class SourceRow(PictureRow):
    """A source face of the dataset. Models are named once, in provenance.json."""

    identity: str
    ethnicity: str
    gender: str
    age_interval: str
    prompt: str
    negative_prompt: str
    edge_map: str
    face_seed: Seed
    attempt: int | None = None
    gates: dict[str, float] | None = None
    """What the gates measured, where there were any; the limits are in provenance.json."""


class ImageRow(PictureRow):
    """A transferred image of the dataset. Similarities are cosines by the encoder of provenance.json."""

    identity: str
    ethnicity: str
    gender: str
    age_interval: str
    reference: str
    transfer_seed: Seed
    source_similarity: float | None = None
    reference_similarity: float | None = None
    attempt: int | None = None
    gates: dict[str, float] | None = None
    landmarks: list[tuple[float, float]] | None = None
    """Eyes, nose tip, mouth corners in pixels, where the recipe asks for aligned images: those follow from them."""
    style: dict[str, Any] | None = None
    """What the bank says of the reference: pose, light, …"""


class RejectedRow(Row):
    """A source or image that the gates did not let in; made again by its seed."""

    stage: str
    identity: str
    number: int | None = None
    attempt: int
    seed: Seed
    gates: dict[str, float]
    rejected_by: list[str]
    nearest: str | None = None


@dataclass(frozen=True)
class ShardWork:
    """Makes and publishes shards of a run folder: the `work` an executor calls. Small, and picklable."""

    folder: Path
    banks: tuple[tuple[str, str], ...]
    """Facts of the banks, as (name, value), for the provenance."""

    def __call__(self, shard: int) -> None:
        """Raises ImageError, BackendError or RunError; nothing of the shard is published then."""
        _bench(self).make(shard)


@dataclass(frozen=True)
class SourceWork:
    """Makes the source faces of one attempt for the rounds of the gates; the same promises as `ShardWork`."""

    shards: ShardWork
    attempt: int

    def __call__(self, shard: int) -> None:
        _bench(self.shards).make_candidates(shard, self.attempt)


@functools.lru_cache(maxsize=1)
def _bench(work: ShardWork) -> "_Bench":
    """The backends of this process, made once."""
    return _Bench(work)


class _Bench:
    def __init__(self, work: ShardWork):
        self.folder = RunFolder(work.folder)
        self.lock = self.folder.join()
        # Sums depend on how many threads share them, so every worker computes with one: the same bytes from
        # any number of workers. Libraries not yet imported read the variables, torch is told.
        os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
        self.recipe: Recipe = parse_recipe(self.folder.recipe.read_text("utf-8"), str(self.folder.recipe))
        recipe = self.recipe
        self.generator: FaceGenerator = registry.create("generator", recipe.generate.backend, recipe.generate.options)
        self.transfer: AttributeTransfer = registry.create("transfer", recipe.transfer.backend, recipe.transfer.options)
        self.encoder: FaceEncoder | None = None
        if recipe.encoder.backend:
            self.encoder = registry.create("encoder", recipe.encoder.backend, recipe.encoder.options)
        self.aligner = Aligner(recipe.output.landmarker) if recipe.output.aligned else None
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        edges = read_bank(bank_folder(recipe.generate.edges, "edges"))
        self.edges, self.edge_maps = _by_name(edges), EdgeMaps(edges)
        references = read_bank(bank_folder(recipe.transfer.references, "references"))
        self.references = _by_name(references)
        strata = stratify(references, recipe.transfer.strata, recipe.transfer.quotas)
        self.stratum = {picture.name: stratum for stratum in strata for picture in stratum.pictures}
        # Of files that grow with the dataset, only what a shard needs is held.
        self.plan, self.segments = RowFile(self.folder.plan, PlanRow), segments(recipe)
        self.prompt_rows = RowFile(self.folder.prompts, PromptRow)
        self.prompts: dict[str, PromptRow] = {}
        self.judged: tuple[list[Path], dict[str, Candidate]] = ([], {})
        self.keeper = Keeper(recipe.gates, recipe.identities, self.encoder, recipe.demographics.categories)
        self.folder.pin(dict(work.banks) | self._facts(), whole=True)
        self._savers = ThreadPoolExecutor(max_workers=2)
        self._saving: list[Future[None]] = []

    def _take_up(self, shard: int) -> tuple[Segment, list[PlanRow]]:
        """The identities of a shard; their prompts are at hand then."""
        segment = next(segment for segment in self.segments if shard in segment.shards)
        lines = segment.shard_rows(shard, self.recipe.shard_size)
        self.prompts = {row.id: row for row in self.prompt_rows.read(lines)}
        return segment, self.plan.read(lines)

    def _accepted(self, files: list[Path]) -> dict[str, Candidate]:
        """Whom the rounds in `files` accepted; read anew only where they are others than the last time."""
        if files != self.judged[0]:
            self.judged = files, accepted([read_rows(file, Candidate) for file in files])
        return self.judged[1]

    def make(self, shard: int) -> None:
        segment, rows = self._take_up(shard)
        chosen: dict[str, Candidate] = {}
        if self.recipe.gates.enabled:
            chosen = self._accepted(round_files(self.folder, segment.number))
            rows = [row for row in rows if row.id in chosen]
        work = self.folder.work(shard)
        shutil.rmtree(work, ignore_errors=True)  # of a worker that died with it
        kinds = ("images", "aligned") if self.aligner else ("images",)
        for name in ("sources", *kinds, *(f"{kind}/{row.id}" for kind in kinds for row in rows)):
            (work / name).mkdir(parents=True)
        sources = self._take_sources(rows, chosen, shard) if chosen else self._make_sources(rows, shard)
        self._make_images(rows, sources, shard)
        self._finish_saving()
        self.folder.publish(shard, [row.id for row in rows])

    def make_candidates(self, shard: int, attempt: int) -> None:
        """The faces of a shard's identities that had none before `attempt`, with what the gates measure on each."""
        segment, rows = self._take_up(shard)
        before = self._accepted(round_files(self.folder, segment.number)[:attempt])
        rows = [row for row in rows if row.id not in before]
        rows = [row.model_copy(update=starting_point(self.prompts[row.id], self.edge_maps, attempt)) for row in rows]
        pictures = self._generate(rows)
        verdicts: dict[str, list[Verdict]] = {}
        embeddings: list[np.ndarray] = []
        for batch in batches(len(rows), self.recipe.batch_size):
            faces = [pictures[row.id] for row in rows[batch]]
            asked = [asked_of(row) for row in rows[batch]]
            found = self.keeper.examine_sources(faces, asked)
            verdicts |= {row.id: each for row, each in zip(rows[batch], found, strict=True)}
            if self.encoder is not None:
                embeddings.append(self.encoder.embed(faces))
        known = np.concatenate(embeddings) if embeddings else None
        publish_candidates(
            self.folder, attempt, shard, rows, pictures, verdicts, known, model_of(self.generator.facts())
        )

    def _take_sources(self, rows: Sequence[PlanRow], chosen: Mapping[str, Candidate], shard: int) -> dict[str, "Image"]:
        from facesyn.imaging import load_image

        made: dict[str, Image] = {}
        records = []
        for row in rows:
            candidate = chosen[row.id]
            file = self.folder.candidates(candidate.attempt, shard) / f"{row.id}.png"
            (self.folder.work(shard) / f"sources/{row.id}.png").write_bytes(file.read_bytes())
            made[row.id] = load_image(file)
            found = candidate.model_dump(include={"face_seed", "edge_map", "attempt", "gates"})
            records.append(self._source_row(row).model_copy(update=found))
        (self.folder.work(shard) / SOURCE_ROWS).write_bytes("".join(map(format_row, records)).encode())
        return made

    def _generate(self, rows: Sequence[PlanRow]) -> dict[str, "Image"]:
        from facesyn.imaging import load_edge_map

        made: dict[str, Image] = {}
        for batch in batches(len(rows), self.recipe.batch_size):
            faces = self.generator.generate(
                [self.prompts[row.id] for row in rows[batch]],
                [load_edge_map(self.edges[row.edge_map].path) for row in rows[batch]],
                [row.face_seed for row in rows[batch]],
            )
            _expect(len(rows[batch]), faces, "generator")
            made |= {row.id: face for row, face in zip(rows[batch], faces, strict=True)}
        return made

    def _make_sources(self, rows: Sequence[PlanRow], shard: int) -> dict[str, "Image"]:
        made = self._generate(rows)
        for row in rows:
            origin = Made(row.id, row.face_seed, model_of(self.generator.facts()))
            self._save(made[row.id], shard, f"sources/{row.id}.png", origin)
        records = [self._source_row(row) for row in rows]
        (self.folder.work(shard) / SOURCE_ROWS).write_bytes("".join(map(format_row, records)).encode())
        return made

    def _make_images(self, rows: Sequence[PlanRow], sources: Mapping[str, "Image"], shard: int) -> None:
        todo = [(row, number) for row in rows for number in range(len(row.references))]
        records: dict[tuple[str, int], ImageRow] = {}
        rejected: list[RejectedRow] = []
        thumbnails: dict[str, list[np.ndarray]] = {row.id: [] for row in rows}
        gated = self.recipe.gates.enabled
        for attempt in range(self.recipe.gates.attempts if gated else 1):
            left = []
            for batch in batches(len(todo), self.recipe.batch_size):
                pairs = todo[batch]
                images, measured = self._transfer(pairs, sources, attempt)
                kept: dict[tuple[str, int], Image] = {}
                for (row, number), image, likeness in zip(pairs, images, measured, strict=True):
                    others = thumbnails[row.id]
                    asked = asked_of(row)
                    verdicts = self.keeper.examine_image(image, likeness.source, likeness.reference, others, asked)
                    record = self._image_row(row, number, attempt, likeness)
                    if reasons := rejected_by(verdicts):
                        rejected.append(_rejected_image(record, number, attempt, verdicts, reasons))
                        left.append((row, number))
                        continue
                    if gated:
                        record = record.model_copy(update={"attempt": attempt, "gates": figures(verdicts)})
                    others.append(thumbnail(image))
                    self._save(image, shard, f"images/{image_name(row.id, number)}", self._origin(record))
                    records[row.id, number], kept[row.id, number] = record, image
                if self.aligner:
                    for key, (points, face) in zip(kept, self.aligner.align([*kept.values()]), strict=True):
                        self._save(face, shard, f"aligned/{image_name(*key)}", self._origin(records[key]))
                        records[key] = records[key].model_copy(update={"landmarks": points})
            todo = left
        ordered = [records[row.id, n] for row in rows for n in range(len(row.references)) if (row.id, n) in records]
        (self.folder.work(shard) / IMAGE_ROWS).write_bytes("".join(map(format_row, ordered)).encode())
        if self.aligner:
            unplaced = (record.model_copy(update={"landmarks": None}) for record in ordered)
            (self.folder.work(shard) / ALIGNED_ROWS).write_bytes("".join(map(format_row, unplaced)).encode())
        if gated:
            (self.folder.work(shard) / REJECTED_ROWS).write_bytes("".join(map(format_row, rejected)).encode())

    def _transfer(
        self, pairs: Sequence[tuple[PlanRow, int]], sources: Mapping[str, "Image"], attempt: int
    ) -> tuple[list["Image"], list[Similarities]]:
        from facesyn.imaging import load_image

        references = [load_image(self._reference(row, number, attempt).path) for row, number in pairs]
        faces = [sources[row.id] for row, _ in pairs]
        seeds = [transfer_seed(self.recipe.seed, row.id, number, attempt) for row, number in pairs]
        images = self.transfer.transfer(faces, references, seeds)
        _expect(len(pairs), images, "transfer")
        return images, similarities(self.encoder, images, faces, references)

    def _reference(self, row: PlanRow, number: int, attempt: int) -> BankPicture:
        planned = row.references[number]
        if attempt == 0:
            return self.references[planned]
        return redraw_reference(
            self.recipe.seed, row.id, number, attempt, row.gender, row.references, self.stratum[planned]
        )

    def _source_row(self, row: PlanRow) -> SourceRow:
        prompt = self.prompts[row.id]
        return SourceRow(
            file_name=f"{row.id}.png",
            identity=row.id,
            ethnicity=row.ethnicity,
            gender=row.gender,
            age_interval=row.age_interval,
            prompt=prompt.prompt,
            negative_prompt=prompt.negative_prompt,
            edge_map=row.edge_map,
            face_seed=row.face_seed,
        )

    def _image_row(self, row: PlanRow, number: int, attempt: int, likeness: Similarities) -> ImageRow:
        reference = self._reference(row, number, attempt)
        # Only plain values: a column of a table holds one type.
        style = {key: value for key, value in reference.labels.items() if isinstance(value, str | int | float)}
        return ImageRow(
            file_name=image_name(row.id, number),
            identity=row.id,
            ethnicity=row.ethnicity,
            gender=row.gender,
            age_interval=row.age_interval,
            reference=reference.name,
            transfer_seed=transfer_seed(self.recipe.seed, row.id, number, attempt),
            source_similarity=likeness.source,
            reference_similarity=likeness.reference,
            style=style or None,
        )

    def _origin(self, record: ImageRow) -> Made:
        return Made(record.identity, record.transfer_seed, model_of(self.transfer.facts()))

    def _save(self, image: "Image", shard: int, name: str, made: Made) -> None:
        """Encodes and writes beside the next batch's networks; `_finish_saving` waits for it."""
        from facesyn.imaging import encode_png

        def save() -> None:
            (self.folder.work(shard) / name).write_bytes(encode_png(image.convert("RGB"), made=made))

        self._saving.append(self._savers.submit(save))

    def _finish_saving(self) -> None:
        """Raises whatever stopped a picture from being saved."""
        saving, self._saving = self._saving, []
        for saved in saving:
            saved.result()

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "facesyn": __version__,
            "generator": dict(self.generator.facts()),
            "transfer": dict(self.transfer.facts()),
        }
        facts |= {"encoder": dict(self.encoder.facts())} if self.encoder else {}
        facts |= {"aligned": dict(self.aligner.facts())} if self.aligner else {}
        return facts | ({"gates": self.keeper.facts()} if self.recipe.gates.enabled else {})


def _by_name(bank: Sequence[BankPicture]) -> dict[str, BankPicture]:
    return {picture.name: picture for picture in bank}


def _rejected_image(
    record: ImageRow, number: int, attempt: int, verdicts: Sequence[Verdict], reasons: list[str]
) -> RejectedRow:
    return RejectedRow(
        stage="transfer",
        identity=record.identity,
        number=number,
        attempt=attempt,
        seed=record.transfer_seed,
        gates=figures(verdicts),
        rejected_by=reasons,
    )


def _expect(count: int, pictures: Sequence["Image"], role: str) -> None:
    if len(pictures) != count:
        raise BackendError(f"The {role} backend returned {len(pictures)} pictures where {count} were asked for.")
