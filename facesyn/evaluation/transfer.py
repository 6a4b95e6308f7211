"""How close a transfer comes to the true picture, where a renderer can show the truth. Works on tensors of pictures."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from facesyn.errors import UsageError
from facesyn.evaluation.attributes import hits
from facesyn.evaluation.measures import ssim_map
from facesyn.evaluation.pairs import Interval, by_person
from facesyn.evaluation.verification import genuine_impostor, threshold_at_fmr
from facesyn.identity.networks import Landmarker
from facesyn.protocols import AttributeClassifier, AttributeTransfer, FaceEncoder
from facesyn.rendered import RenderedFaces, StylePairs
from facesyn.tensors import to_tensor


@dataclass(frozen=True)
class TransferFigures:
    """Figures over the same `pairs`, intervals from resampling the people shown."""

    pairs: int
    pictures: dict[str, dict[str, Interval]]
    """ssim, difference, face_ssim and face_difference to the true picture: of the `model`, with its `style off`, of the
    `copied reference`, and of the `nearest training` picture, where those are at hand.
    """
    yaw_correlation: float
    yaw_error: float
    light_correlation: dict[str, float]
    """Of output and truth: which side, and which end, of the face is how much brighter."""
    background_correlation: float
    """Of output and truth: the upper corners' colour, in the channel where it is lowest."""
    nearer_to_source: Interval
    above_threshold: Interval
    leakage: Interval
    """By how much outputs are more like the reference's person than the true picture is, in cosines."""
    attributes: dict[str, dict[str, Interval]]
    """Of the `model` and of the `true pictures`, attribute → the share that a classifier finds as labelled; {} if none
    was asked.
    """
    examples: list[list[Image.Image]]
    """Rows of source, reference, output, truth."""

    def as_dict(self) -> dict[str, Any]:
        """Everything but the examples; intervals as value, low and high."""
        found = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "examples"}
        plain: dict[str, Any] = json.loads(json.dumps(found, default=Interval.as_dict))
        return plain


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


MEASURES = ("ssim", "difference", "face_ssim", "face_difference")


def compare_pictures(output: torch.Tensor, target: torch.Tensor, landmarks: np.ndarray) -> dict[str, float]:
    """Means of `picture_and_face` by name."""
    mean = picture_and_face(output, target, landmarks).mean(0)
    return dict(zip(MEASURES, map(float, mean), strict=True))


def light_of(pictures: torch.Tensor, landmarks: np.ndarray) -> np.ndarray:
    """(n, 2): by what share of both together the face's left half is brighter than its right, and its upper than its
    lower; `pictures` (n, 3, h, w) in [-1, 1].
    """
    luma = (pictures.float() + 1).mean(1).numpy()
    rows = []
    for picture, (x0, y0, x1, y1) in zip(luma, face_boxes(landmarks, pictures.shape[-1]), strict=True):
        face = picture[y0:y1, x0:x1]
        middle_y, middle_x = face.shape[0] // 2, face.shape[1] // 2
        left, right = face[:, :middle_x].mean(), face[:, middle_x:].mean()
        top, bottom = face[:middle_y].mean(), face[middle_y:].mean()
        rows.append([(left - right) / (left + right), (top - bottom) / (top + bottom)])
    return np.array(rows)


def background_of(pictures: torch.Tensor) -> np.ndarray:
    """(n, 3): mean colour of the two upper corners, a tenth of the side each."""
    side = pictures.shape[-1] // 10
    return torch.cat([pictures[:, :, :side, :side], pictures[:, :, :side, -side:]], 3).float().mean((2, 3)).numpy()


def nearest_of_cell(truth: torch.Tensor, cells: list[tuple[str, ...]], training: RenderedFaces) -> torch.Tensor:
    """For every true picture (n, 3, h, w) the training picture of its cell that differs least from it at 16 × 16."""
    small = F.adaptive_avg_pool2d(truth.float(), 16).flatten(1)
    members: dict[tuple[str, ...], list[int]] = {}
    for index, label in enumerate(training.labels):
        members.setdefault(cell_of(label), []).append(index)
    chosen = [0] * len(cells)
    for cell in set(cells):
        wanted = [n for n, other in enumerate(cells) if other == cell]
        pool = members[cell]
        gallery = torch.cat(
            [F.adaptive_avg_pool2d(training.batch(pool[i : i + 256]), 16).flatten(1) for i in range(0, len(pool), 256)]
        )
        for n, best in zip(wanted, torch.cdist(small[wanted], gallery, p=1).argmin(1).tolist(), strict=True):
            chosen[n] = pool[best]
    return training.batch(chosen)


