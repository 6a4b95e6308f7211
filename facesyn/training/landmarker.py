"""Training of the landmarker on rendered faces, by regression."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from facesyn.identity.networks import Landmarker
from facesyn.rendered import RenderedFaces
from facesyn.training.loop import Losses, Run, Settings


def train_landmarker(
    faces: RenderedFaces,
    held_out: RenderedFaces,
    folder: Path,
    settings: Settings,
    report: Callable[[str], None],
) -> bool:
    """Landmarks and pose by regression; saved as `folder/model` at every validation."""
    landmarks, pose = _geometry(faces)
    model = Landmarker()
    run = Run(folder, model, settings)
    mirrored = torch.tensor([1, 0, 2, 4, 3])

    def losses(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        indices = rng.integers(0, len(faces), settings.batch_size)
        flip = rng.random(len(indices)) < 0.5
        pictures = faces.batch(indices, flip)
        gain = torch.from_numpy(rng.uniform(0.7, 1.3, (len(indices), 1, 1, 1)).astype("f4"))
        wanted, angles = landmarks[indices].clone(), pose[indices].clone()
        mask = torch.from_numpy(flip)
        wanted[mask] = torch.stack([1 - wanted[mask][..., 0], wanted[mask][..., 1]], -1)[:, mirrored]
        angles[mask] = angles[mask] * torch.tensor([-1.0, 1.0, -1.0])
        points, turned = model(((pictures + 1) * gain - 1).clamp(-1, 1).to(run.device))
        return {
            "landmarks": 10 * (points.float() - wanted.to(run.device)).abs().mean(),
            "pose": (turned.float() - angles.to(run.device)).abs().mean() / Landmarker.DEGREES,
        }

    def validate(average: nn.Module, step: int) -> Mapping[str, float]:
        assert isinstance(average, Landmarker)
        average.save_pretrained(folder / "model")
        return measure_landmarker(average, held_out)

    return run.go(losses, validate, report)


def _geometry(faces: RenderedFaces) -> tuple[torch.Tensor, torch.Tensor]:
    size = faces.images.shape[1]
    landmarks = torch.tensor([label["landmarks"] for label in faces.labels]) / size
    pose = torch.tensor([[label["yaw"], label["pitch"], label["roll"]] for label in faces.labels])
    return landmarks.float(), pose.float()


@torch.no_grad()
def measure_landmarker(model: Landmarker, faces: RenderedFaces, batch_size: int = 64) -> dict[str, float]:
    """Mean absolute errors: landmarks in pixels, pose in degrees; and the correlation of yaw."""
    landmarks, pose = _geometry(faces)
    parts = [
        model(faces.batch(np.arange(s, min(s + batch_size, len(faces))))) for s in range(0, len(faces), batch_size)
    ]
    points, angles = torch.cat([p for p, _ in parts]), torch.cat([a for _, a in parts])
    error = (angles - pose).abs().mean(0)
    return {
        "landmark_error": float((points - landmarks).norm(dim=-1).mean() * faces.images.shape[1]),
        "yaw_error": float(error[0]),
        "pitch_error": float(error[1]),
        "roll_error": float(error[2]),
        "yaw_correlation": float(np.corrcoef(angles[:, 0], pose[:, 0])[0, 1]),
    }
