"""The samplers a model can be run with, by name or as a folder says. Loads diffusers when used; knows no networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facesyn.errors import ModelError, UsageError
from facesyn.model_folder import read_json
from facesyn.registry import suggest

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "dpmpp-2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp-2m-karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
"""Deterministic given the initial noise, so that a picture is a function of its seed."""


def named_scheduler(name: str, config: Mapping[str, Any]) -> Any:
    """The scheduler of that name for a model whose own has `config`. Raises UsageError for an unknown name."""
    import diffusers

    if name not in SCHEDULERS:
        raise UsageError(f"There is no scheduler called {name!r}.", hint=suggest(name, SCHEDULERS, "Schedulers"))
    kind, options = SCHEDULERS[name]
    return getattr(diffusers, kind).from_config(config, **options)


def load_scheduler(folder: Path) -> Any:
    """The scheduler saved in `folder`. Raises ModelError where it holds none that diffusers knows."""
    import diffusers

    config = read_json(folder / "scheduler_config.json", "A model folder has a scheduler/ with scheduler_config.json.")
    name = str(config.get("_class_name"))
    kind = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if kind is None:
        raise ModelError(f"{folder} asks for the scheduler {name!r}, which diffusers does not have.")
    return kind.from_config(config)
