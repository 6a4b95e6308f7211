"""Builds a dataset from a recipe: forecast, checks, prompts, plan, shards, and the sum of finished shards.

Decides what is made and what is left to make; how pictures are made is `shard`'s, where is the executor's.
"""

import errno
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesyn import __version__, registry
from facesyn.banks import BankPicture, bank_folder, digest, read_bank
from facesyn.dataset import rounds
from facesyn.dataset.plan import PlanRow, make_plan
from facesyn.dataset.recipe import Recipe, format_recipe
from facesyn.dataset.rounds import Candidate
from facesyn.dataset.run_folder import IMAGE_ROWS, REJECTED_ROWS, SOURCE_ROWS, RunFolder
from facesyn.dataset.shard import ImageRow, RejectedRow, ShardWork, SourceRow, SourceWork
from facesyn.demographics import AgeInterval, Cell
from facesyn.errors import BackendError, RunError, UsageError
from facesyn.gates.keeper import Keeper
from facesyn.out import out
from facesyn.records import PromptRow, Row, format_row, read_rows, write_bytes, write_rows

if TYPE_CHECKING:
    from facesyn.protocols import Executor

SMALL_PICTURE = 24_000
"""Bytes of a 128 × 128 PNG of a face, roughly: what the models of a bundle make."""
LARGE_PICTURE = 420_000
"""Bytes of a 512 × 512 PNG of a face, roughly."""
ROW = 1_200
"""Bytes of labels per picture, roughly."""

_DISK_ERRORS = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.ENOTDIR,
    )
)


@dataclass(frozen=True)
class Forecast:
    """What a build would make."""

    identities: int
    images: int
    shards: int
    bytes: int
    quotas: dict[Cell, int]


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


def forecast(recipe: Recipe) -> Forecast:
    """Counts are exact; bytes are a rough guess."""
    pictures = recipe.image_total + recipe.identities
    return Forecast(
        identities=recipe.identities,
        images=recipe.image_total,
        shards=recipe.shard_total,
        bytes=pictures * (_picture_bytes(recipe) + ROW),
        quotas=recipe.demographics.to_demographics().quotas(recipe.identities),
    )


def check_recipe(recipe: Recipe) -> None:
    """Raises UsageError or BackendError where a backend, option or bank is unknown or cannot be used here."""
    tables = (
        ("prompts", "prompter", recipe.prompts),
        ("generate", "generator", recipe.generate),
        ("transfer", "transfer", recipe.transfer),
        ("encoder", "encoder", recipe.encoder),
    )
    for key, role, table in tables:
        if not table.backend:
            continue
        known = registry.option_names(role, table.backend)
        if known is None:
            continue
        for option in table.options:
            if option not in known:
                keys = [*type(table).model_fields, *known]
                raise UsageError(
                    f"Recipe {recipe.name} has an unknown key '{key}.{option}'.",
                    hint=registry.suggest(option, keys, "Keys here"),
                )
    bank_folder(recipe.generate.edges, "edges")
    bank_folder(recipe.transfer.references, "references")


def build(recipe: Recipe, path: Path, workers: int | None = None, executor: "str | Executor" = "local") -> Built:
    """Make the dataset of `recipe` in the folder `path`, or what is still missing of it.

    The result's bytes depend on the recipe, the models and the banks alone. `workers` defaults to the
    processor cores, or to one where a GPU does the work; `executor` is a backend's name, or one that was made.
    Raises UsageError, BackendError, ModelError,
    ImageError or RunError; finished shards stay.
    """
    folder = RunFolder(path)
    with _disk_errors(path):
        folder.check(recipe)
        check_recipe(recipe)
        engine = executor
        if isinstance(executor, str):
            options = {"workers": workers or default_workers(recipe)}
            engine = registry.create("executor", executor, {key: value for key, value in options.items() if value})
        begun = folder.recipe.is_file()
        edges = _open_bank(recipe.generate.edges, "edges", check=not begun)
        references = _open_bank(recipe.transfer.references, "references", check=not begun)
        if not begun:
            _check_space(path, forecast(recipe).bytes)
        path.mkdir(parents=True, exist_ok=True)
        with folder.locked():
            folder.check(recipe)
            if not folder.recipe.is_file():
                write_bytes(folder.recipe, format_recipe(recipe).encode())
            folder.begin()
            banks = {"edges": digest(edges), "references": digest(references)}
            folder.pin({"facesyn": __version__, **banks}, whole=False)
            plan = _settle_plan(folder, make_plan(recipe, _settle_prompts(folder, recipe), edges, references))
            work = ShardWork(path, tuple(banks.items()))
            chosen = _settle_sources(folder, recipe, plan, work, engine) if recipe.gates.enabled else None
            made = _make_shards(folder, recipe, plan, work, engine, chosen)
            if made or not all(file.is_file() for file in (folder.metadata, folder.source_rows, folder.sheet)):
                _finish(folder, recipe, plan)
            if recipe.gates.enabled:
                rounds.clear(folder)
        return _built(folder, recipe, made)


