"""Who is in a dataset: balance, uniqueness, consistency, diversity, quality. Works on pictures with names of people."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facesyn.evaluation.pairs import Interval, bootstrap, draw_pictures, pair_figures
from facesyn.gates import measures
from facesyn.labelled import CELL, LabelledFaces
from facesyn.protocols import AttributeClassifier

HISTOGRAM_BINS = 40


def centres(embeddings: np.ndarray, members: Mapping[str, Sequence[int]]) -> np.ndarray:
    """(people, d) the mean embedding of every person, of unit length."""
    means = np.stack([embeddings[list(indices)].mean(0) for indices in members.values()])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))


def retention(people: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    """Uniqueness against N: of the first N people, how many are kept when each must be under `threshold` to all kept.

    U of DCFace (Kim et al. 2023, §4), greedy in the order given; `people`: (n, d) centres. At N = 2, 4, 8, …, n.
    """
    kept: list[int] = []
    points = []
    marks = {2**power for power in range(1, 32)} | {len(people)}
    for number, centre in enumerate(people):
        if not kept or float((people[kept] @ centre).max()) < threshold:
            kept.append(number)
        if number + 1 in marks:
            points.append((number + 1, len(kept)))
    return points


def consistency(embeddings: np.ndarray, members: Mapping[str, Sequence[int]], threshold: float) -> Interval:
    """The mean over people of the share of their pictures above `threshold` to their centre."""
    shares = [
        float((embeddings[list(indices)] @ centre > threshold).mean())
        for indices, centre in zip(members.values(), centres(embeddings, members), strict=True)
        if len(indices) > 1
    ]
    return bootstrap(np.array(shares))


def spread_within(vectors: np.ndarray, members: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Per person with two pictures or more, the mean distance between two of them: 1 − cosine of unit vectors."""
    found = []
    for indices in members.values():
        if len(indices) > 1:
            cosine = vectors[list(indices)] @ vectors[list(indices)].T
            found.append(float((1 - cosine)[np.triu_indices(len(indices), 1)].mean()))
    return np.array(found)


def chi_squared(observed: Sequence[float], expected: Sequence[float]) -> dict[str, float]:
    """Pearson's χ² of counts against expected ones scaled to the same total, with degrees of freedom and p."""
    import torch

    counts, shares = np.asarray(observed, float), np.asarray(expected, float)
    wanted = shares / shares.sum() * counts.sum()
    value, freedom = float(((counts - wanted) ** 2 / wanted).sum()), len(counts) - 1
    half = torch.tensor([freedom / 2, value / 2], dtype=torch.float64)
    p = float(torch.special.gammaincc(half[0], half[1])) if freedom else 1.0
    return {"chi_squared": round(value, 4), "degrees_of_freedom": freedom, "p": round(p, 6)}


def balance(faces: LabelledFaces) -> dict[str, Any]:
    """People per category as labelled, with χ² against an equal share for every category that occurs."""
    first = [indices[0] for indices in faces.members().values()]
    found: dict[str, Any] = {}
    for key in CELL:
        counts = Counter(str(faces.labels[index][key]) for index in first if faces.labels[index].get(key))
        if counts:
            found[key] = {"people": dict(sorted(counts.items()))} | chi_squared(
                list(counts.values()), [1] * len(counts)
            )
    return found


def agreement(faces: LabelledFaces, classifier: AttributeClassifier, batch_size: int = 64) -> dict[str, Any]:
    """Asked against measured, in colour and without it: per attribute the share of people a classifier agrees on, after
    all of a person's pictures together, the share of pictures, and the confusion counts of pictures.

    Together is the sum of log probabilities: a profile in bad light says little of an age, and says it faintly.
    """
    return {
        "colour": _agreement(faces, classifier, "RGB", batch_size),
        "grey": _agreement(faces, classifier, "L", batch_size),
    }


