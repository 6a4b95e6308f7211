"""Builds a dataset from a recipe: checks, prompts, plan, shards, segment by segment; and extends a finished one.

Decides what is made and what is left to make; how pictures are made is `shard`'s, where is the executor's.
"""

import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesyn import __version__, registry
from facesyn.banks import BankPicture, bank_folder, digest, read_bank
from facesyn.dataset import rounds
from facesyn.dataset.finish import Built, count, finish, is_finished, unfinish
from facesyn.dataset.forecast import check_space
from facesyn.dataset.plan import PlanRow, Segment, make_plan, planned_cells, segments
from facesyn.dataset.recipe import Recipe, format_recipe, parse_recipe
from facesyn.dataset.rounds import Candidate
from facesyn.dataset.run_folder import RunFolder
from facesyn.dataset.shard import ShardWork, SourceWork
from facesyn.errors import BackendError, RunError, UsageError
from facesyn.gates.keeper import Keeper
from facesyn.models import resolve
from facesyn.out import out
from facesyn.records import PromptRow, read_rows, write_bytes, write_rows
from facesyn.strata import stratify

if TYPE_CHECKING:
    from facesyn.protocols import Executor

LOCAL = "local"
"""The executor that is used where none is named."""

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


def check_recipe(recipe: Recipe) -> None:
    """Raises UsageError, BackendError or ModelError for what a recipe names and nobody knows, or cannot run here."""
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
    if recipe.output.aligned:
        resolve(recipe.output.landmarker, "landmarker")
    bank_folder(recipe.generate.edges, "edges")
    references = read_bank(bank_folder(recipe.transfer.references, "references"))
    stratify(references, recipe.transfer.strata, recipe.transfer.quotas)


def build(
    recipe: Recipe,
    path: Path,
    workers: int | None = None,
    executor: "str | Executor" = LOCAL,
    executor_options: Mapping[str, Any] | None = None,
) -> Built:
    """Make the dataset of `recipe` in the folder `path`, or what is still missing of it.

    The result's bytes depend on the recipe, the models and the banks alone. `executor` is a backend's name, with
    `executor_options`, or one that was made. `workers` is the executor's own default where None, and 1 where a GPU of
    this machine does the work. Raises UsageError, BackendError, ModelError, ImageError or RunError, the last also where
    shards had to be given up; finished shards stay.
    """
    folder = RunFolder(path)
    with _disk_errors(path):
        folder.check(recipe)
        check_recipe(recipe)
        engine = executor
        if isinstance(executor, str):
            workers = workers or (default_workers(recipe) if executor == LOCAL else None)
            options = dict(executor_options or {}) | ({"workers": workers} if workers else {})
            engine = registry.create("executor", executor, options)
        begun = folder.recipe.is_file()
        edges = _open_bank(recipe.generate.edges, "edges", check=not begun)
        references = _open_bank(recipe.transfer.references, "references", check=not begun)
        if not begun:
            check_space(path, recipe, recipe.image_total, recipe.identities)
        path.mkdir(parents=True, exist_ok=True)
        with folder.locked():
            folder.check(recipe)
            if not folder.recipe.is_file():
                write_bytes(folder.recipe, format_recipe(recipe).encode())
            folder.begin()
            banks = {"edges": digest(edges), "references": digest(references)}
            folder.pin({"facesyn": __version__, **banks}, whole=False)
            plan = _settle_plan(folder, recipe, _settle_prompts(folder, recipe), edges, references)
            work = ShardWork(path.absolute(), tuple(banks.items()))
            builder = _Builder(folder, recipe, plan, work, engine)
            made = sum([builder.make(segment) for segment in segments(recipe)])
            if made or not is_finished(folder, recipe):
                finish(folder, recipe, plan)
            if recipe.gates.enabled:
                rounds.clear(folder)
        return count(folder, recipe, made)


def extend(path: Path, identities: int, **options: Any) -> Built:
    """Give the dataset in the folder `path` more people, `identities` altogether; `options` are those of `build`.

    What is there stays, byte for byte, and nobody new looks like anybody there. An unfinished dataset is finished
    first, so the same call goes on after an interruption, and adds nothing a second time. Raises as `build`.
    """
    folder = RunFolder(path)
    if not folder.recipe.is_file():
        raise UsageError(f"{path} holds no dataset to extend.", hint="Make one: facesyn dataset build RECIPE -o DIR.")
    recipe = parse_recipe(folder.recipe.read_text(encoding="utf-8"), str(folder.recipe))
    if identities < recipe.identities:
        raise UsageError(
            f"{path} has {recipe.identities} identities already, more than {identities}.",
            hint="Give the number of identities the dataset is to have in all.",
        )
    built = build(recipe, path, **options)
    if identities == recipe.identities:
        return built
    larger = recipe.extended(identities)
    with _disk_errors(path), folder.locked():
        folder.check(recipe)
        if larger.gates.enabled:  # limits follow the number of people
            _pin_gates(folder, _keeper(larger, larger.identities, _encoder(larger)))
        unfinish(folder, recipe)
        write_bytes(folder.recipe, format_recipe(larger).encode())
    return build(larger, path, **options)


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
    cells = planned_cells(recipe)
    prompts = read_rows(folder.prompts, PromptRow) if folder.prompts.is_file() else []
    for segment in segments(recipe):
        if len(prompts) > segment.identities.start:
            continue
        writer = registry.create("prompter", recipe.prompts.backend, recipe.prompts.options)
        asked = cells[segment.identities.start : segment.identities.stop]
        prompts += writer.write(asked, seed=recipe.seed, first=segment.identities.start)
        as_asked = [row.cell for row in prompts] == cells[: segment.identities.stop]
        if not as_asked or len({row.id for row in prompts}) != len(prompts):
            raise BackendError(f"The prompter backend {recipe.prompts.backend!r} did not write one row per identity.")
        write_rows(folder.prompts, prompts)
    if [prompt.cell for prompt in prompts] != cells:
        raise RunError(f"{folder.prompts} was changed since the build began.", hint="Build into a new folder.")
    return prompts