def default_workers(recipe: Recipe) -> int | None:
    """1 where a GPU does the work; None, the executor's own default, where processor cores do."""
    tables = (("generator", recipe.generate), ("transfer", recipe.transfer))
    devices = {
        str(table.options.get("device", "auto"))
        for role, table in tables
        if "device" in (registry.option_names(role, table.backend) or ())
    }
    if devices <= {"cpu"}:
        return None
    if devices <= {"cpu", "auto"}:
        import torch

        if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
            return None
    return 1


def _open_bank(name: str, part: str, check: bool) -> list[BankPicture]:
    """The pictures of a bank. With `check` each is decoded, to find a corrupt one before work begins."""
    from facesyn.imaging import load_image

    bank = read_bank(bank_folder(name, part))
    if check:
        with out.progress(f"checking {part}", len(bank)) as advance:
            for picture in bank:
                load_image(picture.path)
                advance()
    return bank


def _settle_prompts(folder: RunFolder, recipe: Recipe) -> list[PromptRow]:
    """The prompts of the run, written once: a prompt writer need not say the same thing twice."""
    cells = recipe.demographics.to_demographics().plan(recipe.identities, recipe.seed)
    if not folder.prompts.is_file():
        writer = registry.create("prompter", recipe.prompts.backend, recipe.prompts.options)
        rows = list(writer.write(cells, seed=recipe.seed))
        if [row.cell for row in rows] != cells or len({row.id for row in rows}) != len(rows):
            raise BackendError(f"The prompter backend {recipe.prompts.backend!r} did not write one row per identity.")
        write_rows(folder.prompts, rows)
    prompts = read_rows(folder.prompts, PromptRow)
    if [prompt.cell for prompt in prompts] != cells:
        raise RunError(f"{folder.prompts} was changed since the build began.", hint="Build into a new folder.")
    return prompts


def _settle_plan(folder: RunFolder, plan: list[PlanRow]) -> list[PlanRow]:
    """Write the plan; where shards may have been made by another one, raise RunError instead."""
    text = "".join(map(format_row, plan)).encode()
    if not (folder.plan.is_file() and folder.plan.read_bytes() == text):
        if folder.provenance.is_file():
            raise RunError(f"{folder.plan} is not the plan of this recipe any more.", hint="Build into a new folder.")
        write_bytes(folder.plan, text)
    return plan


def _settle_sources(
    folder: RunFolder, recipe: Recipe, plan: Sequence[PlanRow], work: ShardWork, engine: Any
) -> dict[str, Candidate]:
    """Have the executor make sources, in rounds, until the gates let one in for every identity they can."""
    encoder = None
    if recipe.encoder.backend:
        encoder = registry.create("encoder", recipe.encoder.backend, recipe.encoder.options)
    keeper = Keeper(recipe.gates, recipe.identities, encoder, recipe.demographics.categories)

    def make(attempt: int, shards: Sequence[int]) -> None:
        with out.progress(f"sources, attempt {attempt + 1}", len(shards)) as advance:
            engine.run(SourceWork(work, attempt), shards, lambda shard: advance())

    chosen = rounds.run_rounds(folder, plan, keeper, make)
    members = _members(plan)
    todo = [shard for shard in members if not _is_done(folder, members[shard], shard, chosen)]
    rounds.restore(folder, chosen, [row.id for shard in todo for row in members[shard] if row.id in chosen], make)
    return chosen


