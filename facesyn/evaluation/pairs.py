"""Genuine and impostor similarities of a dataset, with intervals from resampling its people. Works on embeddings."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from facesyn.evaluation.benchmark import equal_error_rate, roc_curve

BINS = 2000
RANKS = 50_000
"""Steps in which pairs are counted when people are resampled."""
PICTURE_LIMIT = 4000
"""Pictures whose pairs are all looked at; of more, a draw that keeps as many people as it can."""


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval over resampled people."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {name: round(getattr(self, name), 6) for name in ("value", "low", "high")}


def draw_pictures(identities: np.ndarray, limit: int = PICTURE_LIMIT, seed: int = 0) -> np.ndarray:
    """Indices of at most `limit` pictures: as many of each person as fit, of a draw of people where not all do."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(identities))
    rank: dict[str, int] = {}
    ranks = np.empty(len(identities), dtype=int)
    for index in order:
        ranks[index] = rank[identities[index]] = rank.get(identities[index], -1) + 1
    people = {name: number for number, name in enumerate(rng.permutation(np.unique(identities)))}
    if len(people) * 2 > limit:
        chosen = np.array([people[name] < limit // 2 for name in identities]) & (ranks < 2)
        return np.flatnonzero(chosen)
    return np.sort(np.lexsort((np.arange(len(identities)), ranks))[:limit])


@dataclass(frozen=True)
class PairFigures:
    """EER, FDR = (μ_g − μ_i)² / (σ_g² + σ_i²), FNMR at FMR 1 % and 0.1 %, and histograms over [-1, 1]."""

    eer: Interval
    fdr: Interval
    fnmr_at_fmr_1e_2: Interval
    fnmr_at_fmr_1e_3: Interval
    genuine: np.ndarray
    impostor: np.ndarray


def pair_figures(
    embeddings: np.ndarray, identities: np.ndarray, resamples: int = 100, seed: int = 0
) -> PairFigures | None:
    """The figures over all pairs; None where nobody has two pictures or there is only one person."""
    names, person = np.unique(identities, return_inverse=True)
    first, second = np.triu_indices(len(person), 1)
    cosine = np.clip((embeddings @ embeddings.T)[first, second], -1, 1)
    same = person[first] == person[second]
    if not same.any() or same.all():
        return None
    rank, centres = _ranked(cosine)

    def counts(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pair = weights[person[first]] * np.where(same, 1.0, weights[person[second]])
        genuine = np.bincount(rank[same], pair[same], minlength=len(centres))
        return genuine, np.bincount(rank[~same], pair[~same], minlength=len(centres))

    rng = np.random.default_rng(seed)
    spread = []
    for _ in range(resamples):
        weights = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names)).astype(float)
        genuine, impostor = counts(weights)
        if genuine.sum() and impostor.sum():
            spread.append(_ranked_figures(genuine, impostor, centres))
    exact = _exact_figures(cosine[same], cosine[~same])
    low, high = np.quantile(np.array(spread), (0.025, 0.975), axis=0)
    eer, fdr, at_1e_2, at_1e_3 = (Interval(*each) for each in zip(exact, low.tolist(), high.tolist(), strict=True))
    genuine, impostor = (np.histogram(cosine[which], BINS, (-1, 1))[0].astype(float) for which in (same, ~same))
    return PairFigures(eer, fdr, at_1e_2, at_1e_3, genuine, impostor)


def _ranked(cosine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The step of every cosine, `RANKS` of as many each, and the mean of every step.

    By rank, because cosines may lie close together wherever an encoder puts them; equal ones share a step.
    """
    rising = np.argsort(cosine)
    ordered = cosine[rising]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    place = np.maximum.accumulate(np.where(new, np.arange(len(cosine)), 0))
    _, step = np.unique(place * RANKS // len(cosine), return_inverse=True)
    rank = np.empty_like(step)
    rank[rising] = step
    return rank, np.bincount(step, ordered) / np.bincount(step)


def _exact_figures(genuine: np.ndarray, impostor: np.ndarray) -> tuple[float, ...]:
    far, tar = roc_curve(genuine, impostor)
    fdr = (genuine.mean() - impostor.mean()) ** 2 / max(genuine.var() + impostor.var(), 1e-12)
    return (equal_error_rate(far, tar), float(fdr), *(float(1 - tar[far <= f].max()) for f in (1e-2, 1e-3)))


def _ranked_figures(genuine: np.ndarray, impostor: np.ndarray, centres: np.ndarray) -> tuple[float, ...]:
    far = np.concatenate([[0.0], np.cumsum(impostor[::-1]) / impostor.sum()])
    tar = np.concatenate([[0.0], np.cumsum(genuine[::-1]) / genuine.sum()])
    moments = []
    for counts in (genuine, impostor):
        mean = np.average(centres, weights=counts)
        moments.append((mean, np.average((centres - mean) ** 2, weights=counts)))
    (mean_g, var_g), (mean_i, var_i) = moments
    fdr = (mean_g - mean_i) ** 2 / max(var_g + var_i, 1e-12)
    return (equal_error_rate(far, tar), float(fdr), *(float(1 - tar[far <= f].max()) for f in (1e-2, 1e-3)))


def dimensions(embeddings: np.ndarray) -> float:
    """How many directions embeddings (n, d) spread in: (Σλ)² / Σλ² over the eigenvalues of their covariance.

    From 1, all on a line, to d. A network that has collapsed tells nobody apart, whatever it learned from.
    """
    covariance = np.cov(np.asarray(embeddings, float), rowvar=False)
    return float(np.trace(covariance) ** 2 / max(np.square(covariance).sum(), 1e-24))


def bootstrap(
    values: np.ndarray, resamples: int = 1000, seed: int = 0, of: Callable[..., np.ndarray] = np.mean
) -> Interval:
    """The mean (or another statistic) of one value per person, with its interval."""
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    spread = [float(of(values[rng.integers(0, len(values), len(values))])) for _ in range(resamples)]
    low, high = np.quantile(spread, (0.025, 0.975))
    return Interval(float(of(values)), float(low), float(high))


def by_person(values: np.ndarray, identities: np.ndarray, resamples: int = 1000, seed: int = 0) -> Interval:
    """The mean of one value per picture, with the interval of resampling people with all their pictures."""
    _, person = np.unique(identities, return_inverse=True)
    totals, counts = np.bincount(person, np.asarray(values, float)), np.bincount(person)
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, len(counts), len(counts)) for _ in range(resamples))
    spread = [totals[draw].sum() / counts[draw].sum() for draw in draws]
    low, high = np.quantile(spread, (0.025, 0.975))
    return Interval(float(totals.sum() / counts.sum()), float(low), float(high))
