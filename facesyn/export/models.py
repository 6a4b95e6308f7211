"""Export of whole models: their folders with a graph for every network, and what came out of comparing them."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facesyn import registry
from facesyn.errors import BackendError, ModelError, UsageError
from facesyn.export import precision as reduced
from facesyn.export.graphs import filled, linked, trace
from facesyn.export.layout import GRAPHS, PARITY, PRECISION, PRECISIONS
from facesyn.export.networks import Network, networks_of, part_of
from facesyn.models import resolve
from facesyn.records import write_bytes

TOLERANCE = 1e-3
"""Largest error of a float32 graph; see `relative_error`."""
BATCHES = (1, 3)
"""Batches that graphs are compared at; neither is what they are traced with."""
CARDS = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md")


def export_model(
    model: str, output: Path, precision: str, controlnet: str | None, report: Callable[[str], None]
) -> dict[str, Any]:
    """Write every part of `model` that graphs are made of to `output`, with its graphs; returns what parity.json says.

    `model` is a bundle's name, whose parts become folders, or one model's folder or hub id. Each folder is the model
    as it was, for PyTorch too, and its graphs; where `output` is the model's own folder, only graphs are added.
    Raises UsageError, BackendError or ModelError, the latter where a float32 graph is not what it should be.
    """
    _check(precision)
    parts = _parts(model, output)
    found: dict[str, Any] = {"precision": precision, "tolerance": TOLERANCE, "networks": {}}
    for part, (source, target) in parts.items():
        _copy(source, target)
        if part == "ufg" and controlnet is not None:
            _copy(resolve(controlnet, "controlnet"), target / "controlnet")
        with _quiet():
            networks = networks_of(part, target)
        for network in networks:
            report(f"{part}/{network.name}")
            with _quiet():
                errors = _export(network, target / network.file, precision)
            found["networks"][f"{part}/{network.name}"] = errors
    write_bytes(output / PARITY, (json.dumps(found, indent=2) + "\n").encode())
    return found


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, of the largest magnitude that is wanted."""
    return float(np.abs(found - wanted).max() / max(float(np.abs(wanted).max()), 1e-12))


def _check(precision: str) -> None:
    if precision not in PRECISIONS:
        raise UsageError(f"There is no precision called {precision!r}.", hint=f"Use one of {', '.join(PRECISIONS)}.")
    absent = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if absent:
        raise BackendError(f"Export needs {' and '.join(absent)}.", hint="pip install 'facesyn[onnx]'")


def _parts(model: str, output: Path) -> dict[str, tuple[Path, Path]]:
    """Part → where it is, where it goes."""
    if model in registry.names(registry.Role.MODEL):
        folders = registry.bundle(model).folders()
        return {part: (resolve(model, part), output / part) for part in GRAPHS if part in folders}
    folder = resolve(model, "ufg")
    return {part_of(folder): (folder, output)}


def _copy(source: Path, target: Path) -> None:
    if target.exists() and target.resolve() == source.resolve():
        return
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.rglob("*")):
        inside = file.relative_to(source)
        if file.is_file() and file.suffix in (".json", ".safetensors", ".txt") or file.name in CARDS:
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / inside)
    for name in CARDS:  # of a bundle, whose parts share one
        if (source.parent / name).is_file() and not (target / name).is_file():
            shutil.copyfile(source.parent / name, target / name)


def _export(network: Network, file: Path, precision: str) -> dict[str, float]:
    """Write a graph and compare it; nothing is left of one that is too far off."""
    import onnx

    traced = trace(network, file.parent)
    data = file.with_name(f"{file.name}.data")
    data.unlink(missing_ok=True)
    if precision == "fp32":
        model = linked(traced, file.parent)
    else:
        model = {"fp16": reduced.half, "int8": reduced.eight_bits}[precision](filled(traced, file.parent))
    model.metadata_props.add(key=PRECISION, value=precision)
    if precision == "fp32":
        write_bytes(file, model.SerializeToString())
    else:
        onnx.save(model, str(file), save_as_external_data=True, location=data.name)
    errors = _compare(network, file)
    worst = max(errors.values())
    if precision == "fp32" and not worst <= TOLERANCE:
        file.unlink()
        raise ModelError(f"The graph of {network.name} is off by {worst:.1e} of what PyTorch computes.")
    return errors


def _compare(network: Network, file: Path) -> dict[str, float]:
    """Output → the largest relative error at several batch sizes, to two digits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    errors = dict.fromkeys(network.outputs, 0.0)
    for batch in BATCHES:
        inputs = {name: _resized(tensor, batch) for name, tensor in network.inputs.items()}
        with torch.no_grad():
            wanted = network.module(*inputs.values())
        wanted = [wanted] if isinstance(wanted, torch.Tensor) else list(wanted)
        found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        for name, one, other in zip(network.outputs, found, wanted, strict=True):
            errors[name] = max(errors[name], relative_error(one, other.numpy()))
    return {name: float(f"{error:.2g}") for name, error in errors.items()}


def _resized(tensor: torch.Tensor, batch: int) -> torch.Tensor:
    """A batch of another size, its rows all different."""
    rows = torch.cat([tensor, tensor.flip(-1)])
    return rows[:batch].contiguous()


@contextmanager
def _quiet() -> Iterator[None]:
    """Quantisation and the exporter log what they think of a graph; parity says what it is worth."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
