"""Finds prompts of one cell that say the same, word for word or nearly. Knows sentences only.

Nearly is a Jaccard similarity over three-word shingles. It is computed exactly, by an index from shingle to sentences:
a cell holds thousands of short sentences at most, for which MinHash would take longer and miss some.
"""

import re
from array import array

import numpy as np

NEAR = 0.8
"""Similarity from which two prompts are near-duplicates: of 45 words, about three in a row may differ."""

_WORDS = 3


class Said:
    """The sentences accepted so far."""

    def __init__(self) -> None:
        self._exact: set[str] = set()
        self._sizes = array("I")
        self._holders: dict[str, array[int]] = {}

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, sentence: str) -> None:
        shingles = _shingles(sentence)
        for shingle in shingles:
            self._holders.setdefault(shingle, array("I")).append(len(self))
        self._sizes.append(len(shingles))
        self._exact.add(_normalised(sentence))

    def repeats(self, sentence: str) -> bool:
        """Whether it was said before, upper case, punctuation and spaces aside."""
        return _normalised(sentence) in self._exact

    def likeness(self, sentence: str) -> float:
        """Similarity to the most similar sentence said before, 0 to 1; 0 where there is none."""
        if not self._sizes:
            return 0.0
        shingles = _shingles(sentence)
        shared = np.zeros(len(self), dtype=np.int64)
        for shingle in shingles:
            if holders := self._holders.get(shingle):
                shared[np.frombuffer(holders, dtype=np.uint32)] += 1
        union = np.frombuffer(self._sizes, dtype=np.uint32) + len(shingles) - shared
        return float((shared / union).max())


def _normalised(sentence: str) -> str:
    return " ".join(re.findall(r"\w+", sentence.lower()))


def _shingles(sentence: str) -> set[str]:
    words = re.findall(r"\w+", sentence.lower())
    return {" ".join(words[at : at + _WORDS]) for at in range(max(1, len(words) - _WORDS + 1))}
