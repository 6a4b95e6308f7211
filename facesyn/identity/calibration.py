"""What a similarity means: thresholds of an encoder at stated false match rates, with intervals. Works on embeddings.

Strangers of one demographic cell look more alike than strangers at large, and two frontal neutral faces more alike
than one of them and a face in some style, so thresholds are kept for each of these kinds of pairs.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from facesyn.errors import UsageError
from facesyn.protocols import Facts
from facesyn.records import write_bytes

FMRS = (1e-1, 1e-2, 1e-3, 1e-4)
FALSE_MATCHES = 10
"""Pairs of different people that must lie above a threshold for it to be called measured."""
TAIL = 4
"""How many times the asked share of impostor pairs is kept for the bootstrap, which reweights them."""

Pictures = Literal["any", "frontal", "mixed"]
"""Pairs of any two pictures, of two frontal neutral ones, or of one such and one in another style."""
Strangers = Literal["all", "cell"]


class Threshold(BaseModel):
    """A cosine above which a share `fmr` of impostor pairs lies; `low` to `high` is its 95 % interval.

    `tar` is the share of genuine pairs above it. `identity_pairs` are the pairs of people behind the `pairs` of
    pictures: they bound what can be known, since pictures of the same two people are not independent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pictures: Pictures
    strangers: Strangers
    fmr: float
    threshold: float
    low: float
    high: float
    tar: float | None
    tar_low: float | None
    tar_high: float | None
    pairs: int
    identity_pairs: int


