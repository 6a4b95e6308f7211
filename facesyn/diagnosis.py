"""Finds out what runs on this machine. Loads backends, never weights."""

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from facesyn import __version__
from facesyn.errors import FacesynError
from facesyn.models import bundled
from facesyn.registry import Role, entries, missing_packages, names, why_unavailable

LIBRARIES = (
    "torch",
    "diffusers",
    "transformers",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "safetensors",
    "typer",
)

_NOT_FOR_USERS = ("all", "dev")


def diagnose() -> dict[str, Any]:
    """Facts about this machine, ready to be printed; each heading maps a name to one sentence."""
    folder = Path.cwd()
    return {
        "facesyn": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) or "not installed" for name in LIBRARIES},
        "devices": _devices(),
        "backends": {f"{entry.role} {entry.name}": why_unavailable(entry) or "runs" for entry in entries()},
        "extras": _extras(),
        "models": _models(),
        "folder": str(folder),
        "free_disk_bytes": shutil.disk_usage(folder).free,
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, str]:
    import torch

    devices = {"cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices[f"cuda:{index}"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if torch.cuda.device_count() == 0:
        devices["cuda"] = "none found"
    devices["mps"] = "available" if torch.backends.mps.is_available() else "none found"
    return devices


def _extras() -> dict[str, str]:
    """Per extra: installed, or the command that installs it."""
    return {
        extra: f"pip install 'facesyn[{extra}]'" if missing else "installed"
        for extra, missing in missing_packages("facesyn").items()
        if extra not in _NOT_FOR_USERS
    }


def _models() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names(Role.MODEL):
        try:
            parts = bundled(name)
        except FacesynError as error:
            found[name] = str(error)
        else:
            for part in parts:
                found[f"{name} {part.part}"] = f"{part.size / 1e6:.1f} MB, {part.licence}"
    return found
