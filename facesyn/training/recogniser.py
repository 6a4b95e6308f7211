"""Training of the recogniser (CosFace) and of the landmarker (regression) on rendered faces."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from facesyn.evaluation.verification import genuine_impostor, threshold_at_fmr
from facesyn.identity.networks import Landmarker, Recogniser, recognition_crop
from facesyn.rendered import RenderedFaces
from facesyn.training.loop import Losses, Run, Settings

MARGIN, SCALE = 0.35, 30.0


def _jitter(pictures: torch.Tensor, rng: np.random.Generator, shift: int = 4) -> torch.Tensor:
    """Small shifts, exposure and saturation changes, so that nothing hangs on an exact crop or colour balance."""
    padded = F.pad(pictures, (shift,) * 4, mode="replicate")
    side = pictures.shape[-1]
    corners = rng.integers(0, 2 * shift + 1, (len(pictures), 2))
    moved = torch.stack([p[:, y : y + side, x : x + side] for p, (y, x) in zip(padded, corners, strict=True)])
    gain = torch.from_numpy(rng.uniform(0.8, 1.2, (len(moved), 3, 1, 1)).astype("f4")).mean(1, keepdim=True)
    tint = torch.from_numpy(rng.uniform(0.95, 1.05, (len(moved), 3, 1, 1)).astype("f4"))
    moved = (moved + 1) * gain * tint - 1
    grey = moved.mean(1, keepdim=True)
    keep = torch.from_numpy(rng.choice([0.0, 1.0], (len(moved), 1, 1, 1), p=[0.1, 0.9]).astype("f4"))
    return (grey + (moved - grey) * keep).clamp(-1, 1)


class _Classifier(nn.Module):
    """The recogniser and one centre per identity, which only training needs."""

    def __init__(self, identities: int):
        super().__init__()
        self.recogniser = Recogniser()
        self.centres = nn.Parameter(torch.randn(identities, self.recogniser.config["dim"]) * 0.05)


def train_recogniser(
    faces: RenderedFaces,
    held_out: RenderedFaces,
    folder: Path,
    settings: Settings,
    report: Callable[[str], None],
) -> bool:
    """CosFace (Wang et al. 2018) over the identities of `faces`; saved as `folder/model` at every validation."""
    identities = {name: index for index, name in enumerate(sorted({label["identity"] for label in faces.labels}))}
    classes = torch.tensor([identities[label["identity"]] for label in faces.labels])
    module = _Classifier(len(identities))
    run = Run(folder, module, settings)

    def losses(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        indices = rng.integers(0, len(faces), settings.batch_size)
        pictures = _jitter(faces.batch(indices, rng.random(len(indices)) < 0.5), rng)
        embedding = F.normalize(module.recogniser(recognition_crop(pictures)).float())
        cosine = embedding @ F.normalize(module.centres).T
        wanted = classes[indices]
        cosine = cosine - MARGIN * F.one_hot(wanted, len(identities))
        return {"cosface": F.cross_entropy(SCALE * cosine, wanted)}

    def validate(average: nn.Module, step: int) -> Mapping[str, float]:
        assert isinstance(average, _Classifier)
        average.recogniser.save_pretrained(folder / "model")
        return measure_recogniser(average.recogniser, held_out)

    return run.go(losses, validate, report)


@torch.no_grad()
def embed_faces(model: Recogniser, faces: RenderedFaces, batch_size: int = 64) -> np.ndarray:
    """(n, dim) unit embeddings: the sum over a picture and its mirror image, normalised."""
    parts = []
    for start in range(0, len(faces), batch_size):
        crops = recognition_crop(faces.batch(np.arange(start, min(start + batch_size, len(faces)))))
        parts.append(F.normalize(model(crops) + model(crops.flip(3))))
    return torch.cat(parts).numpy()


def measure_recogniser(model: Recogniser, faces: RenderedFaces) -> dict[str, float]:
    """TAR at an FMR of 1 % over all pairs, over pairs of |yaw| < 30°, and the threshold."""
    embeddings = embed_faces(model, faces)
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
        points, turned = model(((pictures + 1) * gain - 1).clamp(-1, 1))
        return {
            "landmarks": 10 * (points.float() - wanted).abs().mean(),
            "pose": (turned.float() - angles).abs().mean() / Landmarker.DEGREES,
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
