"""How fast pictures are made here: runtimes against each other, plain diffusers, and the networks alone.

All that is compared takes turns in one run, so that a busy machine slows all of it down; figures are medians.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from facesyn import registry
from facesyn.banks import bank_folder, read_bank
from facesyn.dataset.recipe import load_recipe
from facesyn.imaging import load_edge_map, load_image
from facesyn.model_folder import default_settings
from facesyn.models import resolve
from facesyn.stopwatch import Stopwatch, watching
from facesyn.ufg import generation_settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from facesyn.records import PromptRow

BATCH = 8
PLAIN = "diffusers, plain"


@dataclass(frozen=True)
class Runtime:
    """A backend with options, that plays generator and transfer."""

    name: str
    backend: str
    options: Mapping[str, Any] = field(default_factory=dict)
    ufg: str = "mini"
    atd: str = "mini"

    def generator(self) -> Any:
        return registry.create(registry.Role.GENERATOR, self.backend, {"model": self.ufg, **self.options})

    def transfer(self) -> Any:
        return registry.create(registry.Role.TRANSFER, self.backend, {"model": self.atd, **self.options})


@dataclass(frozen=True)
class Work:
    """What one turn makes: 8 faces, and 8 transfers of 2 people, of pictures that no turn before has seen."""

    prompts: list["PromptRow"]
    edges: list["Image"]
    sources: list["Image"]
    references: list["Image"]
    seeds: list[int]


Make = Callable[[Work, int], None]
"""Makes as many pictures of a `Work` as it is told."""


def runtimes(model: str, compiled: bool, exported: Path | None) -> list[Runtime]:
    """The runtimes to compare, facesyn's default first; `exported` holds int8 graphs of both parts, if wanted."""
    found = [Runtime("torch", "diffusers", {}, model, model)]
    if Runtime("", "auto", {}, model, model).generator().facts()["backend"] == "onnx":
        found.insert(0, Runtime("onnx", "onnx", {}, model, model))
    if compiled:
        found.append(Runtime("torch compiled", "diffusers", {"compile": True}, model, model))
    if exported is not None:
        found.append(Runtime("onnx int8", "onnx", {}, str(exported / "ufg"), str(exported / "atd")))
    return found


def measure(compared: Sequence[Runtime], rounds: int, report: Callable[[str], None]) -> dict[str, Any]:
    """Pictures per second of every runtime; the ratios of the first of `compared` to plain diffusers, by the clock
    and by processor time.

    The first round warms up and does not count.
    """
    default = compared[0].name
    stages = {"generate": _generators(compared), "transfer": _transfers(compared)}
    figures: dict[str, Any] = {"ratios": {}, "cpu_ratios": {}}
    for stage, makers in stages.items():
        seconds: dict[tuple[str, int], list[float]] = {(name, size): [] for name in makers for size in (1, BATCH)}
        computed: dict[tuple[str, int], list[float]] = {key: [] for key in seconds}
        inside: list[float] = []
        for number in range(rounds + 1):
            report(f"{stage}, round {number} of {rounds}" if number else f"{stage}, warming up")
            work = _work(number)
            for (name, size), taken in seconds.items():
                with watching() as watch:
                    spent, cpu = _time(makers[name], work, size)
                if number:
                    taken.append(spent)
                    computed[name, size].append(cpu)
                    if (name, size) == (default, BATCH):
                        inside.append(watch.seconds / BATCH)
        figures[stage] = {
            name: {f"batch {size}": round(1 / median(seconds[name, size]), 3) for size in (1, BATCH)} for name in makers
        } | {"networks alone": {f"batch {BATCH}": round(1 / median(inside), 3)}}

        for kind, measured in (("ratios", seconds), ("cpu_ratios", computed)):
            for label, size, plain in (("", BATCH, 1), ("_batch_1", 1, 1), (f"_batch_{BATCH}", BATCH, BATCH)):
                turns = zip(measured[PLAIN, plain], measured[default, size], strict=True)
                figures[kind][f"{stage}_vs_diffusers{label}"] = round(median(slow / fast for slow, fast in turns), 2)
    return figures


def overhead(identities: int = 8, images: int = 4) -> float:
    """Share of the wall time of a small gated build, after loading, that is not spent in networks.

    Loading ends with the first shard's first sources; the gates' detector counts as a network. The build has a process
    of its own, as builds do: what was measured before must not stand in its way.
    """
    return _alone(_overhead, identities, images)


def _overhead(identities: int, images: int) -> float:
    from facesyn.dataset.build import build

    recipe = load_recipe("demo").scaled(identities, images)
    detector = registry.load(registry.Role.DETECTOR, recipe.gates.detector)
    with watching((detector, "detect")) as watch, tempfile.TemporaryDirectory() as folder:
        here = _Here(watch)
        build(recipe, Path(folder) / "dataset", executor=here)
        wall = time.perf_counter() - here.began
        return round(1 - (watch.seconds - here.before) / wall, 4)


