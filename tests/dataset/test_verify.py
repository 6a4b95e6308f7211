"""`facesyn dataset verify` and `convert` of what `facesyn dataset build` leaves on disk."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
Hashes = Callable[[Path], dict[str, str]]


@pytest.fixture
def build(finished: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(finished, tmp_path / "build"))


@pytest.fixture
def bad(facesyn: Run) -> Callable[[Path], dict[str, str]]:
    """Bad file → what is wrong with it, of a build that is not whole."""

    def of(folder: Path) -> dict[str, str]:
        result = facesyn("dataset", "verify", folder, "--json")
        assert result.exit_code == 1, result.stdout + result.stderr
        return {each["file"]: each["problem"] for each in json.loads(result.stdout)["bad"]}

    return of


Bad = Callable[[Path], dict[str, str]]


def test_a_finished_build_is_whole(facesyn: Run, finished: Path, hashes: Hashes) -> None:
    before = hashes(finished)
    result = facesyn("dataset", "verify", finished)
    assert result.exit_code == 0, result.stdout + result.stderr
    assert "30 images of 10 identities, run folder: all well" in result.stdout
    assert hashes(finished) == before


@pytest.mark.parametrize("name", ["images/000002/001.png", "sources/000007.png"])
def test_a_picture_with_a_flipped_byte_missing_or_cut_off_is_named(name: str, build: Path, bad: Bad) -> None:
    data = (build / name).read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for content in (bytes(flipped), data[:-20], b""):
        (build / name).write_bytes(content)
        assert "cannot be decoded" in bad(build)[name]
    (build / name).unlink()
    assert bad(build)[name] == "is missing"


def test_a_picture_that_is_another_is_found_in_its_shard(build: Path, bad: Bad) -> None:
    shutil.copy(build / "images/000003/001.png", build / "images/000002/001.png")
    assert list(bad(build)) == ["shards/00001/DONE"]


def test_a_picture_that_does_not_belong_is_named(build: Path, bad: Bad) -> None:
    shutil.copy(build / "images/000003/001.png", build / "images/000002/stranger.png")
    assert bad(build) == {"images/000002/stranger.png": "has no row"}


def test_a_changed_label_is_found(build: Path, bad: Bad) -> None:
    path = build / "images" / "metadata.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"identity": "000004"', '"identity": "000005"', 1))
    found = bad(build)
    assert "says other than shards/00002/images.jsonl of 000004/000.png, line 13" in found["images/metadata.jsonl"]
    assert "labelled '000005'" in found["images/000004/000.png"]
    path.write_text(text)
    rows = build / "shards" / "00002" / "images.jsonl"
    rows.write_text(rows.read_text().replace('"gender": "', '"gender": "un', 1))
    assert {"images/metadata.jsonl", "shards/00002/DONE"} <= bad(build).keys()


def test_a_label_changed_everywhere_contradicts_the_plan_and_the_marker(build: Path, bad: Bad) -> None:
    for path in (build / "images" / "metadata.jsonl", build / "shards" / "00002" / "images.jsonl"):
        row = next(line for line in path.read_text().splitlines() if "000004/000.png" in line)
        path.write_text(path.read_text().replace(row, row.replace('"age_interval": "', '"age_interval": "1')))
    found = bad(build)
    assert found["images/000004/000.png"] == "is labelled with another cell than the plan's"
    assert "shards/00002/DONE" in found


def test_rows_that_are_cut_off_or_too_many_are_found(build: Path, bad: Bad) -> None:
    path = build / "images" / "metadata.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    assert "is cut off, line 30" in bad(build)["images/metadata.jsonl"]
    path.write_text("".join([*lines, lines[0]]))
    assert "a row more than the shards: line 31" in bad(build)["images/metadata.jsonl"]
    path.write_text("".join(lines)[:-30])
    assert "not valid JSON" in bad(build)["images/metadata.jsonl"]


def test_a_shard_that_is_not_marked_or_has_no_rows_is_found(build: Path, bad: Bad) -> None:
    (build / "shards" / "00003" / "DONE").unlink()
    (build / "shards" / "00004" / "images.jsonl").unlink()
    found = bad(build)
    assert "was not finished" in found["shards/00003/DONE"] and "cannot be read" in found["shards/00004"]


def test_aligned_copies_are_checked_by_their_images(facesyn: Run, build: Path, bad: Bad) -> None:
    shutil.copytree(build / "images", build / "aligned")
    assert facesyn("dataset", "verify", build).exit_code == 0
    (build / "aligned" / "000001" / "000.png").write_bytes(b"\x89PNG")
    (build / "aligned" / "000001" / "001.png").unlink()
    path = build / "aligned" / "metadata.jsonl"
    path.write_text(path.read_text().replace('"identity": "000004"', '"identity": "000005"', 1))
    found = bad(build)
    assert sorted(found) == ["aligned/000001/000.png", "aligned/000001/001.png", "aligned/000004/000.png"]
    assert found["aligned/000001/001.png"] == "is missing"


def test_a_build_in_every_format_is_the_same_dataset(facesyn: Run, finished: Path, tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="the formats extra is not installed")
    from facesyn.formats.registry import FORMATS, open_dataset

    expected = list(open_dataset(finished / "images"))
    for to in FORMATS:
        result = facesyn("dataset", "convert", finished, tmp_path / to, "--to", to, "--json")
        assert result.exit_code == 0, result.stderr
        assert (json.loads(result.stdout)["images"], json.loads(result.stdout)["identities"]) == (30, 10)
        assert list(open_dataset(tmp_path / to)) == expected
        assert facesyn("dataset", "verify", tmp_path / to).exit_code == 0