def _members(plan: Sequence[PlanRow]) -> dict[int, list[PlanRow]]:
    """Shard → its identities."""
    members: dict[int, list[PlanRow]] = {}
    for row in plan:
        members.setdefault(row.shard, []).append(row)
    return members


def _is_done(folder: RunFolder, members: Sequence[PlanRow], shard: int, chosen: Mapping[str, Candidate] | None) -> bool:
    return folder.is_done(shard, [row.id for row in members if chosen is None or row.id in chosen])


def _make_shards(
    folder: RunFolder,
    recipe: Recipe,
    plan: Sequence[PlanRow],
    work: ShardWork,
    engine: Any,
    chosen: Mapping[str, Candidate] | None,
) -> int:
    """Have the executor make every shard that is not done; returns how many. `chosen` have a source, if gated."""
    members = _members(plan)
    counts = {shard: sum(len(row.references) for row in rows) for shard, rows in members.items()}
    left = [shard for shard in members if not _is_done(folder, members[shard], shard, chosen)]
    if not left:
        return 0
    finished = recipe.image_total - sum(counts[shard] for shard in left)
    if finished:
        pictures = sum(counts[shard] + len(members[shard]) for shard in left)
        _check_space(folder.path, pictures * (_picture_bytes(recipe) + ROW))
        out.note(f"Resuming {folder.path}: {finished} of {recipe.image_total} images are there.")
    with out.progress("images", recipe.image_total, finished) as advance:
        engine.run(work, left, lambda shard: advance(counts[shard]))
    return len(left)


def _finish(folder: RunFolder, recipe: Recipe, plan: Sequence[PlanRow]) -> None:
    from facesyn.dataset.sheet import dataset_sheet
    from facesyn.imaging import encode_png

    shards = range(recipe.shard_total)
    write_bytes(folder.metadata, _joined(folder.shard(shard) / IMAGE_ROWS for shard in shards))
    write_bytes(folder.source_rows, _joined(folder.shard(shard) / SOURCE_ROWS for shard in shards))
    if recipe.gates.enabled:
        images = _joined(folder.shard(shard) / REJECTED_ROWS for shard in shards)
        write_bytes(folder.rejected, "".join(map(format_row, _rejected_sources(folder))).encode() + images)
        write_rows(folder.shortfalls, _shortfalls(folder, plan))
    write_bytes(folder.sheet, encode_png(dataset_sheet(folder, recipe, plan)))


def _rejected_sources(folder: RunFolder) -> list[RejectedRow]:
    return [
        RejectedRow(
            stage="generate",
            identity=row.id,
            attempt=row.attempt,
            seed=row.face_seed,
            gates=row.gates,
            rejected_by=row.rejected_by,
            nearest=row.nearest or None,
        )
        for candidates in rounds.settled(folder)
        for row in candidates
        if row.rejected_by
    ]


def _shortfalls(folder: RunFolder, plan: Sequence[PlanRow]) -> list[Shortfall]:
    """The cells that did not get what the plan asks for, in the plan's order."""
    sources = {row.identity for row in read_rows(folder.source_rows, SourceRow)}
    images = Counter(row.identity for row in read_rows(folder.metadata, ImageRow))
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


def _built(folder: RunFolder, recipe: Recipe, made: int) -> Built:
    if not recipe.gates.enabled:
        return Built(recipe.identities, recipe.image_total, made, [])
    sources, images = read_rows(folder.source_rows, SourceRow), read_rows(folder.metadata, ImageRow)
    return Built(len(sources), len(images), made, read_rows(folder.shortfalls, Shortfall))


def _joined(files: Iterable[Path]) -> bytes:
    return b"".join(file.read_bytes() for file in files)


def _picture_bytes(recipe: Recipe) -> int:
    bundles = registry.names(registry.Role.MODEL)
    return SMALL_PICTURE if recipe.transfer.options.get("model", "mini") in bundles else LARGE_PICTURE


def _check_space(path: Path, needed: int) -> None:
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise RunError(
            f"The disk of {path} has {free / 1e9:.1f} GB free; the build needs about {needed / 1e9:.1f} GB.",
            hint="Free some space, choose another folder, or scale down with --identities and --images.",
        )


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise RunError(
            f"Cannot write to {path}: {error.strerror}.",
            hint="Set that right and run the same command again: finished shards are kept.",
        ) from error
