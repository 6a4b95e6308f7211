"""How long a build will take and how large it will be, from a few pictures made in this process and thrown away."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from facesyn import registry
from facesyn.banks import bank_folder, read_bank
from facesyn.dataset.build import default_workers
from facesyn.dataset.plan import make_plan, planned_cells
from facesyn.dataset.recipe import Recipe, format_recipe
from facesyn.dataset.run_folder import RunFolder
from facesyn.dataset.shard import ShardWork
from facesyn.records import write_bytes, write_rows

PEOPLE = 4
"""Most people of a measured shard; there are three shards."""


@dataclass(frozen=True)
class Measured:
    """Of one worker: seconds until it is ready, per source and per image; and what the whole recipe comes to.

    Pictures that the gates refuse and have made again are not foreseen.
    """

    start: float
    source: float
    image: float
    hours: float
    """Of one worker; so many workers share them."""
    bytes: int
    gpu: bool
    """Whether a GPU did the work, so that the hours are hours of a GPU."""


def measure(recipe: Recipe) -> Measured:
    """Make three small shards as a worker does: to warm up, with one image of each person, and with several.

    Source and image have different prices, and the difference of the last two shards tells them apart. Raises what a
    build raises.
    """
    people = min(recipe.shard_size, recipe.batch_size, PEOPLE)
    several = 1 + max(2, -(-recipe.batch_size // people))
    changes = {"identities": 3 * people, "images": several, "shard_size": people, "extended_from": []}
    gates = recipe.gates.model_copy(update={"enabled": False})
    small = recipe.model_copy(update=changes | {"gates": gates})
    with tempfile.TemporaryDirectory(prefix="facesyn-measure-") as place:
        folder = RunFolder(Path(place))
        _prepare(folder, small)
        with folder.locked():
            folder.begin()
            work = ShardWork(folder.path, ())
            seconds = []
            for shard in range(3):
                begun = time.perf_counter()
                work(shard)
                seconds.append(time.perf_counter() - begun)
        size = sum(file.stat().st_size for file in _files_of(folder, shard=2, people=people))
    image = max(0.0, seconds[2] - seconds[1]) / (people * (several - 1))
    source = max(0.0, seconds[1] / people - image)
    made = recipe.image_total * image + recipe.identities * source
    return Measured(
        start=max(0.0, seconds[0] - seconds[1]),
        source=source,
        image=image,
        hours=made / 3600,
        bytes=round(size / (people * (several + 1)) * (recipe.image_total + recipe.identities)),
        gpu=default_workers(recipe) == 1,
    )


def _prepare(folder: RunFolder, recipe: Recipe) -> None:
    """What a worker expects to find: recipe, prompts, and a plan of one image each but in the last shard."""
    writer = registry.create("prompter", recipe.prompts.backend, recipe.prompts.options)
    prompts = list(writer.write(planned_cells(recipe), seed=recipe.seed))
    edges = read_bank(bank_folder(recipe.generate.edges, "edges"))
    references = read_bank(bank_folder(recipe.transfer.references, "references"))
    plan = make_plan(recipe, prompts, edges, references)
    write_bytes(folder.recipe, format_recipe(recipe).encode())
    write_rows(folder.prompts, prompts)
    write_rows(
        folder.plan,
        [row if row.shard == 2 else row.model_copy(update={"references": row.references[:1]}) for row in plan],
    )


def _files_of(folder: RunFolder, shard: int, people: int) -> list[Path]:
    last = sorted(folder.sources.glob("*.png"))[-people:]
    pictures = [file for source in last for file in folder.path.glob(f"*/{source.stem}/*.png")]
    return [*last, *pictures, *folder.shard(shard).glob("*.jsonl")]