def cell_of(label: Mapping[str, Any]) -> tuple[str, ...]:
    """Ethnicity, gender and age interval of a rendered face."""
    return label["ethnicity"], label["gender"], label["age_interval"]


def evaluate_transfer(
    transfer: AttributeTransfer,
    without_style: AttributeTransfer,
    encoder: FaceEncoder,
    landmarker: Landmarker,
    faces: RenderedFaces,
    training: RenderedFaces | None = None,
    classifier: AttributeClassifier | None = None,
    *,
    count: int,
    batch_size: int = 8,
    seed: int = 0,
    advance: Callable[[int], None] = lambda done: None,
) -> TransferFigures:
    """Transfer `count` pairs (A neutral, B in style s) and compare with the true picture of A in style s.

    `without_style` is the same model with its style switched off. The pairs are spread evenly over the styles, the
    reference drawn by `seed`; each of the three rows of figures is over the same pairs. Similarities are judged by
    `encoder`, whose threshold at a false match rate of 1 % is taken from all pairs of `faces`. With `training`, what
    the model learned from, it is also told how far looking up the best training picture would have come; with a
    `classifier`, whether people still look as old as they are. Raises UsageError where no two people share a style.
    """
    pairs = StylePairs.of(faces.labels)
    if not len(pairs):
        raise UsageError(
            "No two of these people were rendered in the same style.", hint="Render more, or fewer styles."
        )
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
    people = np.array([faces.labels[i]["identity"] for i in target])

    def compared(pictures: torch.Tensor) -> dict[str, Interval]:
        columns = picture_and_face(pictures, truth, landmarks).T.numpy()
        return {name: by_person(column, people) for name, column in zip(MEASURES, columns, strict=True)}

    with torch.no_grad():
        yaw = torch.cat([landmarker(part)[1][:, 0] for part in output.split(64)]).numpy()
    asked_yaw = np.array([faces.labels[i]["yaw"] for i in reference])
    light, true_light = light_of(output, landmarks), light_of(truth, landmarks)
    colour, true_colour = background_of(output), background_of(truth)
    beside = {
        "model": output,
        "style off": to_tensor(made["without"], size),
        "copied reference": faces.batch(reference),
    }
    if training is not None:
        beside["nearest training"] = nearest_of_cell(truth, [cell_of(faces.labels[i]) for i in target], training)

    embeddings = np.concatenate([encoder.embed(pictures[i : i + 64]) for i in range(0, len(pictures), 64)])
    _, impostor = genuine_impostor(embeddings, np.array([label["identity"] for label in faces.labels]))
    outputs = np.concatenate([encoder.embed(made["with"][i : i + 64]) for i in range(0, len(picks), 64)])
    to_source, to_reference = ((outputs * embeddings[other]).sum(1) for other in (source, reference))
    truly = (embeddings[target] * embeddings[reference]).sum(1)

    labels = [faces.labels[i] for i in target]

    def found_by(classifier: AttributeClassifier) -> dict[str, dict[str, Interval]]:
        shown = {"model": made["with"], "true pictures": [pictures[i] for i in target]}
        return {
            name: {key: by_person(right, people) for key, right in hits(classifier, each, labels).items()}
            for name, each in shown.items()
        }

    return TransferFigures(
        pairs=len(picks),
        pictures={name: compared(pictures) for name, pictures in beside.items()},
        yaw_correlation=_correlation(yaw, asked_yaw),
        yaw_error=float(np.abs(yaw - asked_yaw).mean()),
        light_correlation={
            name: _correlation(light[:, axis], true_light[:, axis]) for axis, name in enumerate(("side", "height"))
        },
        background_correlation=min(_correlation(colour[:, c], true_colour[:, c]) for c in range(3)),
        nearer_to_source=by_person(to_source > to_reference, people),
        above_threshold=by_person(to_source > threshold_at_fmr(impostor, 0.01), people),
        leakage=by_person(to_reference - truly, people),
        attributes=found_by(classifier) if classifier else {},
        examples=[
            [pictures[source[i]], pictures[reference[i]], made["with"][i], pictures[target[i]]]
            for i in np.linspace(0, len(picks) - 1, min(24, len(picks))).astype(int)
        ],
    )


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])
