"""Training of the recogniser on rendered faces, by contrast between identities."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from facesyn.evaluation.verification import genuine_impostor, threshold_at_fmr
from facesyn.identity.backbones import IResNet
from facesyn.identity.networks import Recogniser, recognition_crop, summed_embeddings
from facesyn.rendered import RenderedFaces
from facesyn.training.augmentation import lose_detail, move, relight
from facesyn.training.loop import Losses, Run, Settings

TEMPERATURE = 0.1
PER_IDENTITY = 4
"""Pictures of each identity in a batch."""


def _varied(pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Pictures as another camera, under another light, might have taken them.

    So nothing hangs on an exact crop, on colours, or on details finer than a generated picture keeps; and the few
    styles a person was rendered in are not learned by heart. Twice as much was measured to cost more than it gave.
    """
    return relight(lose_detail(move(pictures, rng), rng), rng)


def contrast(embeddings: torch.Tensor, identities: torch.Tensor) -> torch.Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, eq. 2) of unit embeddings (b, d) with labels (b,).

    Every picture should be nearer to the others of its identity than to anyone else in the batch. From random
    weights and few pictures per person this starts to learn at once, where a classifier over all identities stalls.
    """
    similarity = embeddings @ embeddings.T / TEMPERATURE
    self_pair = torch.eye(len(embeddings), dtype=torch.bool, device=embeddings.device)
    log_share = similarity - similarity.masked_fill(self_pair, -torch.inf).logsumexp(1, keepdim=True)
    positive = (identities[:, None] == identities[None, :]) & ~self_pair
    return -(log_share * positive).sum(1).div(positive.sum(1)).mean()


class IdentityBatches:
    """Draws batches of `PER_IDENTITY` pictures a person, half of them from one cell, whose strangers look alike."""

    def __init__(self, faces: RenderedFaces, batch_size: int):
        self._members: dict[str, list[int]] = defaultdict(list)
        cells: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for index, label in enumerate(faces.labels):
            if not self._members[label["identity"]]:
                cells[label["ethnicity"], label["gender"], label["age_interval"]].append(label["identity"])
            self._members[label["identity"]].append(index)
        self._everyone, self._cells = list(self._members), list(cells.values())
        self._people = batch_size // PER_IDENTITY

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, torch.Tensor]:
        """Indices of faces, and whose they are, numbered within the batch."""
        pool = self._everyone if rng.random() < 0.5 else self._cells[rng.integers(len(self._cells))]
        chosen = rng.choice(len(pool), min(self._people, len(pool)), replace=False)
        members = [rng.permutation(self._members[pool[c]])[:PER_IDENTITY] for c in chosen]
        return np.concatenate(members), torch.arange(len(chosen)).repeat_interleave(PER_IDENTITY)


def new_judge() -> IResNet:
    """A recogniser of another architecture, which sees less detail: for figures about what the first one selected."""
    return IResNet(18, dim=128, width=16, size=64)


def train_recogniser(
    faces: RenderedFaces,
    held_out: RenderedFaces,
    folder: Path,
    settings: Settings,
    report: Callable[[str], None],
    model: Recogniser | IResNet | None = None,
) -> bool:
    """Contrast identities, of `PER_IDENTITY` pictures or more each; saved as `folder/model` at validations.

    Trains the embedded architecture, or a fresh `model`.
    """
    batches = IdentityBatches(faces, settings.batch_size)
    model = model or Recogniser()
    size = model.config["size"]
    run = Run(folder, model, settings)

    def losses(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        indices, identities = batches.draw(rng)
        pictures = _varied(faces.batch(indices, rng.random(len(indices)) < 0.5), rng)
        embeddings = F.normalize(model(recognition_crop(pictures, size).to(run.device)).float())
        with torch.autocast(run.device.type, enabled=False):
            return {"contrast": contrast(embeddings, identities.to(run.device))}

    def validate(average: nn.Module, step: int) -> Mapping[str, float]:
        assert isinstance(average, Recogniser | IResNet)
        average.save_pretrained(folder / "model")
        return verification_figures(embed_faces(average, held_out), held_out)

    return run.go(losses, validate, report)


@torch.no_grad()
def embed_faces(model: Recogniser | IResNet, faces: RenderedFaces, batch_size: int = 64) -> np.ndarray:
    """(n, dim) unit embeddings: the sum over a picture and its mirror image, normalised."""
    parts = []
    for start in range(0, len(faces), batch_size):
        pictures = faces.batch(np.arange(start, min(start + batch_size, len(faces))))
        crops = recognition_crop(pictures, model.config["size"])
        parts.append(summed_embeddings(model, crops))
    return torch.cat(parts).numpy()


def verification_figures(embeddings: np.ndarray, faces: RenderedFaces) -> dict[str, float]:
    """TAR at an FMR of 1 % over all pairs of `faces`, over pairs of |yaw| < 30°, and the threshold."""
    names = np.array([label["identity"] for label in faces.labels])
    genuine, impostor = genuine_impostor(embeddings, names)
    threshold = threshold_at_fmr(impostor, 0.01)
    frontal = np.array([abs(label["yaw"]) < 30 for label in faces.labels])
    near_genuine, near_impostor = genuine_impostor(embeddings[frontal], names[frontal])
    return {
        "tar_at_fmr_1e-2": float((genuine > threshold).mean()),
        "tar_at_fmr_1e-2_yaw_under_30": float((near_genuine > threshold_at_fmr(near_impostor, 0.01)).mean()),
        "threshold_at_fmr_1e-2": threshold,
    }
