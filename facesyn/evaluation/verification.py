"""Genuine and impostor similarities, and thresholds at a stated false match rate. Works on embeddings only."""

import numpy as np

from facesyn.errors import UsageError


def genuine_impostor(embeddings: np.ndarray, identities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all pairs of the same identity and of all pairs of different ones.

    `embeddings`: (n, d), unit length; `identities`: (n,) labels.
    """
    cosine = embeddings @ embeddings.T
    upper = np.triu(np.ones(cosine.shape, dtype=bool), 1)
    same = identities[:, None] == identities[None, :]
    return cosine[upper & same], cosine[upper & ~same]


def threshold_at_fmr(impostor: np.ndarray, fmr: float) -> float:
    """The cosine above which a share `fmr` of impostor pairs lies. Raises UsageError for fewer than 10 / fmr pairs."""
    if len(impostor) * fmr < 10:
        raise UsageError(f"{len(impostor)} impostor pairs cannot support a false match rate of {fmr:g}.")
    return float(np.quantile(impostor, 1 - fmr))