def _settle_plan(
    folder: RunFolder,
    recipe: Recipe,
    prompts: Sequence[PromptRow],
    edges: Sequence[BankPicture],
    references: Sequence[BankPicture],
) -> list[PlanRow]:
    """The plan of the run, written once; to be made again it takes longer than to be read.

    Raises RunError where shards may have been made by a plan that is not of these prompts. Recipe and banks are known
    to be the same then.
    """
    before = read_rows(folder.plan, PlanRow) if folder.plan.is_file() and folder.provenance.is_file() else []
    known = zip(before, prompts, strict=False)
    if len(before) > len(prompts) or any((row.id, row.face_seed) != (prompt.id, prompt.seed) for row, prompt in known):
        raise RunError(f"{folder.plan} is not the plan of this recipe any more.", hint="Build into a new folder.")
    if len(before) == len(prompts):
        return before
    plan = make_plan(recipe, prompts, edges, references)
    write_rows(folder.plan, plan)
    return plan


@dataclass(frozen=True)
class _Builder:
    """Has an executor make what is missing of a run folder."""

    folder: RunFolder
    recipe: Recipe
    plan: Sequence[PlanRow]
    work: ShardWork
    engine: Any

    @cached_property
    def encoder(self) -> Any:
        """Opened where sources are to be judged, not to find that all is done."""
        return _encoder(self.recipe)

    def make(self, segment: Segment) -> int:
        """Make every shard of a segment that is not done; returns how many."""
        members: dict[int, list[PlanRow]] = {}
        for row in self.plan[segment.identities.start : segment.identities.stop]:
            members.setdefault(row.shard, []).append(row)
        chosen = self._settle_sources(segment) if self.recipe.gates.enabled else None
        sourced = {
            shard: [row.id for row in rows if chosen is None or row.id in chosen] for shard, rows in members.items()
        }
        left = [shard for shard in members if not self.folder.looks_done(shard, sourced[shard])]
        if not left:
            return 0
        if chosen is not None:
            wanted = [identity for shard in left for identity in sourced[shard]]
            rounds.restore(self.folder, chosen, wanted, self._make_sources)
        counts = {shard: sum(len(row.references) for row in rows) for shard, rows in members.items()}
        before = sum(len(row.references) for row in self.plan[: segment.identities.start])
        finished = segment.images - sum(counts[shard] for shard in left)
        if finished or before:
            people = sum(len(members[shard]) for shard in left)
            check_space(self.folder.path, self.recipe, sum(counts[shard] for shard in left), people)
        if finished:
            there = f"{before + finished} of {self.recipe.image_total} images are there"
            out.note(f"Resuming {self.folder.path}: {there}.")
        with out.progress("images", segment.images, finished) as advance:
            self._run(self.work, left, lambda shard: advance(counts[shard]))
        return len(left)

    def _settle_sources(self, segment: Segment) -> dict[str, Candidate]:
        """Have sources made, in rounds, until the gates let one in for every identity they can."""
        plan = self.plan[segment.identities.start : segment.identities.stop]
        judged = rounds.settled(self.folder, segment.number)
        if len(judged) < self.recipe.gates.attempts and rounds.open_rows(plan, judged):
            # The limits of a segment are those of the dataset as it was asked for then.
            keeper = _keeper(self.recipe, segment.identities.stop, self.encoder)

            def known() -> rounds.Known:
                names, embeddings = keeper.known()
                if segment.number and self.encoder is not None:
                    earlier = self.plan[: segment.identities.start]
                    there, theirs = rounds.published(self.folder, earlier, self.encoder)
                    names, embeddings = names + there, embeddings + theirs
                return names, embeddings

            rounds.run_rounds(self.folder, segment.number, plan, judged, keeper, known, self._make_sources)
        return rounds.accepted(judged)

    def _make_sources(self, attempt: int, shards: Sequence[int]) -> None:
        with out.progress(f"sources, attempt {attempt + 1}", len(shards)) as advance:
            self._run(SourceWork(self.work, attempt), shards, lambda shard: advance())

    def _run(self, work: Any, shards: Sequence[int], on_done: Any) -> None:
        """Raises RunError, after the others, for shards that were given up; a later build tries them again.

        So a dataset is never finished without a shard: its uniqueness depends on everybody in it.
        """
        given_up = self.engine.run(work, shards, on_done)
        if given_up:
            raise RunError(
                f"Shards given up, because their worker died every time: {', '.join(map(str, sorted(given_up)))}; "
                f"the other {len(shards) - len(given_up)} are made.",
                hint="Run the same command again to try them again. If memory ran out, use fewer workers.",
            )


def _encoder(recipe: Recipe) -> Any:
    return (
        registry.create("encoder", recipe.encoder.backend, recipe.encoder.options) if recipe.encoder.backend else None
    )


def _keeper(recipe: Recipe, identities: int, encoder: Any) -> Keeper:
    return Keeper(recipe.gates, identities, encoder, recipe.demographics.categories)


def _pin_gates(folder: RunFolder, keeper: Keeper) -> None:
    """Replace the limits that provenance.json tells of."""
    facts = json.loads(folder.provenance.read_text(encoding="utf-8")) | {"gates": keeper.facts()}
    folder.write_provenance(facts)


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