class Calibration(BaseModel):
    """The thresholds of one encoder, measured on one set of faces."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: dict[str, Any]
    fingerprint: str
    data: str
    identities: int
    images: int
    thresholds: list[Threshold]

    def threshold(self, fmr: float, *, strangers: Strangers = "cell", pictures: Pictures = "any") -> float:
        """The threshold at `fmr`, between measured ones linear in log FMR.

        Below the smallest measured FMR its threshold holds, which lets fewer pass as strangers; above the largest one,
        that one's. Raises UsageError where nothing was measured for such pairs.
        """
        rows = self._rows(strangers, pictures)
        logs = [math.log(row.fmr) for row in rows]
        return float(np.interp(math.log(fmr), logs, [row.threshold for row in rows]))

    def measured_fmr(self, fmr: float, *, strangers: Strangers = "cell", pictures: Pictures = "any") -> float:
        """The FMR at which `threshold` really answers: `fmr`, or the nearest measured one."""
        rows = self._rows(strangers, pictures)
        return min(max(fmr, rows[0].fmr), rows[-1].fmr)

    def _rows(self, strangers: Strangers, pictures: Pictures) -> list[Threshold]:
        rows = [row for row in self.thresholds if (row.strangers, row.pictures) == (strangers, pictures)]
        if not rows:
            raise UsageError(
                f"The calibration has no threshold for {pictures} pictures of strangers within {strangers}.",
                hint="Calibrate again on more identities, with their cells labelled.",
            )
        return sorted(rows, key=lambda row: row.fmr)


def fingerprint_of(facts: Facts) -> str:
    """SHA-256 over what an encoder says of itself: the same for the same weights and options."""
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()


def calibrate(
    embeddings: np.ndarray,
    identities: np.ndarray,
    cells: np.ndarray | None,
    frontal: np.ndarray,
    *,
    fmrs: Sequence[float] = FMRS,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[list[Threshold], list[str]]:
    """Thresholds for every kind of pairs and every FMR, and in words those that the pairs cannot support.

    `embeddings`: (n, d) of unit length; `identities`, `cells`: (n,) labels; `frontal`: (n,) bool.
    """
    thresholds: list[Threshold] = []
    refused: list[str] = []
    for pictures, strangers in product(("any", "frontal", "mixed"), ("all", "cell")):
        there = {"any": True, "frontal": frontal.any(), "mixed": frontal.any() and not frontal.all()}
        if (strangers == "cell" and cells is None) or not there[pictures]:
            continue
        chosen = frontal if pictures == "frontal" else np.ones(len(identities), dtype=bool)
        cell = cells if cells is not None and strangers == "cell" else np.zeros(len(identities), dtype=int)
        side = frontal[chosen] if pictures == "mixed" else None
        pairs = _Pairs(embeddings[chosen], identities[chosen], cell[chosen], side, strangers)
        for fmr in fmrs:
            reason = pairs.refusal(fmr)
            if reason:
                refused.append(f"{pictures} pictures, strangers of {strangers}: {reason}")
                continue
            thresholds.append(pairs.measure(fmr, pictures, resamples, seed))  # type: ignore[arg-type]
    return thresholds, refused


class _Pairs:
    """Genuine and impostor cosines with the people behind each, so that people can be resampled."""

    def __init__(
        self,
        embeddings: np.ndarray,
        identities: np.ndarray,
        cells: np.ndarray,
        side: np.ndarray | None,
        strangers: str,
    ):
        """Only pairs within one of `cells`; where `side` (n,) bool is given, only pairs across it."""
        self.strangers = strangers
        names, person = np.unique(identities, return_inverse=True)
        _, cell = np.unique(cells, return_inverse=True)
        self.people = len(names)
        first, second, cosine = _cosines(embeddings, cell, side)
        same = person[first] == person[second]
        self.genuine, self.genuine_person = cosine[same], person[first[same]]
        order = np.argsort(-cosine[~same], kind="stable")
        self.impostor = cosine[~same][order]
        self.impostor_people = np.stack([person[first[~same]][order], person[second[~same]][order]])
        self.counts = [np.zeros((self.people, cell.max() + 1)) for _ in range(2)]
        for counts, chosen in zip(self.counts, (side, None if side is None else ~side), strict=True):
            where = np.ones(len(person), dtype=bool) if chosen is None else chosen
            np.add.at(counts, (person[where], cell[where]), 1)
        self.mixed = side is not None
        present = (self.counts[0] + self.counts[1]) > 0
        self.identity_pairs = int(sum(int(n) * (int(n) - 1) // 2 for n in present.sum(0)))

    def refusal(self, fmr: float) -> str | None:
        if self.identity_pairs * fmr >= FALSE_MATCHES:
            return None
        needed = math.ceil(FALSE_MATCHES / fmr)
        return (
            f"{self.identity_pairs} pairs of people cannot support a false match rate of {fmr:g}, which needs {needed}"
        )

    def measure(self, fmr: float, pictures: Pictures, resamples: int, seed: int) -> Threshold:
        threshold = self._threshold(fmr, np.ones(self.people))
        rng = np.random.default_rng(seed)
        draws = [
            np.bincount(rng.integers(0, self.people, self.people), minlength=self.people).astype(float)
            for _ in range(resamples)
        ]
        spread = [self._threshold(fmr, weights) for weights in draws]
        tars = [self._tar(threshold, weights) for weights in draws]
        low, high = np.quantile(spread, (0.025, 0.975))
        measured = len(self.genuine) > 0
        return Threshold(
            pictures=pictures,
            strangers=self.strangers,  # type: ignore[arg-type]
            fmr=fmr,
            threshold=round(threshold, 6),
            low=round(float(low), 6),
            high=round(float(high), 6),
            tar=round(self._tar(threshold, np.ones(self.people)), 6) if measured else None,
            tar_low=round(float(np.quantile(tars, 0.025)), 6) if measured else None,
            tar_high=round(float(np.quantile(tars, 0.975)), 6) if measured else None,
            pairs=len(self.impostor),
            identity_pairs=self.identity_pairs,
        )

    def _threshold(self, fmr: float, weights: np.ndarray) -> float:
        """The weighted quantile: a pair counts as often as its two people were drawn together."""
        kept = min(len(self.impostor), math.ceil(TAIL * fmr * len(self.impostor)) + 1)
        first, second = self.impostor_people[:, :kept]
        above = np.cumsum(weights[first] * weights[second])
        one, other = (weights[:, None] * counts for counts in self.counts)
        total = (one.sum(0) * other.sum(0) - (one * other).sum(0)).sum() / (1 if self.mixed else 2)
        position = min(int(np.searchsorted(above, fmr * total, side="right")), kept - 1)
        return float(self.impostor[position])

    def _tar(self, threshold: float, weights: np.ndarray) -> float:
        weight = weights[self.genuine_person]
        return float((weight * (self.genuine > threshold)).sum() / max(weight.sum(), 1e-12))


def _cosines(embeddings: np.ndarray, cell: np.ndarray, side: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """First and second picture of every pair within a cell (and across `side`), and their cosine."""
    parts = []
    for value in np.unique(cell):
        members = np.flatnonzero(cell == value)
        for row, index in enumerate(members[:-1]):
            others = members[row + 1 :]
            if side is not None:
                others = others[side[others] != side[index]]
            cosines = (embeddings[others] @ embeddings[index]).astype(np.float32)
            parts.append((np.full(len(others), index, dtype=np.int32), others.astype(np.int32), cosines))
    if not parts:
        return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32)
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write it as JSON, whole or not at all."""
    write_bytes(path, (json.dumps(calibration.model_dump(), indent=1) + "\n").encode())


def read_calibration(path: Path, facts: Facts) -> Calibration:
    """The calibration at `path` of the encoder that says `facts`.

    Raises UsageError where there is none, it cannot be read, or it is another encoder's.
    """
    hint = f"Run `facesyn calibrate --data FACES -o {path}`, or switch the gates off with --no-gates."
    try:
        calibration = Calibration.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"The encoder has no calibration: there is no file {path}.", hint=hint) from None
    except (ValidationError, UnicodeDecodeError):
        raise UsageError(f"{path} is not a calibration of facesyn.", hint=hint) from None
    if calibration.fingerprint != fingerprint_of(facts):
        raise UsageError(
            f"The calibration {path} is of another encoder than {facts.get('backend', 'this one')}.", hint=hint
        )
    return calibration
