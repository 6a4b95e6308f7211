"""Whether a face is somebody already known: the nearest of up to millions of identities. Knows embeddings only."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

EXACT = 100_000
"""Identities up to which all are compared: 100,000 × 512 numbers take a few milliseconds a query."""
CELLS = 1024
PROBES = 32


class Nearest(NamedTuple):
    """The most similar known identity; `name` is empty and `similarity` -1 where nobody is known."""

    name: str
    similarity: float


class UniquenessIndex:
    """Identities by embedding (faiss, inner product). Exact up to `exact` identities, an inverted file beyond.

    The inverted file is trained on the first `exact` embeddings and looks into `probes` of `cells` lists, those
    around the query: a face above any useful threshold lies there, a far stranger may be missed, which changes no
    verdict. The same additions in the same order give the same answers.
    """

    def __init__(self, dim: int, exact: int = EXACT, cells: int = CELLS, probes: int = PROBES):
        import faiss

        self.dim, self._exact, self._cells, self._probes = dim, exact, cells, probes
        self._index: Any = faiss.IndexFlatIP(dim)
        self.names: list[str] = []
        self.inverted = False

    def __len__(self) -> int:
        return len(self.names)

    def add(self, names: Sequence[str], embeddings: np.ndarray) -> None:
        """Make identities known; `embeddings`: (n, dim) of unit length."""
        rows = np.ascontiguousarray(embeddings, dtype=np.float32)
        head = len(rows) if self.inverted else self._exact - len(self)
        self._index.add(rows[:head])
        self.names += list(names)
        if head < len(rows):
            self._index, self.inverted = self._inverted(), True
            self._index.add(rows[head:])

    def nearest(self, embeddings: np.ndarray) -> list[Nearest]:
        """The nearest known identity of each query, (n, dim) of unit length."""
        rows = np.ascontiguousarray(embeddings, dtype=np.float32)
        if not self.names:
            return [Nearest("", -1.0)] * len(rows)
        similarities, numbers = self._index.search(rows, 1)
        return [
            Nearest(self.names[number], float(similarity)) if number >= 0 else Nearest("", -1.0)
            for similarity, number in zip(similarities[:, 0], numbers[:, 0], strict=True)
        ]

    def _inverted(self) -> Any:
        """An inverted file that holds what the flat index held."""
        import faiss

        known = self._index.reconstruct_n(0, self._index.ntotal)
        inverted: Any = faiss.index_factory(self.dim, f"IVF{self._cells},Flat", faiss.METRIC_INNER_PRODUCT)
        inverted.nprobe = self._probes
        inverted.cp.seed, inverted.cp.max_points_per_centroid, inverted.cp.spherical = 1, 64, True
        inverted.train(known)
        inverted.add(known)
        return inverted
