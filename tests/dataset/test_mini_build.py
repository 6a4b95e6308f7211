"""`facesyn dataset build` on the embedded models: its promises where floating point could break them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Hashes = Callable[[Path], dict[str, str]]


def command(output: Path, *arguments: object) -> list[str]:
    words = ["dataset", "build", "demo", "--identities", 4, "--images", 2, "-o", output, *arguments]
    return [sys.executable, "-m", "facesyn", *map(str, words)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without interruption by one worker."""
    output = tmp_path_factory.mktemp("mini") / "whole"
    subprocess.run(command(output, "--workers", 1), check=True, capture_output=True)
    return output


def test_killed_and_resumed_by_two_workers_it_has_the_same_bytes(whole: Path, hashes: Hashes, tmp_path: Path) -> None:
    output = tmp_path / "killed"
    process = subprocess.Popen(command(output, "--workers", 2), stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(output.glob("**/*.png")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (output / "contact-sheet.png").exists()
    result = subprocess.run(command(output, "--workers", 2), capture_output=True, text=True)
    assert result.returncode == 0 and "warn" not in result.stderr.lower(), result.stderr
    assert hashes(output) == hashes(whole)


def test_batch_size_changes_no_picture_that_one_could_see(whole: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    text = (whole / "recipe.toml").read_text()
    assert "batch_size = 6" in text
    recipe.write_text(text.replace("batch_size = 6", "batch_size = 1"))
    output = tmp_path / "one"
    words = ["dataset", "build", str(recipe), "-o", str(output)]
    subprocess.run([sys.executable, "-m", "facesyn", *words], check=True, capture_output=True)
    for name in ("plan.jsonl", "prompts.jsonl"):
        assert (output / name).read_bytes() == (whole / name).read_bytes()
    pictures = sorted(whole.glob("images/*/*.png"))
    assert len(pictures) == 8
    for picture in pictures:
        one, six = (np.asarray(Image.open(folder / picture.relative_to(whole)), float) for folder in (output, whole))
        assert np.abs(one - six).mean() <= 2
