"""From training runs and renders to the folders of a model bundle: fp16 weights, settings, edge and style banks.

    python -m facesyn.training.release RUNS BANK_RENDERS backends/mini

`RUNS` holds the run folders `decoder`, `ufg`, `atd`, `recogniser`, `judge`, `landmarker` and `classifier`;
`BANK_RENDERS` holds shards of people and styles used for nothing else.
"""

import io
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from facesyn.records import METADATA
from facesyn.references.edges import inner_face
from facesyn.rendered import REFERENCE_STYLE, RenderedFaces, read_renders
from facesyn.training.ufg import SAMPLING, edge_maps

SETTINGS = {
    "ufg": SAMPLING,
    "atd": {"steps": 1, "identity_scale": 1.0, "style_scale": 1.0, "mirrored": True},  # the step it was trained for
}
EDGES_PER_CELL, REFERENCES = 24, 120


def release(runs: Path, renders: Path, bundle: Path) -> None:
    """Replace the parts of `bundle` by what `runs` and `renders` hold."""
    for part in ("ufg", "atd", "recogniser", "judge", "landmarker", "classifier"):
        release_model(runs / part / "model", bundle / part)
        if part in SETTINGS:
            release_model(runs / "decoder" / "vae", bundle / part / "vae")  # better than the one they were trained with
            _write(bundle / part / "facesyn.json", json.dumps(SETTINGS[part], indent=2) + "\n")
    faces = read_renders(renders)
    write_edges(faces, bundle / "edges")
    write_references(faces, bundle / "references")


def release_model(model: Path, folder: Path) -> None:
    """Copy a diffusers folder with its weights as fp16; integer buffers stay as they are."""
    if folder.exists():
        shutil.rmtree(folder)
    for file in sorted(model.rglob("*")):
        target = folder / file.relative_to(model)
        if file.suffix == ".safetensors":
            target.parent.mkdir(parents=True, exist_ok=True)
            weights = {
                name: tensor.half() if tensor.is_floating_point() else tensor
                for name, tensor in load_file(file).items()
            }
            save_file(weights, target, metadata={"format": "pt"})
        elif file.name == "config.json":  # says where its maker kept it
            target.parent.mkdir(parents=True, exist_ok=True)
            config = json.loads(file.read_text(encoding="utf-8"))
            config.pop("_name_or_path", None)
            _write(target, json.dumps(config, indent=2, sort_keys=True) + "\n")
        elif file.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def write_edges(faces: RenderedFaces, folder: Path) -> None:
    """The inner-face edges of `EDGES_PER_CELL` people of every cell, with their cell and five landmarks."""
    edges, size = edge_maps(faces), faces.images.shape[1]
    taken: dict[tuple[str, ...], int] = {}
    pictures, rows = [], []
    for index in faces.sources.values():
        label = faces.labels[index]
        cell = (label["ethnicity"], label["gender"], label["age_interval"])
        taken[cell] = taken.get(cell, 0) + 1
        if taken[cell] > EDGES_PER_CELL:
            continue
        mask = inner_face(np.array(label["landmarks"]), size, size)
        pictures.append(Image.fromarray(np.where(mask, edges[index], 0).astype(np.uint8)))
        rows.append({name: label[name] for name in ("ethnicity", "gender", "age_interval", "landmarks")})
    _write_bank(folder, pictures, rows, "png")


def write_references(faces: RenderedFaces, folder: Path) -> None:
    """`REFERENCES` styled pictures, as many of each gender, no style twice, with what the renderer knows of it."""
    indices = [i for i, label in enumerate(faces.labels) if label["style"] != REFERENCE_STYLE]
    random.Random(0).shuffle(indices)
    taken: set[int] = set()
    pictures: list[Image.Image] = []
    rows: list[dict[str, Any]] = []
    for index in indices:
        label = faces.labels[index]
        full = sum(row["gender"] == label["gender"] for row in rows) >= REFERENCES // 2
        if label["style"] in taken or full:
            continue
        taken.add(label["style"])
        pictures.append(Image.fromarray(faces.images[index]))
        facts = (
            "gender",
            "yaw",
            "pitch",
            "roll",
            "expression",
            "background",
            "hair_style",
            "hair_color",
            "facial_hair",
        )
        rows.append(
            {name: label[name] for name in facts} | {"light": label["light"]["name"], "landmarks": label["landmarks"]}
        )
    _write_bank(folder, pictures, rows, "webp")


def _write_bank(folder: Path, pictures: list[Image.Image], rows: list[dict[str, Any]], suffix: str) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    lines = []
    for number, (picture, row) in enumerate(zip(pictures, rows, strict=True)):
        name = f"{number:03d}.{suffix}"
        data = io.BytesIO()
        picture.save(data, suffix.upper(), **({"optimize": True} if suffix == "png" else {"quality": 90, "method": 6}))
        (folder / name).write_bytes(data.getvalue())
        lines.append(json.dumps({"file_name": name} | row))
    _write(folder / METADATA, "\n".join(lines) + "\n")


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    with torch.no_grad():
        release(*map(Path, sys.argv[1:4]))
