"""Aligned images of a build: the same names and labels, pictures that follow from the rows' landmarks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facesyn.identity.alignment import TEMPLATE, align, similarity_to_template
from facesyn.identity.landmarks import landmarks, load_landmarker

from .conftest import ROOT, Toy

Hashes = Callable[[Path], dict[str, str]]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def built(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("aligned") / "dataset"
    recipe = toy.edited(output.with_suffix(".toml"), ("[prompts]", "[output]\naligned = true\n\n[prompts]"))
    result = toy.build(output, "--workers", 1, recipe=recipe)
    assert result.returncode == 0, result.stderr
    return output


def test_every_image_is_there_once_more_with_the_same_labels(built: Path) -> None:
    images, aligned = rows(built / "images" / "metadata.jsonl"), rows(built / "aligned" / "metadata.jsonl")
    assert len(images) == 30 and [{k: v for k, v in row.items() if k != "landmarks"} for row in images] == aligned
    for row in images:
        with (
            Image.open(built / "aligned" / row["file_name"]) as face,
            Image.open(built / "images" / row["file_name"]) as picture,
        ):
            expected = align(picture, np.array(row["landmarks"]))
            assert face.size == (112, 112) and np.array_equal(np.asarray(face), np.asarray(expected))


def test_the_other_bytes_do_not_depend_on_it(built: Path, finished: Path, hashes: Hashes) -> None:
    before, after = hashes(finished), hashes(built)
    pictures = [name for name in after if name.startswith(("images/0", "sources/0"))]
    assert len(pictures) == 40 and all(before[name] == after[name] for name in pictures)


def test_a_missing_aligned_image_is_made_again(toy: Toy, built: Path, hashes: Hashes, tmp_path: Path) -> None:
    output = shutil.copytree(built, tmp_path / "damaged")
    shutil.rmtree(output / "aligned" / "000001")
    result = toy.build(output, "--workers", 1, recipe=output / "recipe.toml")
    assert result.returncode == 0 and "24 of 30 images are there" in result.stderr, result.stderr
    assert hashes(output) == hashes(built)


def test_the_landmarker_places_faces_on_the_template() -> None:
    bank = ROOT / "backends" / "mini" / "references"
    labelled = [row for row in rows(bank / "metadata.jsonl") if abs(row["yaw"]) < 15][:16]
    pictures = [Image.open(bank / row["file_name"]).convert("RGB") for row in labelled]
    found = landmarks(load_landmarker("mini"), pictures)
    known = np.array([row["landmarks"] for row in labelled])
    assert np.abs(found - known).mean() < 2.0  # pixels of 128
    for points, truth in zip(found, known, strict=True):
        matrix = similarity_to_template(points)
        assert np.abs(truth @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE).mean() < 6.0  # pixels of 112
