"""Gates in `facesyn dataset build`: planted faults are caught, and the promises of a build hold with gates too."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facesyn.identity.calibration import Calibration, Threshold, fingerprint_of, write_calibration

from .conftest import Toy
from .toy_backends import ToyEncoder

Hashes = Callable[[Path], dict[str, str]]

UNIQUE, IDENTITY, LEAKAGE = 0.9995, 0.3, 0.98
"""Cosines of mean colours, high as they are for drawn ovals."""


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def gated(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with gates and with backends that plant faults."""
    folder = tmp_path_factory.mktemp("gated")
    facts = ToyEncoder().facts()
    kinds = {"frontal": (0.01, UNIQUE), "mixed": (0.01, IDENTITY)}
    thresholds = [
        Threshold(
            **{
                "pictures": pictures,
                "strangers": strangers,
                "fmr": fmr,
                "threshold": value,
                "low": value,
                "high": value,
            },
            **{"tar": None, "tar_low": None, "tar_high": None, "pairs": 10_000, "identity_pairs": 10_000},
        )
        for pictures, (fmr, value) in kinds.items()
        for strangers in ("all", "cell")
    ]
    thresholds += [
        t.model_copy(update={"fmr": 0.001, "threshold": LEAKAGE}) for t in thresholds if t.pictures == "mixed"
    ]
    calibration = Calibration(
        encoder=dict(facts),
        fingerprint=fingerprint_of(facts),
        data="",
        identities=100,
        images=100,
        thresholds=thresholds,
    )
    write_calibration(folder / "toy.json", calibration)
    gates = f'\n[gates]\ncalibration = "{folder / "toy.json"}"\none_face = false\nfrontal = false\nattempts = 5\n'
    recipe = toy.edited(
        folder / "toy.toml",
        ('[generate]\nbackend = "toy"', '[generate]\nbackend = "toy"\nfaulty = true'),
        ('[transfer]\nbackend = "toy"', '[transfer]\nbackend = "toy"\nleaky = true'),
        ('[encoder]\nbackend = "toy"\n', '[encoder]\nbackend = "toy"\n' + gates),
    )
    return recipe


