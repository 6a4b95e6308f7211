"""Which of several datasets trains the better recogniser: one protocol, equal numbers, several seeds, unseen people."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facesyn.errors import UsageError
from facesyn.evaluation.pairs import dimensions, draw_pictures, pair_figures
from facesyn.identity.encoders import embed_all, open_encoder
from facesyn.labelled import LabelledFaces
from facesyn.protocols import FaceEncoder
from facesyn.recognition.recipes import Protocol
from facesyn.recognition.train import train_on_people

FIGURES = ("eer", "fnmr_at_fmr_1e_2", "fnmr_at_fmr_1e_3", "fdr")
COLLAPSED = 2.0
"""Dimensions below which embeddings lie about on a line."""


def matched(
    sets: Mapping[str, LabelledFaces], people: int | None, images: int | None, seed: int
) -> dict[str, LabelledFaces]:
    """Every set cut to the same number of people and of images each: those asked for, or what all of them have.

    Of every set those people are drawn who have enough images. Raises UsageError where a set cannot give so many.
    """
    counts = {name: sorted(map(len, faces.members().values()), reverse=True) for name, faces in sets.items()}
    wanted = people or min(map(len, counts.values()))
    for name, sizes in counts.items():
        if len(sizes) < wanted:
            raise UsageError(f"{name} has {len(sizes)} people, fewer than {wanted}.", hint="Lower --people.")
    each = images or min(sizes[wanted - 1] for sizes in counts.values())
    found = {}
    for name, faces in sets.items():
        members = {who: indices for who, indices in faces.members().items() if len(indices) >= each}
        if len(members) < wanted:
            raise UsageError(
                f"{name} has {len(members)} people with {each} images, not {wanted}.", hint="Lower --images."
            )
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(sorted(members))[:wanted]
        found[name] = faces.subset(
            np.sort(np.concatenate([rng.permutation(members[str(who)])[:each] for who in chosen]))
        )
    return found


def compare(
    sets: Mapping[str, LabelledFaces],
    unseen: LabelledFaces,
    folder: Path,
    protocol: Protocol,
    *,
    seeds: int = 3,
    crop: str = "facesyn",
    dtype: str = "fp32",
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train on every set with every seed, taking finished runs in `folder` as they are, and verify `unseen` people."""
    return {
        "protocol": protocol.as_dict(),
        "unseen": {"people": len(unseen.members()), "images": len(unseen)},
        "sets": {
            name: _one(name, faces, unseen, folder, protocol, seeds, crop, dtype, report)
            for name, faces in sets.items()
        },
    }


def _one(
    name: str,
    faces: LabelledFaces,
    unseen: LabelledFaces,
    folder: Path,
    protocol: Protocol,
    seeds: int,
    crop: str,
    dtype: str,
    report: Callable[[str], None],
) -> dict[str, Any]:
    runs = []
    for seed in range(seeds):
        run = folder / name / f"seed-{seed}"
        if not (run / "model").is_dir():
            train_on_people(faces, run, protocol, seed=seed, crop=crop, dtype=dtype, onnx=False, report=report)
        encoder = open_encoder(f"recogniser:{run / 'model'}", {"crop": crop})
        runs.append(unseen_figures(encoder, unseen))
        report(f"{name}, seed {seed}: EER {runs[-1]['eer']['value']:.2%}")
        if runs[-1]["dimensions"] < COLLAPSED:
            report(
                f"{name}, seed {seed}: the network has collapsed and says nothing of the data. Lower --learning-rate."
            )
    summary = {}
    for key in FIGURES:
        values = [run[key]["value"] for run in runs]
        summary[key] = {
            "mean": round(float(np.mean(values)), 6),
            "std": round(float(np.std(values, ddof=1)), 6) if seeds > 1 else None,
            "low": round(float(np.mean([run[key]["low"] for run in runs])), 6),
            "high": round(float(np.mean([run[key]["high"] for run in runs])), 6),
        }
    return {"people": len(faces.members()), "images": len(faces), **summary, "seeds": runs}


def unseen_figures(encoder: FaceEncoder, unseen: LabelledFaces) -> dict[str, Any]:
    """Pair statistics on people nobody trained on, with intervals over people; per cell the errors at one threshold.

    `dimensions` are those its embeddings spread in. In a cell, `fmr` and `fnmr` are those of its own pairs at the
    threshold that gives FMR 1 % over all pairs.
    """
    chosen = unseen.subset(draw_pictures(unseen.identities))
    embeddings = embed_all(encoder, chosen)
    pairs = pair_figures(embeddings, chosen.identities)
    if pairs is None:
        raise UsageError("The unseen people need two pictures each or more, of two people or more.")
    found: dict[str, Any] = {key: getattr(pairs, key).as_dict() for key in FIGURES}
    found["dimensions"] = round(dimensions(embeddings), 3)
    if chosen.cells is not None:
        found["cells"] = _by_cell(embeddings, chosen.identities, chosen.cells)
    return found


def _by_cell(embeddings: np.ndarray, identities: np.ndarray, cells: np.ndarray) -> dict[str, dict[str, float]]:
    cosine = embeddings @ embeddings.T
    upper = np.triu(np.ones(cosine.shape, dtype=bool), 1)
    same = identities[:, None] == identities[None, :]
    threshold = np.quantile(cosine[upper & ~same], 0.99)
    found = {}
    for cell in np.unique(cells):
        inside = upper & np.outer(cells == cell, cells == cell)
        genuine, impostor = cosine[inside & same], cosine[inside & ~same]
        if len(genuine) and len(impostor):
            fmr, fnmr = float((impostor > threshold).mean()), float((genuine <= threshold).mean())
            found[str(cell)] = {"fmr": round(fmr, 6), "fnmr": round(fnmr, 6)}
    return found
