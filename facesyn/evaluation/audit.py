"""Whom a dataset resembles that it should not: people of a gallery, its style references, itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facesyn.banks import BankPicture
from facesyn.evaluation.dataset import centres
from facesyn.evaluation.pairs import bootstrap
from facesyn.gates.measures import thumbnail
from facesyn.identity.encoders import embed_all
from facesyn.identity.uniqueness import UniquenessIndex
from facesyn.imaging import load_image
from facesyn.labelled import LabelledFaces
from facesyn.out import out
from facesyn.protocols import FaceEncoder


def audit_dataset(
    faces: LabelledFaces,
    encoder: FaceEncoder,
    thresholds: Mapping[str, float],
    *,
    galleries: Mapping[str, LabelledFaces],
    memory: tuple[LabelledFaces, LabelledFaces] | None = None,
    bank: Sequence[BankPicture] = (),
    least_difference: float = 0.5,
) -> dict[str, Any]:
    """Everything that was asked for; `shares` sums up, per threshold, what a limit is held against.

    `memory` are the faces the models learned from and held-out ones. Pictures nearer than `least_difference` are
    repeated.
    """
    with out.progress("embed", len(faces)) as advance:
        embeddings = embed_all(encoder, faces, advance)
    report: dict[str, Any] = {"people": len(faces.members()), "images": len(faces), "galleries": {}}
    shares: dict[str, dict[str, float]] = {name: {} for name in thresholds}
    for name, people in galleries.items():
        with out.progress(name, len(people)) as advance:
            gallery = embed_all(encoder, people, advance)
        found = against_gallery(embeddings, faces, gallery, people, thresholds)
        report["galleries"][name] = found
        for fmr in thresholds:
            shares[fmr][f"images like {name}"] = found["images"]["leak_rate"][fmr]["value"]
    if memory is not None:
        report["memorisation"] = memorisation(embeddings, *(embed_all(encoder, each) for each in memory))
    labels = [picture.labels for picture in bank]
    styles = encoder.embed([load_image(picture.path) for picture in bank]) if bank else np.zeros((0, 1), np.float32)
    report["style"] = style_leakage(embeddings, faces, styles, labels, [picture.name for picture in bank], thresholds)
    if report["style"]["images"]:
        for fmr in thresholds:
            shares[fmr]["images like their reference"] = report["style"]["leak_rate"][fmr]["value"]
    report["repeated"] = repeated(faces, least_difference)
    return report | {"shares": shares}


def nearest(queries: np.ndarray, gallery: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """(n,) cosine of every query to the nearest of `gallery`, and that one's name. Exact whatever the size."""
    index = UniquenessIndex(gallery.shape[1], exact=len(gallery))
    index.add(names, gallery)
    found = index.nearest(queries)
    return np.array([each.similarity for each in found]), [each.name for each in found]


def nearest_stranger(embeddings: np.ndarray, identities: np.ndarray, block: int = 1024) -> np.ndarray:
    """(n,) cosine of everybody to the nearest one of another identity; -1 where there is none."""
    found = np.full(len(embeddings), -1.0)
    for start in range(0, len(embeddings), block):
        part = slice(start, start + block)
        cosine = embeddings[part] @ embeddings.T
        cosine[identities[part, None] == identities[None, :]] = -1
        found[part] = cosine.max(1)
    return found


def against_gallery(
    embeddings: np.ndarray,
    faces: LabelledFaces,
    gallery: np.ndarray,
    people: LabelledFaces,
    thresholds: Mapping[str, float],
    worst: int = 10,
) -> dict[str, Any]:
    """Nearest-neighbour similarities to a gallery, per image and per person's centre, and shares above thresholds.

    Beside each stands what the gallery's people are to each other, without themselves: strangers who certainly are
    none of the dataset's. Centres are nearer to each other than images, whose pairs thresholds are measured on: read
    them by that.
    """
    members, known = faces.members(), people.members()
    levels = {
        "images": (embeddings, gallery, faces.names, people.names, faces.identities),
        "people": (
            centres(embeddings, members),
            centres(gallery, known),
            list(members),
            list(known),
            np.array(list(members)),
        ),
    }
    own = {
        "images": nearest_stranger(gallery, people.identities),
        "people": nearest_stranger(levels["people"][1], np.array(list(known))),
    }
    found: dict[str, Any] = {"gallery_images": len(people), "gallery_people": len(known)}
    for level, (ours, theirs, our_names, their_names, owners) in levels.items():
        similarity, names = nearest(ours, theirs, their_names)
        order = np.argsort(-similarity, kind="stable")[:worst]
        found[level] = {
            "quantiles": _quantiles(similarity),
            "leak_rate": {name: _share_by_person(similarity > t, owners) for name, t in thresholds.items()},
            "gallery_to_itself": _quantiles(own[level]),
            "gallery_rate": {name: round(float((own[level] > t).mean()), 6) for name, t in thresholds.items()},
            "nearest": [[our_names[i], names[i], round(float(similarity[i]), 4)] for i in order],
        }
    return found


