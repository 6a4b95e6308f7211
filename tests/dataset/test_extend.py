"""`facesyn dataset extend`: more people, the earlier bytes, balanced cells, nobody twice, whatever interrupts it."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facesyn.dataset.plan import image_counts, planned_cells, segments
from facesyn.dataset.recipe import LongTail, Recipe, format_recipe, load_recipe, parse_recipe
from facesyn.demographics import Demographics, count_cells
from facesyn.errors import UsageError

from .conftest import Toy
from .test_gated_build import gated  # noqa: F401  a fixture

Hashes = Callable[[Path], dict[str, str]]

WHOLE = {
    "recipe.toml",
    "prompts.jsonl",
    "plan.jsonl",
    "images/metadata.jsonl",
    "sources/sources.jsonl",
    "contact-sheet.png",
}
"""The files that tell of the dataset as a whole."""


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def extended(toy: Toy, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = shutil.copytree(finished, tmp_path_factory.mktemp("extended") / "dataset")
    result = toy.extend(output, "--identities", 15, "--workers", 2)
    assert result.returncode == 0 and "15 identities, 45 images" in result.stdout, result.stderr
    return output


def test_what_is_there_stays_and_the_whole_is_labelled(finished: Path, extended: Path, hashes: Hashes) -> None:
    before, after = hashes(finished), hashes(extended)
    assert {name for name in before if after[name] != before[name]} == WHOLE
    images = rows(extended / "images" / "metadata.jsonl")
    assert images[:30] == rows(finished / "images" / "metadata.jsonl") and len(images) == 45
    assert all((extended / "images" / row["file_name"]).is_file() for row in images)


def test_an_extended_dataset_is_the_one_its_recipe_builds(
    toy: Toy, extended: Path, hashes: Hashes, tmp_path: Path
) -> None:
    result = toy.build(tmp_path / "anew", "--workers", 2, recipe=extended / "recipe.toml")
    assert result.returncode == 0, result.stderr
    assert hashes(tmp_path / "anew") == hashes(extended)


def test_the_same_command_adds_nothing_a_second_time(toy: Toy, extended: Path, hashes: Hashes) -> None:
    before = hashes(extended)
    result = toy.extend(extended, "--identities", 15)
    assert result.returncode == 0 and "complete already" in result.stderr
    assert hashes(extended) == before
    result = toy.extend(extended, "--identities", 14)
    assert result.returncode == 2 and "has 15 identities already" in result.stderr


def test_killed_it_goes_on_to_the_same_bytes(
    toy: Toy, finished: Path, extended: Path, hashes: Hashes, tmp_path: Path
) -> None:
    output = shutil.copytree(finished, tmp_path / "killed")
    command = [sys.executable, "-m", "facesyn", "dataset", "extend", str(output), "--identities", "15"]
    for shards in (5, 6):
        process = subprocess.Popen([*command, "--workers", "1"], env=toy.environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(list(output.glob("shards/*/DONE"))) < shards or "extended_from = []" in (
            output / "recipe.toml"
        ).read_text("utf-8"):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert toy.extend(output, "--identities", 15).returncode == 0
    assert hashes(output) == hashes(extended)


def test_nobody_new_is_anybody_there(toy: Toy, gated: Path, hashes: Hashes, tmp_path: Path) -> None:  # noqa: F811
    """The toy's person 4 is person 1 again until asked with another seed: here 4 comes with the extension."""
    calibration = json.loads((gated.parent / "toy.json").read_text())
    looser = [row | {"fmr": 0.03} for row in calibration["thresholds"] if row["pictures"] == "frontal"]
    calibration["thresholds"] += looser  # what 3 people are held to, and 6 are not
    (tmp_path / "toy.json").write_text(json.dumps(calibration))
    recipe = tmp_path / "toy.toml"
    recipe.write_text(gated.read_text().replace(str(gated.parent / "toy.json"), str(tmp_path / "toy.json")))
    output = tmp_path / "gated"
    assert toy.build(output, "--identities", 3, "--workers", 1, recipe=recipe).returncode == 0
    before = hashes(output)
    result = toy.extend(output, "--identities", 6, "--workers", 1)
    assert result.returncode == 1 and "0 of 1 people" in result.stderr  # person 3 is always black
    refused = [row for row in rows(output / "rejected.jsonl") if row["identity"] == "000004"]
    assert refused[0]["rejected_by"] == ["unique"] and refused[0]["nearest"] == "000001"
    assert rows(output / "sources" / "sources.jsonl")[3]["attempt"] == 1
    assert (output / "rounds" / "101.jsonl").is_file()
    after = hashes(output)
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed == WHOLE | {"provenance.json", "rejected.jsonl", "shortfalls.jsonl"}
    assert toy.build(tmp_path / "anew", "--workers", 2, recipe=output / "recipe.toml").returncode == 1
    assert hashes(tmp_path / "anew") == after


def test_a_folder_without_a_dataset_is_refused(facesyn: Callable[..., Any], tmp_path: Path) -> None:
    result = facesyn("dataset", "extend", tmp_path, "--identities", 3)
    assert result.exit_code == 2 and "holds no dataset to extend" in result.stderr


@pytest.mark.parametrize("weights", [{}, {"African": 3.0, "male": 0.7, "18-29": 1.3}])
def test_cells_are_balanced_for_the_new_total_and_none_loses(weights: dict[str, float]) -> None:
    demographics = Demographics(weights=tuple(weights.items()))
    cells = demographics.plan(16, seed=1)
    for total in (17, 25, 64, 65, 300):
        before = list(cells)
        cells += demographics.plan(total, 1, cells)
        assert cells[: len(before)] == before and len(cells) == total
        asked, got = demographics.quotas(total), count_cells(cells)
        assert all(abs(got.get(cell, 0) - number) <= 1 for cell, number in asked.items())
    if not weights:
        assert Counter(count_cells(cells).values()) == {9: 20, 10: 12}  # 300 = 20 × 9 + 12 × 10


def test_segments_share_no_shard_and_keep_their_counts() -> None:
    recipe = load_recipe("syn-ms1m").scaled(identities=25)
    larger = recipe.extended(40).extended(41)
    assert parse_recipe(format_recipe(larger), "it") == larger
    parts = segments(larger)
    assert [(part.identities, part.shards) for part in parts] == [
        (range(0, 25), range(0, 3)),
        (range(25, 40), range(3, 5)),
        (range(40, 41), range(5, 6)),
    ]
    assert list(parts[1].shard_rows(4, larger.shard_size)) == [35, 36, 37, 38, 39]
    assert isinstance(larger.images, LongTail) and sum(image_counts(larger)) == larger.image_total == 50 * 41
    assert image_counts(larger)[:25] == image_counts(recipe)
    assert planned_cells(larger)[:25] == planned_cells(recipe)


def test_extensions_that_do_not_grow_are_refused() -> None:
    values = load_recipe("demo").model_dump() | {"extended_from": [[16, 96]]}
    with pytest.raises(UsageError, match="extended_from must rise"):
        parse_recipe(format_recipe(Recipe.model_validate(values)), "it")
