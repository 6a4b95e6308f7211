"""The uniqueness index against brute force, also where it stops being exact."""

import numpy as np

from facesyn.identity.uniqueness import UniquenessIndex


def unit(rng: np.random.Generator, count: int, dim: int = 32) -> np.ndarray:
    vectors = rng.normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def near(rng: np.random.Generator, faces: np.ndarray, share: float) -> np.ndarray:
    """Faces moved so that their cosine to where they were is about `share`."""
    moved = share * faces + np.sqrt(1 - share**2) * unit(rng, len(faces), faces.shape[1])
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def test_nobody_is_known_at_first() -> None:
    index = UniquenessIndex(4)
    assert index.nearest(np.eye(4, dtype=np.float32)[:2]) == [("", -1.0)] * 2


def test_it_answers_as_brute_force_does() -> None:
    rng = np.random.default_rng(0)
    known, queries = unit(rng, 500), unit(rng, 60)
    index = UniquenessIndex(32)
    for start in range(0, 500, 70):
        index.add([str(i) for i in range(start, min(start + 70, 500))], known[start : start + 70])
    cosine = queries @ known.T
    found = index.nearest(queries)
    assert [int(each.name) for each in found] == cosine.argmax(1).tolist()
    np.testing.assert_allclose([each.similarity for each in found], cosine.max(1), atol=1e-6)


def test_beyond_the_exact_size_it_still_finds_whom_it_knows_and_can_grow() -> None:
    rng = np.random.default_rng(1)
    known = unit(rng, 5000)
    index = UniquenessIndex(32, exact=2000, cells=32, probes=12)
    for start in range(0, 5000, 500):  # one batch ends just where exactness does
        index.add([str(i) for i in range(start, start + 500)], known[start : start + 500])
        assert index.inverted == (len(index) > 2000)
    chosen = rng.choice(5000, 400, replace=False)
    found = index.nearest(near(rng, known[chosen], 0.85))
    recall = np.mean([int(each.name) == i for each, i in zip(found, chosen, strict=True)])
    assert len(index) == 5000 and recall > 0.98


def test_how_additions_are_grouped_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    known, queries = unit(rng, 1500), unit(rng, 50)
    one, many = (UniquenessIndex(32, exact=600, cells=16, probes=2) for _ in range(2))
    names = [str(i) for i in range(1500)]
    one.add(names, known)
    for i in range(0, 1500, 7):
        many.add(names[i : i + 7], known[i : i + 7])
    assert one.nearest(queries) == many.nearest(queries)