def memorisation(embeddings: np.ndarray, training: np.ndarray, held_out: np.ndarray) -> dict[str, Any]:
    """Generated → nearest training image beside held-out → nearest training image: memorised where the first is nearer.

    `auc` is the chance that a generated image lies nearer to the training set than a held-out one; 0.5 is none.
    """
    names = [str(i) for i in range(len(training))]
    ours, theirs = nearest(embeddings, training, names)[0], nearest(held_out, training, names)[0]
    below = np.searchsorted(np.sort(theirs), ours, side="left") + np.searchsorted(np.sort(theirs), ours, side="right")
    return {
        "generated": _quantiles(ours),
        "held_out": _quantiles(theirs),
        "auc": round(float(below.mean() / 2 / len(theirs)), 4),
    }


def style_leakage(
    embeddings: np.ndarray,
    faces: LabelledFaces,
    bank: np.ndarray,
    labels: Sequence[Mapping[str, Any]],
    bank_names: Sequence[str],
    thresholds: Mapping[str, float],
) -> dict[str, Any]:
    """Likeness to the own reference beside that to a stranger matched in gender, pose and light.

    Images whose row names no reference of the bank are left out. `excess` is the mean difference of the two: what is
    more than the style alone explains.
    """
    number = {name: index for index, name in enumerate(bank_names)}
    own, matched, owners = [], [], []
    for index, label in enumerate(faces.labels):
        reference = number.get(str(label.get("reference")))
        if reference is None or len(bank_names) < 2:
            continue
        stranger = _matched(labels, reference)
        own.append(float(embeddings[index] @ bank[reference]))
        matched.append(float(embeddings[index] @ bank[stranger]))
        owners.append(faces.identities[index])
    if not own:
        return {"images": 0}
    ours, strangers, people = np.array(own), np.array(matched), np.array(owners)
    means = np.array([(ours - strangers)[people == name].mean() for name in np.unique(people)])
    return {
        "images": len(own),
        "own": _quantiles(ours),
        "matched_stranger": _quantiles(strangers),
        "excess": bootstrap(means).as_dict(),
        "leak_rate": {name: _share_by_person(ours > value, people) for name, value in thresholds.items()},
        "matched_rate": {name: _share_by_person(strangers > value, people) for name, value in thresholds.items()},
    }


def repeated(faces: LabelledFaces, least: float) -> list[list[str]]:
    """Pairs of names of pictures that differ by less than `least` of 255 at 32 pixels, whoever they show."""
    small = np.stack([thumbnail(faces.open(index)).ravel() for index in range(len(faces))])
    # pictures that differ by d on average differ by at most d in their mean: only neighbours there can be near
    mean = small.mean(1)
    order = np.argsort(mean, kind="stable")
    found = []
    for position, index in enumerate(order):
        for other in order[position + 1 :]:
            if mean[other] - mean[index] >= least:
                break
            if float(np.abs(small[index] - small[other]).mean()) < least:
                found.append(sorted((faces.names[index], faces.names[other])))
    return sorted(found)


def _matched(labels: Sequence[Mapping[str, Any]], reference: int) -> int:
    """The bank's other picture nearest in gender, light and pose, in that order."""
    own = labels[reference]

    def distance(index: int) -> tuple[bool, bool, float, int]:
        other = labels[index]
        turn = abs(float(other.get("yaw", 0)) - float(own.get("yaw", 0)))
        return other.get("gender") != own.get("gender"), other.get("light") != own.get("light"), turn, index

    return min((index for index in range(len(labels)) if index != reference), key=distance)


def _share_by_person(above: np.ndarray, owners: np.ndarray) -> dict[str, float]:
    """The share of `above`, with an interval over people."""
    names, person = np.unique(owners, return_inverse=True)
    shares = np.bincount(person, above.astype(float)) / np.bincount(person)
    interval = bootstrap(shares)
    return {"value": round(float(above.mean()), 6), "low": round(interval.low, 6), "high": round(interval.high, 6)}


def _quantiles(values: np.ndarray) -> dict[str, float]:
    levels = (0.05, 0.5, 0.95, 1.0)
    return {
        f"{level:g}": round(float(value), 4) for level, value in zip(levels, np.quantile(values, levels), strict=True)
    }
