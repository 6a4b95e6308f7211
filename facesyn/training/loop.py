"""The one training loop: steps, exponential moving average, checkpoints, log. Knows nothing of what is trained.

A run folder holds `checkpoint.pt` (everything needed to go on), `log.jsonl` (one line per report) and whatever the
validation writes. Every step draws its randomness from (seed, step), so a resumed run sees the same batches. Under
`torchrun` every process draws batches of its own, and gradients are averaged.
"""

import copy
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from safetensors.torch import load_file
from torch import nn

from facesyn.errors import FacesynError, UsageError

Losses = Mapping[str, torch.Tensor]

PATIENCE = timedelta(hours=12)
"""How long processes wait for the first one, which encodes all latents and validates alone."""


@dataclass(frozen=True)
class Settings:
    """`steps` in all; the learning rate warms up linearly, stays, and falls to zero over the last `cooldown` share.

    `minutes` ends a sitting early with a checkpoint, as an interrupt does; the next one goes on. `start` is the folder
    of another run, or of a saved model, to begin from: its (averaged) tensors, wherever name and shape are the same.
    `batch_size` is each process's. `device` is `cpu`, or `cuda` or `mps`, of which every process takes its own. `bf16`
    pays only where `facesyn.tensors.has_bf16` is true.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 200
    cooldown: float = 0.2
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    minutes: float | None = None
    start: Path | None = None
    seed: int = 0
    threads: int = 2
    device: str = "cpu"
    bf16: bool = False
    report_every: int = 100
    validate_every: int = 1000

    def rate(self, step: int) -> float:
        """Learning rate at a step."""
        start = self.steps * (1 - self.cooldown)
        falling = (self.steps - step) / max(self.steps - start, 1)
        return self.learning_rate * min(1.0, (step + 1) / max(self.warmup, 1), max(falling, 0.0))


class _Learner(nn.Module):
    """A module with its losses: one call is one step, as processes that share gradients want it."""

    def __init__(self, module: nn.Module, losses: Callable[[np.random.Generator, torch.Generator], Losses]):
        super().__init__()
        self.module, self._losses = module, losses

    def forward(self, rng: np.random.Generator, generator: torch.Generator) -> Losses:
        return self._losses(rng, generator)


class Run:
    """A resumable training run of one module (which may hold several that learn together).

    What `losses` computes with must be on `device`; its generators draw on the CPU, the same on every device.
    """

    def __init__(self, folder: Path, module: nn.Module, settings: Settings):
        self.folder, self.module, self.settings = folder, module, settings
        folder.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(settings.threads)
        if settings.start is not None:
            _begin_from(settings.start, module)
        self.accelerator = Accelerator(
            cpu=settings.device == "cpu", kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)]
        )
        self.device = self.accelerator.device
        module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions share two threads better
        self.average = copy.deepcopy(module).requires_grad_(False).eval()
        parameters = [p for p in module.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            parameters,
            lr=settings.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.parameters = parameters
        self.step = 0
        self.seconds = 0.0
        if self.checkpoint.exists():
            self._load()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def _load(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True, map_location="cpu")
        self.module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        """Write the checkpoint whole or not at all."""
        state = {
            "module": self.module.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.settings.ema_decay, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self.average.parameters(), self.module.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
        for kept, buffer in zip(self.average.buffers(), self.module.buffers(), strict=True):
            if buffer.is_floating_point():  # batch statistics belong to the weights they were measured with
                kept.lerp_(buffer, 1 - decay)
            else:
                kept.copy_(buffer)

    def go(
        self,
        losses: Callable[[np.random.Generator, torch.Generator], Losses],
        validate: Callable[[nn.Module, int], Mapping[str, float]],
        report: Callable[[str], None],
    ) -> bool:
        """Train to the last step, or until the sitting's minutes are over. Returns whether the last step was reached.

        `losses` gives the terms of one step; their sum is minimised. `validate` gets the averaged module, on the CPU,
        and the step.
        """
        learner = self.accelerator.prepare(_Learner(self.module, losses))
        with _asked_to_stop() as stopping:
            return self._go(learner, validate, report, stopping)

    def _go(
        self,
        learner: Callable[[np.random.Generator, torch.Generator], Losses],
        validate: Callable[[nn.Module, int], Mapping[str, float]],
        report: Callable[[str], None],
        stopping: Callable[[], bool],
    ) -> bool:
        settings = self.settings
        began = reported = time.monotonic()
        running: dict[str, float] = {}
        count = 0
        while self.step < settings.steps:
            for group in self.optimiser.param_groups:
                group["lr"] = settings.rate(self.step)
            draw = self.step * self.accelerator.num_processes + self.accelerator.process_index
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + draw)
            self.module.train()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.bf16):
                terms = learner(np.random.default_rng([settings.seed, draw]), generator)
                total = torch.stack([term.float() for term in terms.values()]).sum()
            if not torch.isfinite(total):
                raise FacesynError(
                    f"The loss of step {self.step} is not finite ({dict(terms)}).",
                    hint="Lower the learning rate.",
                )
            self.optimiser.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_(self.parameters, settings.clip_norm)
            self.optimiser.step()
            self.step += 1
            self._update_average()
            count += 1
            for name, term in terms.items():
                running[name] = running.get(name, 0.0) + float(term.detach())
            over = settings.minutes is not None and time.monotonic() - began > settings.minutes * 60
            over = self._any(over or stopping())
            last = over or self.step == settings.steps
            validating = self.step % settings.validate_every == 0 or last
            if self.step % settings.report_every == 0 or validating:
                now = time.monotonic()
                self.seconds += now - reported
                batch = settings.batch_size * self.accelerator.num_processes
                line: dict[str, float] = {"step": self.step, "samples": self.step * batch}
                line |= {name: round(value / count, 5) for name, value in running.items()}
                line["samples_per_second"] = round(count * batch / (now - reported), 2)
                line["hours"] = round(self.seconds / 3600, 3)
                if self.accelerator.is_main_process:
                    self._report(line, validate if validating else None, report)
                self.accelerator.wait_for_everyone()
                reported, running, count = time.monotonic(), {}, 0
            if over:
                break
        return self.step >= settings.steps

    def _any(self, over: bool) -> bool:
        """Whether it is over for any process: all have to end at the same step."""
        if self.accelerator.num_processes == 1:
            return over
        return bool(self.accelerator.reduce(torch.tensor(float(over), device=self.device)) > 0)

    def _report(
        self,
        line: dict[str, float],
        validate: Callable[[nn.Module, int], Mapping[str, float]] | None,
        report: Callable[[str], None],
    ) -> None:
        if validate is not None:
            figures = validate(copy.deepcopy(self.average).cpu(), self.step)
            line |= {f"held_out_{name}": round(value, 4) for name, value in figures.items()}
            self.save()
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        report(json.dumps(line))


def _begin_from(folder: Path, module: nn.Module) -> None:
    old = _weights(folder, module)
    own = module.state_dict()
    same = {name: value for name, value in old.items() if name in own and own[name].shape == value.shape}
    if not same:
        raise UsageError(f"What is in {folder} shares no tensor with this model.", hint="Start from the same kind.")
    module.load_state_dict(same, strict=False)


def _weights(folder: Path, module: nn.Module) -> dict[str, torch.Tensor]:
    """The averaged ones of a run, or those of a saved model or of a pipeline with parts named as those of `module`."""
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.is_file():
        average: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True, map_location="cpu")["average"]
        return average
    places = {"": folder} | {f"{name}.": folder / name for name, _ in module.named_children()}
    found = {
        prefix + name: value
        for prefix, place in places.items()
        for file in sorted(place.glob("*.safetensors"))
        for name, value in load_file(file).items()
    }
    if not found:
        raise UsageError(
            f"There are no weights in {folder}.", hint="Pass the folder of a run, or one of a model that was saved."
        )
    return found


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT or SIGTERM into a question to be asked between steps; a second one acts as usual."""
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        asked.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, ask)
    try:
        yield lambda: bool(asked)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