def _agreement(faces: LabelledFaces, classifier: AttributeClassifier, mode: str, batch_size: int) -> dict[str, Any]:
    confusion: dict[str, Counter[tuple[str, str]]] = {key: Counter() for key in CELL}
    evidence: dict[str, dict[tuple[str, str], dict[str, float]]] = {key: {} for key in CELL}
    for start in range(0, len(faces), batch_size):
        part = range(start, min(start + batch_size, len(faces)))
        pictures = [faces.open(i).convert(mode).convert("RGB") for i in part]
        for index, said in zip(part, classifier.classify(pictures), strict=True):
            for key in CELL:
                asked = str(faces.labels[index].get(key, ""))
                if asked not in said.get(key, {}):
                    continue
                confusion[key][asked, max(said[key], key=lambda name: said[key][name])] += 1
                votes = evidence[key].setdefault((str(faces.identities[index]), asked), {})
                for name, share in said[key].items():
                    votes[name] = votes.get(name, 0.0) + math.log(max(share, 1e-6))
    found: dict[str, Any] = {}
    for key, counts in confusion.items():
        if total := counts.total():
            right = sum(number for (asked, measured), number in counts.items() if asked == measured)
            agreed = [max(votes, key=lambda name: votes[name]) == asked for (_, asked), votes in evidence[key].items()]
            rows = sorted(counts.items())
            found[key] = {
                "people": bootstrap(np.array(agreed, float)).as_dict(),
                "pictures": round(right / total, 4),
                "confusion": [[*pair, n] for pair, n in rows],
            }
            categories = sorted({asked for asked, _ in counts})
            asked_counts = [sum(n for (asked, _), n in rows if asked == name) for name in categories]
            measured_counts = [sum(n for (_, measured), n in rows if measured == name) for name in categories]
            if sum(measured_counts):
                found[key] |= chi_squared(measured_counts, asked_counts)
    return found


def similarity_figures(
    embeddings: np.ndarray, faces: LabelledFaces, thresholds: Mapping[str, float], seed: int = 0
) -> dict[str, Any]:
    """What one encoder says: retention and consistency at each threshold, pair statistics, diversity."""
    members = faces.members()
    people = centres(embeddings, members)
    found: dict[str, Any] = {
        "uniqueness": {
            name: [{"people": n, "kept": k, "share": round(k / n, 4)} for n, k in retention(people, threshold)]
            for name, threshold in thresholds.items()
        },
        "consistency": {name: consistency(embeddings, members, value).as_dict() for name, value in thresholds.items()},
        "diversity": bootstrap(spread_within(embeddings, members)).as_dict(),
    }
    chosen = draw_pictures(faces.identities, seed=seed)
    pairs = pair_figures(embeddings[chosen], faces.identities[chosen], seed=seed)
    if pairs is not None:
        for name in ("eer", "fdr", "fnmr_at_fmr_1e_2", "fnmr_at_fmr_1e_3"):
            found[name] = getattr(pairs, name).as_dict()
        found["histograms"] = {
            "low": -1,
            "high": 1,
            "genuine": [round(float(v)) for v in pairs.genuine.reshape(HISTOGRAM_BINS, -1).sum(1)],
            "impostor": [round(float(v)) for v in pairs.impostor.reshape(HISTOGRAM_BINS, -1).sum(1)],
        }
    return found


def picture_figures(faces: LabelledFaces) -> dict[str, Any]:
    """Quality and diversity that need no encoder, one value per person: contrast, sharpness, difference of pictures."""
    contrast, sharpness, difference = [], [], []
    for indices in faces.members().values():
        pictures = [faces.open(index) for index in indices]
        contrast.append(np.mean([measures.contrast(picture, 0).figure for picture in pictures]))
        sharpness.append(np.mean([measures.sharpness(picture, 0).figure for picture in pictures]))
        small = [measures.thumbnail(picture) for picture in pictures]
        gaps = [float(np.abs(a - b).mean()) for n, a in enumerate(small) for b in small[n + 1 :]]
        difference += [float(np.mean(gaps))] if gaps else []
    return {
        "contrast": bootstrap(np.array(contrast)).as_dict(),
        "sharpness": bootstrap(np.array(sharpness)).as_dict(),
        "difference_within_person": bootstrap(np.array(difference)).as_dict(),
    }
