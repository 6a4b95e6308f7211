"""`facesyn dataset build`: what it leaves on disk, whether killed, interrupted, refused or shared."""

import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from facesyn.dataset.recipe import load_recipe

from .conftest import Toy

Hashes = Callable[[Path], dict[str, str]]
Run = Callable[..., Any]


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_dataset_is_complete_and_labelled(finished: Path) -> None:
    images = rows(finished / "images" / "metadata.jsonl")
    pictures = sorted(str(path.relative_to(finished / "images")) for path in finished.glob("images/*/*.png"))
    assert [row["file_name"] for row in images] == pictures and len(pictures) == 30
    sources = rows(finished / "sources" / "sources.jsonl")
    assert [f"{row['identity']}.png" for row in sources] == sorted(p.name for p in finished.glob("sources/*.png"))
    cells = {row["identity"]: (row["ethnicity"], row["gender"], row["age_interval"]) for row in sources}
    assert all((row["ethnicity"], row["gender"], row["age_interval"]) == cells[row["identity"]] for row in images)
    assert all(-1 <= float(str(row["source_similarity"])) <= 1 for row in images)
    assert all(set(row["style"]) == {"gender", "yaw"} for row in images)  # type: ignore[call-overload]
    assert len(list(finished.glob("shards/*/DONE"))) == 5
    with Image.open(finished / "contact-sheet.png") as sheet:
        assert sheet.height == 10 * 128 and sheet.width > 4 * 128


def test_datasets_reads_it_as_an_image_folder(finished: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the datasets extra is not installed")
    for folder in (finished, finished / "images"):
        data = datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(tmp_path), split="train")
        assert len(data) == 30
        assert data[4]["identity"] == "000001" and data[4]["image"].size == (32, 32)


def test_two_workers_make_the_same_bytes(toy: Toy, finished: Path, hashes: Hashes, tmp_path: Path) -> None:
    result = toy.build(tmp_path / "two", "--workers", 2)
    assert result.returncode == 0, result.stderr
    assert hashes(tmp_path / "two") == hashes(finished)


def test_killed_at_any_point_it_goes_on_to_the_same_bytes(toy: Toy, hashes: Hashes, tmp_path: Path) -> None:
    """SIGKILL at five random points of one build of ten shards, each further on than the one before."""
    slow = toy.edited(
        tmp_path / "toy.toml",
        ("identities = 10", "identities = 20"),
        ('[transfer]\nbackend = "toy"', '[transfer]\nbackend = "toy"\ndelay = 0.15'),
    )
    output, rng = tmp_path / "killed", random.Random(7)
    for shards in (0, 1, 3, 5, 7):
        process = subprocess.Popen(toy.command(output, "--workers", 2, recipe=slow), env=toy.environment)
        deadline = time.monotonic() + 60
        while len(list(output.glob("shards/*/DONE"))) < shards or not (output / "recipe.toml").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.25))  # a shard takes at least 0.3 s
        process.kill()
        assert process.wait() == -signal.SIGKILL
    for folder in (output, tmp_path / "whole"):
        result = toy.build(folder, recipe=slow)
        assert result.returncode == 0, result.stderr
    assert hashes(output) == hashes(tmp_path / "whole")


def test_a_finished_build_says_so_and_changes_nothing(toy: Toy, finished: Path, hashes: Hashes) -> None:
    before = hashes(finished)
    result = toy.build(finished)
    assert result.returncode == 0 and "complete already" in result.stderr
    assert hashes(finished) == before


def test_a_damaged_shard_is_made_again(toy: Toy, finished: Path, hashes: Hashes, tmp_path: Path) -> None:
    output = shutil.copytree(finished, tmp_path / "damaged")
    (output / "images" / "000002" / "001.png").unlink()
    (output / "sources" / "000007.png").write_bytes(b"")
    result = toy.build(output)
    assert result.returncode == 0 and "18 of 30 images are there" in result.stderr
    assert hashes(output) == hashes(finished)


def test_another_recipe_is_refused_by_its_changed_keys(refused: Run, finished: Path, hashes: Hashes) -> None:
    before = hashes(finished)
    result = refused(finished, "--seed", 6, "--images", 4)
    assert result.exit_code == 1
    assert "another recipe; changed: images, seed." in result.stderr and "Traceback" not in result.stderr
    assert hashes(finished) == before


