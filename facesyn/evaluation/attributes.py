"""Whether a classifier finds in pictures what they should show. Knows nothing of who made them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from facesyn.labelled import CELL
from facesyn.protocols import AttributeClassifier


def hits(
    classifier: AttributeClassifier, pictures: Sequence[Image.Image], wanted: Sequence[Mapping[str, Any]]
) -> dict[str, np.ndarray]:
    """Attribute → (n,) whether the category that `classifier` finds likeliest in each picture is the one `wanted`."""
    said: list[dict[str, dict[str, float]]] = []
    for start in range(0, len(pictures), 64):
        said += classifier.classify(pictures[start : start + 64])
    return {
        key: np.array([max(s[key], key=lambda name: s[key][name]) == w[key] for s, w in zip(said, wanted, strict=True)])
        for key in CELL
    }