def peak_memory(runtime: Runtime) -> int:
    """Bytes a fresh process takes at most, that makes 8 faces and 8 transfers; by what the system says of it."""
    return _alone(_peak, runtime)


def _peak(runtime: Runtime) -> int:
    import resource

    work = _work(0)
    runtime.generator().generate(work.prompts, work.edges, work.seeds)
    runtime.transfer().transfer(work.sources, work.references, work.seeds)
    status = Path("/proc/self/status")
    if status.is_file():  # Linux hands a parent's ru_maxrss on to its children, but not this
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _alone(measured: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a new process."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, arguments)


class _Here:
    """An executor in this process, that begins to count once everything is loaded: after the first shard."""

    def __init__(self, watch: Stopwatch):
        self._watch = watch
        self.began = self.before = 0.0

    def run(self, work: Callable[[int], None], shards: Sequence[int], on_done: Callable[[int], None]) -> list[int]:
        """See `facesyn.protocols.Executor`."""
        for shard in shards:
            work(shard)
            on_done(shard)
            if not self.began:
                self.began, self.before = time.perf_counter(), self._watch.seconds
        return []


def _time(make: Make, work: Work, size: int) -> tuple[float, float]:
    """Seconds per picture, by the clock and of this process's processor time, which a busy machine changes less."""
    began, before = time.perf_counter(), time.process_time()
    make(work, size)
    return (time.perf_counter() - began) / size, (time.process_time() - before) / size


def _generators(compared: Sequence[Runtime]) -> dict[str, Make]:
    made = {runtime.name: runtime.generator() for runtime in compared}

    def by(generator: Any) -> Make:
        return lambda work, size: generator.generate(work.prompts[:size], work.edges[:size], work.seeds[:size])

    return {PLAIN: _plain_generator(resolve(compared[0].ufg, "ufg"))} | {
        name: by(generator) for name, generator in made.items()
    }


def _transfers(compared: Sequence[Runtime]) -> dict[str, Make]:
    made = {runtime.name: runtime.transfer() for runtime in compared}

    def by(transfer: Any) -> Make:
        return lambda work, size: transfer.transfer(work.sources[:size], work.references[:size], work.seeds[:size])

    return {PLAIN: _plain_transfer(resolve(compared[0].atd, "atd"))} | {
        name: by(transfer) for name, transfer in made.items()
    }


def _plain_generator(folder: Path) -> Make:
    """Diffusers' pipeline as its documentation shows it, with the model's own steps and scales."""
    import torch
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

    controlnet = ControlNetModel.from_pretrained(folder / "controlnet", dtype=torch.float32)
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        folder, controlnet=controlnet, safety_checker=None, requires_safety_checker=False, dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    settings = generation_settings(default_settings(folder))

    def make(work: Work, size: int) -> None:
        pipeline(
            [row.prompt for row in work.prompts[:size]],
            image=[edge.convert("RGB") for edge in work.edges[:size]],
            negative_prompt=[row.negative_prompt for row in work.prompts[:size]],
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            controlnet_conditioning_scale=settings.conditioning_scale,
            generator=[torch.Generator().manual_seed(seed) for seed in work.seeds[:size]],
        )

    return make


def _plain_transfer(folder: Path) -> Make:
    """The equivalent for ATD: encode both pictures, denoise under guidance, decode; nothing is remembered."""
    from facesyn.atd import ATDPipeline
    from facesyn.atd.transfer import transfer_settings
    from facesyn.tensors import to_pictures, to_tensor

    pipeline = ATDPipeline.from_pretrained(folder)
    settings = asdict(transfer_settings(default_settings(folder)))

    def make(work: Work, size: int) -> None:
        sources, references = (to_tensor(part[:size], pipeline.size) for part in (work.sources, work.references))
        to_pictures(pipeline(sources, references, work.seeds[:size], **settings))

    return make


def _work(number: int) -> Work:
    """New for every number, up to the size of the banks."""
    cells = load_recipe("demo").demographics.to_demographics().plan(BATCH, number)
    prompts = list(registry.create(registry.Role.PROMPTER, "template").write(cells, seed=number))
    edges = read_bank(bank_folder("mini", "edges"))
    faces = read_bank(bank_folder("mini", "references"))
    people, styles = 2, BATCH
    chosen = [
        load_image(faces[index % len(faces)].path) for index in np.arange(people + styles) + number * (people + styles)
    ]
    return Work(
        prompts=prompts,
        edges=[load_edge_map(edges[(number * BATCH + index) % len(edges)].path) for index in range(BATCH)],
        sources=[chosen[index * people // BATCH] for index in range(BATCH)],
        references=chosen[people:],
        seeds=[number * BATCH + index for index in range(BATCH)],
    )