def test_changed_models_and_banks_are_refused(toy: Toy, finished: Path, tmp_path: Path) -> None:
    references = shutil.copytree(toy.references, tmp_path / "references")
    recipe = toy.edited(tmp_path / "toy.toml", (str(toy.references), str(references)))
    assert toy.build(tmp_path / "out", recipe=recipe).returncode == 0
    Image.new("RGB", (40, 40), "red").save(references / "style3.png")
    result = toy.build(tmp_path / "out", recipe=recipe)
    assert result.returncode == 1 and "changed: references." in result.stderr
    moved = shutil.copytree(finished, tmp_path / "other-models")
    facts = json.loads((moved / "provenance.json").read_text())
    facts["generator"]["version"] = 0
    (moved / "provenance.json").write_text(json.dumps(facts))
    (moved / "shards" / "00001" / "DONE").unlink()
    result = toy.build(moved)
    assert result.returncode == 1 and "changed: generator.version." in result.stderr


def test_a_foreign_folder_is_refused(refused: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    result = refused(tmp_path)
    assert result.exit_code == 1 and "is not empty and holds no run of facesyn" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_in_use_is_refused(refused: Run, finished: Path, tmp_path: Path) -> None:
    output = shutil.copytree(finished, tmp_path / "busy")
    with open(output / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        result = refused(output)
    assert result.exit_code == 1 and "Another build is running" in result.stderr


def test_dry_run_prints_the_plan_and_writes_nothing(refused: Run, tmp_path: Path) -> None:
    result = refused(tmp_path / "out", "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    plan = json.loads(result.stdout)
    assert (plan["identities"], plan["images"], plan["shards"]) == (10, 30, 5)
    assert sum(quota["identities"] for quota in plan["quotas"]) == 10
    table = refused(tmp_path / "out", "--dry-run", "--identities", 32)
    assert "32 identities, 96 images" in table.stdout and "East Asian" in table.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_measured_dry_run_tells_time_and_size(refused: Run, toy: Toy, tmp_path: Path) -> None:
    slow = toy.edited(
        tmp_path / "toy.toml",
        ('[transfer]\nbackend = "toy"', '[transfer]\nbackend = "toy"\ndelay = 0.4'),
        ("batch_size = 4", "batch_size = 2"),
    )
    result = refused(tmp_path / "out", "--dry-run", "--measure", "--json", "--identities", 1000, recipe=slow)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    # 0.4 s a batch of two, and half of that as margin: the difference of two shards wavers under load
    assert told["seconds_per_image"] >= 0.1
    assert told["core_hours"] == pytest.approx(
        (3000 * told["seconds_per_image"] + 1000 * told["seconds_per_source"]) / 3600, abs=0.2
    )
    assert 4000 * 1000 < told["bytes"] < 4000 * 5000 and sorted(os.listdir(tmp_path)) == ["toy.toml"]
    result = refused(tmp_path / "out", "--measure")
    assert result.exit_code == 2 and "belongs to --dry-run" in result.stderr


def test_a_full_disk_is_one_sentence_and_can_be_resumed(
    toy: Toy, finished: Path, hashes: Hashes, tmp_path: Path
) -> None:
    """The contact sheet is the largest file: a limit below its size is hit while writing it."""
    limit = (finished / "contact-sheet.png").stat().st_size - 1
    output = tmp_path / "full"
    result = subprocess.run(
        toy.command(output),
        env=toy.environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert result.returncode == 1
    assert f"Cannot write to {output}: File too large." in result.stderr and "Traceback" not in result.stderr
    assert not (output / "contact-sheet.png").exists() and not list(output.glob(".contact-sheet*"))
    assert toy.build(output).returncode == 0
    assert hashes(output) == hashes(finished)


def test_a_full_disk_in_a_worker_is_one_sentence(toy: Toy, tmp_path: Path) -> None:
    result = subprocess.run(
        toy.command(tmp_path / "full", "--identities", 2),
        env=toy.environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500)),
    )
    assert result.returncode == 1
    assert "Cannot write to" in result.stderr and "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "full").glob("images/*"))


def test_too_large_for_the_disk_is_said_before_anything_is_written(refused: Run, tmp_path: Path) -> None:
    result = refused(tmp_path / "out", "--identities", 10, "--images", 10**12)
    assert result.exit_code == 1 and "GB free; the build needs about" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("send", "number", "code"),
    [
        (os.killpg, signal.SIGINT, 130),  # what a terminal does on Ctrl-C: the workers get it too
        (os.kill, signal.SIGTERM, 143),  # what a scheduler does
    ],
)
def test_interrupted_it_stops_at_once_and_can_be_resumed(
    toy: Toy,
    finished: Path,
    hashes: Hashes,
    tmp_path: Path,
    send: Callable[[int, int], None],
    number: int,
    code: int,
) -> None:
    slow = toy.edited(
        tmp_path / "toy.toml", ('[transfer]\nbackend = "toy"', '[transfer]\nbackend = "toy"\ndelay = 0.3')
    )
    output = tmp_path / "interrupted"
    process = subprocess.Popen(
        toy.command(output, "--workers", 2, recipe=slow),
        env=toy.environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(output.glob("shards/*/DONE")):
        assert process.poll() is None
        time.sleep(0.01)
    send(process.pid, number)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == code and "Traceback" not in stderr
    assert toy.build(output, recipe=slow).returncode == 0
    assert hashes(output) == hashes(finished) | {"recipe.toml": hashes(output)["recipe.toml"]}


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ((('[transfer]\nbackend = "toy"', '[transfer]\nbackend = "toi"'),), 2, "Did you mean 'toy'?"),
        ((('edges = "', 'edgse = "'),), 2, "unknown key 'generate.edgse'"),
        ((('edges = "', 'edges = "nowhere'),), 2, "no folder nowhere"),
        ((("images = 3", "imagse = 3"),), 2, "Did you mean 'images'?"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    toy: Toy, refused: Run, tmp_path: Path, changes: tuple[tuple[str, str], ...], code: int, said: str
) -> None:
    recipe = toy.edited(tmp_path / "toy.toml", *changes)
    result = refused(tmp_path / "out", recipe=recipe)
    assert result.exit_code == code and said in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_banks_on_the_command_line_take_the_place_of_the_recipes(toy: Toy, hashes: Hashes, tmp_path: Path) -> None:
    edges, styles = shutil.copytree(toy.edges, tmp_path / "edges"), tmp_path / "styles"
    styles.mkdir()
    Image.new("RGB", (40, 40), "red").save(styles / "only.png")
    banks = ("--references", styles, "--edges", edges)
    result = toy.build(tmp_path / "flags", "--identities", 2, *banks)
    assert result.returncode == 0, result.stderr
    images = rows(tmp_path / "flags" / "images" / "metadata.jsonl")
    assert len(images) == 6 and {row["reference"] for row in images} == {"only.png"}
    recipe = tmp_path / "flags" / "recipe.toml"
    assert toy.build(tmp_path / "recipe", recipe=recipe).returncode == 0
    assert hashes(tmp_path / "recipe") == hashes(tmp_path / "flags")


def test_a_bank_that_is_not_there_is_named(refused: Run, tmp_path: Path) -> None:
    for part in ("references", "edges"):
        result = refused(tmp_path / "out", f"--{part}", "nowhere")
        assert result.exit_code == 2 and f"no folder nowhere to take {part} from" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_corrupt_reference_is_named_and_leaves_nothing(toy: Toy, refused: Run, tmp_path: Path) -> None:
    references = shutil.copytree(toy.references, tmp_path / "references")
    corrupt = references / "style5.png"
    corrupt.write_bytes(corrupt.read_bytes()[:60])
    recipe = toy.edited(tmp_path / "toy.toml", (str(toy.references), str(references)))
    result = refused(tmp_path / "out", recipe=recipe)
    assert result.exit_code == 1 and f"{corrupt} is corrupt" in result.stderr
    assert not (tmp_path / "out").exists()


def test_batch_size_changes_neither_plan_nor_seeds(toy: Toy, finished: Path, hashes: Hashes, tmp_path: Path) -> None:
    recipe = toy.edited(tmp_path / "toy.toml", ("batch_size = 4", "batch_size = 1"))
    assert toy.build(tmp_path / "out", recipe=recipe).returncode == 0
    differing = {name for name, value in hashes(finished).items() if hashes(tmp_path / "out")[name] != value}
    assert differing == {"recipe.toml"}


def test_the_written_recipe_builds_the_same_dataset(toy: Toy, finished: Path, hashes: Hashes, tmp_path: Path) -> None:
    resolved = load_recipe(str(finished / "recipe.toml"))
    assert resolved == load_recipe(str(toy.recipe))
    assert toy.build(tmp_path / "again", recipe=finished / "recipe.toml").returncode == 0
    assert hashes(tmp_path / "again") == hashes(finished)
