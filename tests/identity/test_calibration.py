"""Calibration against an independent count over all pairs, and what it refuses."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facesyn.errors import UsageError
from facesyn.identity.calibration import Calibration, calibrate, fingerprint_of, read_calibration, write_calibration


@pytest.fixture
def people() -> dict[str, Any]:
    """120 people in 3 cells, 3 pictures each, of which the first is frontal."""
    rng = np.random.default_rng(4)
    cell_centre, person = rng.normal(size=(3, 16)), rng.normal(size=(120, 16))
    centres = person + cell_centre[np.arange(120) % 3]
    pictures = np.repeat(centres, 3, axis=0) + 0.8 * rng.normal(size=(360, 16))
    return {
        "embeddings": (pictures / np.linalg.norm(pictures, axis=1, keepdims=True)).astype(np.float32),
        "identities": np.repeat([f"p{i}" for i in range(120)], 3),
        "cells": np.repeat([f"c{i % 3}" for i in range(120)], 3),
        "frontal": np.tile([True, False, False], 120),
    }


def counted(people: dict[str, Any], pictures: str, strangers: str) -> list[float]:
    """Impostor cosines, pair by pair in plain Python."""
    found = []
    for i, j in combinations(range(len(people["identities"])), 2):
        kinds = {bool(people["frontal"][i]), bool(people["frontal"][j])}
        if people["identities"][i] == people["identities"][j]:
            continue
        if strangers == "cell" and people["cells"][i] != people["cells"][j]:
            continue
        if {"any": True, "frontal": kinds == {True}, "mixed": len(kinds) == 2}[pictures]:
            found.append(sum(float(a) * float(b) for a, b in zip(*people["embeddings"][[i, j]], strict=True)))
    return sorted(found, reverse=True)


def test_thresholds_are_those_of_a_count_over_all_pairs(people: dict[str, Any]) -> None:
    thresholds, refused = calibrate(**people, fmrs=(0.1, 0.01), resamples=20)
    assert not refused
    assert len(thresholds) == 12
    for row in thresholds:
        impostor = counted(people, row.pictures, row.strangers)
        assert row.pairs == len(impostor)
        above = sum(value > row.threshold + 1e-6 for value in impostor)
        assert above == pytest.approx(row.fmr * len(impostor), abs=2)
        assert row.low <= row.threshold <= row.high
    pairs = {(row.pictures, row.strangers): row.identity_pairs for row in thresholds}
    assert pairs["any", "all"] == 120 * 119 // 2 and pairs["any", "cell"] == 3 * 40 * 39 // 2


def test_portraits_alone_say_nothing_of_pairs_with_a_styled_picture(people: dict[str, Any]) -> None:
    portraits = {key: value[people["frontal"]] for key, value in people.items()}
    thresholds, refused = calibrate(**portraits, fmrs=(0.01,), resamples=20)
    assert {row.pictures for row in thresholds} == {"any", "frontal"} and not refused
    assert all(row.tar is None for row in thresholds)  # nobody is there twice


def test_strangers_of_one_cell_need_a_higher_threshold(people: dict[str, Any]) -> None:
    thresholds, _ = calibrate(**people, fmrs=(0.01,), resamples=20)
    by_kind = {(row.pictures, row.strangers): row.threshold for row in thresholds}
    assert by_kind["any", "cell"] > by_kind["any", "all"]


def test_intervals_hold_the_threshold_of_the_population() -> None:
    """95 % of intervals should: over 20 samples from one population, all but a few do."""
    rng = np.random.default_rng(0)

    def sample(count: int) -> np.ndarray:
        vectors = rng.normal(size=(count, 12))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def measured(count: int) -> Any:
        names = np.arange(count).astype(str)
        return calibrate(sample(count), names, None, np.zeros(count, bool), fmrs=(0.01,), resamples=100)[0][0]

    truth = measured(3000).threshold
    held = [row.low <= truth <= row.high for row in (measured(150) for _ in range(20))]
    assert sum(held) >= 16


def test_a_rate_the_people_cannot_support_is_refused(people: dict[str, Any]) -> None:
    thresholds, refused = calibrate(**people, fmrs=(0.01, 0.001), resamples=20)
    assert {row.fmr for row in thresholds} == {0.01}  # 7,140 pairs of people, however many pairs of pictures
    assert len(refused) == 6 and "7140 pairs of people cannot support a false match rate of 0.001" in refused[0]


def test_between_measured_rates_the_threshold_is_interpolated(people: dict[str, Any]) -> None:
    rows, _ = calibrate(**people, fmrs=(0.1, 0.01), resamples=20)
    calibration = Calibration(encoder={}, fingerprint="", data="", identities=120, images=360, thresholds=rows)
    at = {fmr: calibration.threshold(fmr, strangers="all") for fmr in (0.5, 0.1, 0.0316228, 0.01, 1e-6)}
    assert at[0.0316228] == pytest.approx((at[0.1] + at[0.01]) / 2, abs=1e-6)
    assert at[0.5] == at[0.1] and at[1e-6] == at[0.01]
    assert calibration.measured_fmr(1e-6, strangers="all") == 0.01


def test_a_calibration_is_of_one_encoder(people: dict[str, Any], tmp_path: Path) -> None:
    rows, _ = calibrate(**people, fmrs=(0.1,), resamples=20)
    facts = {"backend": "x", "sha256": "1"}
    before = Calibration(
        encoder=facts, fingerprint=fingerprint_of(facts), data="", identities=120, images=360, thresholds=rows
    )
    write_calibration(tmp_path / "c.json", before)
    assert read_calibration(tmp_path / "c.json", facts) == before
    with pytest.raises(UsageError, match="of another encoder"):
        read_calibration(tmp_path / "c.json", facts | {"sha256": "2"})
    with pytest.raises(UsageError, match="no file"):
        read_calibration(tmp_path / "none.json", facts)
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(UsageError, match="not a calibration"):
        read_calibration(tmp_path / "c.json", facts)


def test_command_calibrates_a_folder_per_person(facesyn: Callable[..., Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for person in range(20):
        (tmp_path / "faces" / f"{person}").mkdir(parents=True)
        colour = rng.integers(40, 220, (4, 4, 3))
        for number in range(2):
            noisy = (colour + rng.integers(-20, 20, colour.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).resize((64, 64)).save(tmp_path / "faces" / f"{person}" / f"{number}.png")
    refused = facesyn("calibrate", "--data", tmp_path / "faces", "-o", tmp_path / "c.json", "--fmr", 0.001)
    assert refused.exit_code == 2 and "190 pairs of people cannot support" in refused.stderr
    assert not (tmp_path / "c.json").exists()
    result = facesyn("calibrate", "--data", tmp_path / "faces", "-o", tmp_path / "c.json", "--json")
    assert result.exit_code == 0, result.stderr
    written = Calibration.model_validate_json((tmp_path / "c.json").read_text())
    assert [row.fmr for row in written.thresholds] == [0.1] and written.identities == 20 and "Left out" in result.stderr


def test_command_takes_rendered_people_with_their_portraits(facesyn: Callable[..., Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for part, style in ((tmp_path / "renders", 4), (tmp_path / "renders" / "portraits", -1)):
        part.mkdir()
        rows = [{"file_name": f"{person}.png", "identity": f"{person}", "style": style} for person in range(20)]
        for row in rows:
            Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(part / row["file_name"])
        (part / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = facesyn("calibrate", "--data", tmp_path / "renders", "-o", tmp_path / "c.json")
    assert result.exit_code == 0, result.stderr
    written = Calibration.model_validate_json((tmp_path / "c.json").read_text())
    assert {row.pictures for row in written.thresholds} == {"any", "frontal", "mixed"} and written.images == 40
