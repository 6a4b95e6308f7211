"""Datasets compared under one protocol: equal numbers, and a real run on drawn people."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facesyn.errors import UsageError
from facesyn.labelled import LabelledFaces
from facesyn.recognition import compare
from facesyn.recognition.compare import _by_cell, matched
from facesyn.testing import drawn_face


def faces(counts: list[int]) -> LabelledFaces:
    names = np.repeat([f"p{i}" for i in range(len(counts))], counts)
    return LabelledFaces(list(names), names, [{}] * len(names), lambda i: Image.new("RGB", (8, 8)))


def test_sets_are_cut_to_equal_numbers() -> None:
    sets = {"a": faces([5, 4, 3, 9]), "b": faces([2, 6, 6, 6, 1])}
    found = matched(sets, None, None, seed=0)
    assert {name: [len(m) for m in each.members().values()] for name, each in found.items()} == {
        "a": [2] * 4,
        "b": [2] * 4,
    }
    found = matched(sets, 3, 4, seed=0)
    assert all(sorted(len(m) for m in each.members().values()) == [4, 4, 4] for each in found.values())
    with pytest.raises(UsageError, match="fewer than 5"):
        matched(sets, 5, None, seed=0)
    with pytest.raises(UsageError, match="people with 6 images"):
        matched(sets, 3, 6, seed=0)


def test_errors_of_a_cell_are_counted_at_the_common_threshold() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 8))
    embeddings = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    names, cells = np.repeat([f"p{i}" for i in range(20)], 2), np.repeat(["x", "y"], 20)
    every = sorted(float(embeddings[i] @ embeddings[j]) for i in range(40) for j in range(i) if names[i] != names[j])
    threshold = np.quantile(every, 0.99)
    for cell, found in _by_cell(embeddings, names, cells).items():
        inside = [i for i in range(40) if cells[i] == cell]
        pairs = [(names[i] == names[j], float(embeddings[i] @ embeddings[j])) for i in inside for j in inside if j < i]
        impostor, genuine = [v for s, v in pairs if not s], [v for s, v in pairs if s]
        assert found["fmr"] == pytest.approx(np.mean([v > threshold for v in impostor]), abs=1e-6)
        assert found["fnmr"] == pytest.approx(np.mean([v <= threshold for v in genuine]), abs=1e-6)


def test_command_compares_two_folders(
    facesyn: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    for name, first in (("one", 0), ("two", 10), ("unseen", 20)):
        for person in range(first, first + 5):
            (tmp_path / name / f"{person}").mkdir(parents=True)
            for number in range(3):
                noisy = np.asarray(drawn_face(person, size=64), int) + rng.integers(-15, 15, (64, 64, 3))
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(
                    tmp_path / name / f"{person}" / f"{number}.png"
                )
    words = ["--backbone", "mobilefacenet", "--epochs", 1, "--batch-size", 6, "--seeds", 2, "--threads", 1]
    command = ["evaluate", "compare", tmp_path / "one", tmp_path / "two", "--unseen", tmp_path / "unseen"]
    result = facesyn(*command, "-o", tmp_path / "runs", *words, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert set(found["sets"]) == {"0-one", "1-two"} and found["unseen"] == {"people": 5, "images": 15}
    for values in found["sets"].values():
        assert values["people"] == 5 and values["images"] == 15 and len(values["seeds"]) == 2
        assert 0 <= values["eer"]["mean"] <= 1 and values["eer"]["std"] is not None
    spread = [run["dimensions"] for values in found["sets"].values() for run in values["seeds"]]
    for limit in (min(spread), max(spread) + 1):
        monkeypatch.setattr(compare, "COLLAPSED", limit)
        again = facesyn(*command, "-o", tmp_path / "runs", *words, "--json")
        assert json.loads(again.stdout) == found  # finished runs are read, not repeated
        assert again.stderr.count("the network has collapsed") == (0 if limit == min(spread) else 4)
