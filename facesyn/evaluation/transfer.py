"""How close a transfer comes to the true picture, where a renderer can show the truth. Works on tensors of pictures."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from facesyn.evaluation.measures import ssim_map
from facesyn.evaluation.verification import genuine_impostor, threshold_at_fmr
from facesyn.identity.networks import Landmarker
from facesyn.protocols import AttributeTransfer, FaceEncoder
from facesyn.rendered import RenderedFaces, StylePairs
from facesyn.tensors import to_tensor


@dataclass(frozen=True)
class TransferFigures:
    """Figures over the same `pairs`; each of the first three has ssim, difference, face_ssim and face_difference.

    `nearer_to_source` and `above_threshold` are shares of outputs; `examples` show source, reference, output, truth.
    """

    pairs: int
    model: dict[str, float]
    style_off: dict[str, float]
    copied_reference: dict[str, float]
    yaw_correlation: float
    yaw_error: float
    nearer_to_source: float
    above_threshold: float
    examples: list[list[Image.Image]]


def face_boxes(landmarks: np.ndarray, size: int) -> list[tuple[int, int, int, int]]:
    """The five landmarks' box, grown on every side by half its longer side, clipped: x0, y0, x1, y1 in pixels.

    `landmarks`: (n, 5, 2) in pixels.
    """
    low, high = landmarks.min(1), landmarks.max(1)
    margin = (high - low).max(1, keepdims=True) / 2
    boxes = np.concatenate([np.floor(low - margin), np.ceil(high + margin)], 1)
    return [tuple(int(v) for v in row) for row in boxes.clip(0, size)]  # type: ignore[misc]


def picture_and_face(output: torch.Tensor, target: torch.Tensor, landmarks: np.ndarray) -> torch.Tensor:
    """(n, 4): SSIM and mean absolute difference (of 255) on the picture, then on the face.

    `output`, `target`: (n, 3, h, w) in [-1, 1]; `landmarks`: (n, 5, 2), of the target, in pixels.
    """
    a, b = (output.float() + 1) / 2, (target.float() + 1) / 2
    similarity, difference = ssim_map(a, b).mean(1), (a - b).abs().mean(1) * 255
    rows = []
    for i, (x0, y0, x1, y1) in enumerate(face_boxes(landmarks, output.shape[-1])):
        face = (i, slice(y0, y1), slice(x0, x1))
        rows.append([similarity[i].mean(), difference[i].mean(), similarity[face].mean(), difference[face].mean()])
    return torch.tensor(rows)


def compare_pictures(output: torch.Tensor, target: torch.Tensor, landmarks: np.ndarray) -> dict[str, float]:
    """Means of `picture_and_face` by name."""
    mean = picture_and_face(output, target, landmarks).mean(0)
    return dict(zip(("ssim", "difference", "face_ssim", "face_difference"), map(float, mean), strict=True))


def evaluate_transfer(
    transfer: AttributeTransfer,
    without_style: AttributeTransfer,
    encoder: FaceEncoder,
    landmarker: Landmarker,
    faces: RenderedFaces,
    *,
    count: int,
    batch_size: int = 8,
    seed: int = 0,
    advance: Callable[[int], None] = lambda done: None,
) -> TransferFigures:
    """Transfer `count` pairs (A neutral, B in style s) and compare with the true picture of A in style s.

    `without_style` is the same model with its style switched off. The pairs are spread evenly over the styles, the
    reference drawn by `seed`; each of the three rows of figures is over the same pairs. Similarities are judged by
    `encoder`, whose threshold at a false match rate of 1 % is taken from all pairs of `faces`.
    """
    pairs = StylePairs.of(faces)
    rng = np.random.default_rng(seed)
    picks = np.linspace(0, len(pairs) - 1, min(count, len(pairs))).astype(int)
    target = np.array([pairs.target[p] for p in picks])
    source = np.array([pairs.source[p] for p in picks])
    reference = np.array([rng.choice(pairs.references[p]) for p in picks])
    pictures = [Image.fromarray(picture) for picture in faces.images]
    made: dict[str, list[Image.Image]] = {"with": [], "without": []}
    for start in range(0, len(picks), batch_size):
        part = slice(start, start + batch_size)
        sources, references = ([pictures[i] for i in indices[part]] for indices in (source, reference))
        seeds = [int(p) for p in picks[part]]
        made["with"] += transfer.transfer(sources, references, seeds)
        made["without"] += without_style.transfer(sources, references, seeds)
        advance(len(sources))

    size = faces.images.shape[1]
    truth = faces.batch(target)
    output = to_tensor(made["with"], size)
    landmarks = np.array([faces.labels[i]["landmarks"] for i in target])
    with torch.no_grad():
        yaw = torch.cat([landmarker(part)[1][:, 0] for part in output.split(64)]).numpy()
    asked_yaw = np.array([faces.labels[i]["yaw"] for i in reference])

    embeddings = np.concatenate([encoder.embed(pictures[i : i + 64]) for i in range(0, len(pictures), 64)])
    _, impostor = genuine_impostor(embeddings, np.array([label["identity"] for label in faces.labels]))
    outputs = np.concatenate([encoder.embed(made["with"][i : i + 64]) for i in range(0, len(picks), 64)])
    to_source, to_reference = ((outputs * embeddings[other]).sum(1) for other in (source, reference))
    return TransferFigures(
        pairs=len(picks),
        model=compare_pictures(output, truth, landmarks),
        style_off=compare_pictures(to_tensor(made["without"], size), truth, landmarks),
        copied_reference=compare_pictures(faces.batch(reference), truth, landmarks),
        yaw_correlation=float(np.corrcoef(yaw, asked_yaw)[0, 1]),
        yaw_error=float(np.abs(yaw - asked_yaw).mean()),
        nearer_to_source=float((to_source > to_reference).mean()),
        above_threshold=float((to_source > threshold_at_fmr(impostor, 0.01)).mean()),
        examples=[
            [pictures[source[i]], pictures[reference[i]], made["with"][i], pictures[target[i]]]
            for i in np.linspace(0, len(picks) - 1, min(24, len(picks))).astype(int)
        ],
    )