@pytest.fixture(scope="module")
def built(toy: Toy, gated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("built") / "dataset"
    result = toy.build(output, "--workers", 1, recipe=gated)
    assert result.returncode == 1, result.stderr  # partial: person 3 cannot be made
    assert "Shortfall in" in result.stderr and "0 of 1 people, 0 of 3 images" in result.stderr
    return output


def test_a_black_picture_is_never_let_in_and_ends_as_a_named_shortfall(built: Path) -> None:
    (shortfall,) = rows(built / "shortfalls.jsonl")
    plan = {row["id"]: row for row in rows(built / "plan.jsonl")}
    assert all(shortfall[key] == plan["000003"][key] for key in ("ethnicity", "gender", "age_interval"))
    assert (shortfall["identities"], shortfall["identities_asked"], shortfall["images_asked"]) == (0, 1, 3)
    refused = [row for row in rows(built / "rejected.jsonl") if row["identity"] == "000003"]
    assert [row["attempt"] for row in refused] == [0, 1, 2, 3, 4]
    assert all("contrast" in row["rejected_by"] and row["gates"]["contrast"] == 0 for row in refused)
    assert len({row["seed"] for row in refused}) == 5
    assert not (built / "images" / "000003").exists() and not (built / "sources" / "000003.png").exists()


def test_verify_finds_it_whole_without_the_people_that_were_not_let_in(facesyn: Any, built: Path) -> None:
    result = facesyn("dataset", "verify", built)
    assert result.exit_code == 0 and "27 images of 9 identities, run folder: all well" in result.stdout, result.stdout


def test_a_duplicated_identity_is_refused_and_made_again(built: Path) -> None:
    refused = [row for row in rows(built / "rejected.jsonl") if row["identity"] == "000004"]
    assert refused[0]["stage"] == "generate" and refused[0]["rejected_by"] == ["unique"]
    assert refused[0]["nearest"] == "000001" and refused[0]["gates"]["unique"] > UNIQUE
    source = next(row for row in rows(built / "sources" / "sources.jsonl") if row["identity"] == "000004")
    assert source["attempt"] >= 1 and source["gates"]["unique"] <= UNIQUE
    planned = next(row for row in rows(built / "plan.jsonl") if row["id"] == "000004")
    assert source["face_seed"] != planned["face_seed"] and source["edge_map"] != planned["edge_map"]


def test_no_two_accepted_people_are_above_the_threshold(built: Path) -> None:
    pictures = [Image.open(path) for path in sorted((built / "sources").glob("*.png"))]
    assert len(pictures) == 9
    cosine = np.tril(np.stack([ToyEncoder().embed([p])[0] for p in pictures]) @ ToyEncoder().embed(pictures).T, -1)
    assert cosine.max() <= UNIQUE


def test_a_copied_style_reference_is_refused_and_made_again(built: Path) -> None:
    leaks = [row for row in rows(built / "rejected.jsonl") if "leakage" in row["rejected_by"]]
    assert leaks and all(row["seed"] % 4 == 0 for row in leaks)
    images = rows(built / "images" / "metadata.jsonl")
    assert len(images) == 27 and all(row["transfer_seed"] % 4 for row in images)
    assert all(row["gates"]["leakage"] <= LEAKAGE and row["gates"]["identity"] >= IDENTITY for row in images)
    assert {row["attempt"] for row in images} > {0}
    planned = {row["id"]: row["references"] for row in rows(built / "plan.jsonl")}
    again = [(row["reference"], planned[row["identity"]]) for row in images if row["attempt"]]
    assert all(reference not in others for reference, others in again)  # other noise alone changes little
    made = [str(path.relative_to(built / "images")) for path in sorted(built.glob("images/*/*.png"))]
    assert made == [row["file_name"] for row in images]


def test_provenance_says_at_which_rate_people_are_told_apart(built: Path) -> None:
    gates = json.loads((built / "provenance.json").read_text())["gates"]
    assert gates["unique"] == {"threshold": UNIQUE, "fmr": 0.01} and gates["leakage"]["fmr"] == 0.001


def test_two_workers_make_the_same_bytes(toy: Toy, gated: Path, built: Path, hashes: Hashes, tmp_path: Path) -> None:
    assert toy.build(tmp_path / "two", "--workers", 2, recipe=gated).returncode == 1
    assert hashes(tmp_path / "two") == hashes(built)


def test_killed_anywhere_it_goes_on_to_the_same_bytes(toy: Toy, gated: Path, hashes: Hashes, tmp_path: Path) -> None:
    """SIGKILL in the first round of sources, between rounds, and among the images."""
    slow = tmp_path / "slow.toml"
    slow.write_text(
        gated.read_text()
        .replace("faulty = true", "faulty = true\ndelay = 0.2")
        .replace("leaky = true", "leaky = true\ndelay = 0.2")
    )
    output = tmp_path / "killed"
    for pattern in ("candidates/00-*/candidates.jsonl", "rounds/00.jsonl", "rounds/02.jsonl", "shards/*/DONE"):
        process = subprocess.Popen(toy.command(output, "--workers", 2, recipe=slow), env=toy.environment)
        deadline = time.monotonic() + 60
        while not list(output.glob(pattern)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    for folder in (output, tmp_path / "whole"):
        assert toy.build(folder, recipe=slow).returncode == 1
    assert hashes(output) == hashes(tmp_path / "whole")


def test_a_lost_source_is_made_again_by_its_attempt(
    toy: Toy, gated: Path, built: Path, hashes: Hashes, tmp_path: Path
) -> None:
    output = shutil.copytree(built, tmp_path / "damaged")
    (output / "sources" / "000004.png").unlink()
    assert toy.build(output, recipe=gated).returncode == 1
    assert hashes(output) == hashes(built)


def test_without_gates_everything_is_let_in(toy: Toy, gated: Path, tmp_path: Path) -> None:
    result = toy.build(tmp_path / "open", "--no-gates", recipe=gated)
    assert result.returncode == 0, result.stderr
    assert len(rows(tmp_path / "open" / "images" / "metadata.jsonl")) == 30
    assert not (tmp_path / "open" / "rejected.jsonl").exists()


@pytest.mark.parametrize("gate", ["unique", "leakage", "quality"])
def test_each_gate_can_be_switched_off(toy: Toy, gated: Path, tmp_path: Path, gate: str) -> None:
    recipe = tmp_path / "toy.toml"
    recipe.write_text(gated.read_text().replace("[gates]\n", f"[gates]\n{gate} = false\n"))
    toy.build(tmp_path / "out", recipe=recipe)
    reasons = {reason for row in rows(tmp_path / "out" / "rejected.jsonl") for reason in row["rejected_by"]}
    assert ({"quality": "contrast"}.get(gate, gate)) not in reasons


def test_people_of_a_known_folder_are_not_made_again(toy: Toy, gated: Path, built: Path, tmp_path: Path) -> None:
    """Growing: the same recipe again must resemble nobody of the dataset it made before."""
    recipe = tmp_path / "toy.toml"
    recipe.write_text(gated.read_text().replace("[gates]\n", f'[gates]\nknown = ["{built}"]\n'))
    toy.build(tmp_path / "more", recipe=recipe)
    refused = [
        row for row in rows(tmp_path / "more" / "rejected.jsonl") if row["stage"] == "generate" and row["attempt"] == 0
    ]
    assert {row["identity"] for row in refused if "unique" in row["rejected_by"]} >= {"000000", "000001", "000002"}
    assert all(row["nearest"].startswith("dataset/") for row in refused if row["identity"] == "000000")


def test_a_missing_calibration_is_named(toy: Toy, gated: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "toy.toml"
    lines = [line for line in gated.read_text().splitlines() if not line.startswith("calibration")]
    recipe.write_text("\n".join(lines))
    result = toy.build(tmp_path / "out", recipe=recipe)
    assert result.returncode == 2 and "ships no calibration" in result.stderr and "--no-gates" in result.stderr
    assert not (tmp_path / "out" / "images").exists() or not list((tmp_path / "out" / "images").iterdir())
