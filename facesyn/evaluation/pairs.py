"""Genuine and impostor similarities of a dataset, with intervals from resampling its people. Works on embeddings."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from facesyn.evaluation.benchmark import equal_error_rate

BINS = 2000
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
    falling = np.argsort(-cosine, kind="stable")
    first, second, cosine = person[first[falling]], person[second[falling]], cosine[falling].astype(float)
    same = first == second
    if not same.any() or same.all():
        return None

    def figures(weights: np.ndarray) -> tuple[float, ...] | None:
        """Of a draw of people, each counted `weights` times; nobody is a stranger to himself."""
        genuine, impostor = weights[first] * same, weights[first] * weights[second] * ~same
        return _figures(cosine, genuine, impostor) if genuine.any() and impostor.any() else None

    rng = np.random.default_rng(seed)
    draws = (np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names)) for _ in range(resamples))
    spread = [found for weights in draws if (found := figures(weights.astype(float)))]
    exact = _figures(cosine, same.astype(float), (~same).astype(float))
    low, high = np.quantile(np.array(spread), (0.025, 0.975), axis=0)
    eer, fdr, at_1e_2, at_1e_3 = (Interval(*each) for each in zip(exact, low.tolist(), high.tolist(), strict=True))
    genuine, impostor = (np.histogram(cosine[which], BINS, (-1, 1))[0].astype(float) for which in (same, ~same))
    return PairFigures(eer, fdr, at_1e_2, at_1e_3, genuine, impostor)


def _figures(cosine: np.ndarray, genuine: np.ndarray, impostor: np.ndarray) -> tuple[float, ...]:
    """EER, FDR, FNMR at FMR 1 % and 0.1 % of pairs in falling order of cosine; two weights say how much each counts."""
    whole = np.append(cosine[1:] != cosine[:-1], True)  # pairs that are alike pass a threshold together
    far, tar = (np.concatenate([[0.0], np.cumsum(each)[whole] / each.sum()]) for each in (impostor, genuine))
    (mean_g, var_g), (mean_i, var_i) = (_moments(cosine, each) for each in (genuine, impostor))
    fdr = (mean_g - mean_i) ** 2 / max(var_g + var_i, 1e-12)
    return (equal_error_rate(far, tar), float(fdr), *(float(1 - tar[far <= f].max()) for f in (1e-2, 1e-3)))


def _moments(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    mean = float(np.average(values, weights=weights))
    return mean, float(np.average((values - mean) ** 2, weights=weights))


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
