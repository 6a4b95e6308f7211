"""Training of the attribute network on rendered faces, by classification of what the renderer was asked for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from facesyn.identity.networks import AttributeNet
from facesyn.rendered import RenderedFaces
from facesyn.training.augmentation import lose_detail, move
from facesyn.training.loop import Losses, Run, Settings

ATTRIBUTES = ("ethnicity", "gender", "age_interval")
GREY = 0.3
"""Share of pictures without colour, so that more than the colour of skin is learned."""
JUDGE = {"size": 112, "widths": (40, 80, 160), "blocks": (1, 2, 2)}
"""Of a second classifier, for figures about what the first one selected or taught: less detail, more depth."""
_LUMA = (0.299, 0.587, 0.114)


def grey(pictures: torch.Tensor) -> torch.Tensor:
    """The luma of pictures (b, 3, h, w), in all three channels."""
    weights = torch.tensor(_LUMA, dtype=pictures.dtype, device=pictures.device).view(1, 3, 1, 1)
    return (pictures * weights).sum(1, keepdim=True).expand_as(pictures)


def train_classifier(
    faces: RenderedFaces,
    held_out: RenderedFaces,
    folder: Path,
    settings: Settings,
    report: Callable[[str], None],
    shape: Mapping[str, Any] | None = None,
) -> bool:
    """Ethnicity, gender and age interval by cross-entropy; saved as `folder/model` at every validation.

    `shape` are arguments of `AttributeNet`, where it is not to be the embedded one.
    """
    categories = {name: sorted({label[name] for label in faces.labels}) for name in ATTRIBUTES}
    wanted = wanted_categories(faces, categories)
    model = AttributeNet(categories, **(shape or {}))
    run = Run(folder, model, settings)

    def losses(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        indices = rng.integers(0, len(faces), settings.batch_size)
        pictures = faces.batch(indices, rng.random(len(indices)) < 0.5)
        gain = torch.from_numpy(rng.uniform(0.8, 1.2, (len(indices), 1, 1, 1)).astype("f4"))
        pictures = ((move(pictures, rng) + 1) * gain - 1).clamp(-1, 1)
        colourless = torch.from_numpy(rng.random(len(indices)) < GREY)
        pictures[colourless] = grey(pictures[colourless])
        scores = model(lose_detail(pictures, rng).to(run.device))
        return {
            name: F.cross_entropy(scores[name].float(), wanted[name][indices].to(run.device)) for name in categories
        }

    def validate(average: nn.Module, step: int) -> Mapping[str, float]:
        assert isinstance(average, AttributeNet)
        average.save_pretrained(folder / "model")
        return measure_classifier(average, held_out)

    return run.go(losses, validate, report)


def wanted_categories(faces: RenderedFaces, categories: Mapping[str, list[str]]) -> dict[str, torch.Tensor]:
    """Attribute → (n,) numbers of the true categories."""
    return {name: torch.tensor([of.index(label[name]) for label in faces.labels]) for name, of in categories.items()}


@torch.no_grad()
def measure_classifier(model: AttributeNet, faces: RenderedFaces, batch_size: int = 64) -> dict[str, float]:
    """Share of pictures whose true category has the highest score, per attribute, in colour and in grey."""
    wanted = wanted_categories(faces, model.config["categories"])
    right: dict[str, float] = {}
    for start in range(0, len(faces), batch_size):
        part = np.arange(start, min(start + batch_size, len(faces)))
        pictures = faces.batch(part)
        for suffix, shown in (("", pictures), ("_grey", grey(pictures))):
            for name, scores in model.flip_averaged(shown).items():
                hits = (scores.argmax(1) == wanted[name][part]).sum()
                right[name + suffix] = right.get(name + suffix, 0.0) + float(hits) / len(faces)
    return right
