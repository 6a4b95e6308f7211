"""Banks: labels, missing files, digests."""

from pathlib import Path

import pytest
from PIL import Image

from facesyn.banks import bank_folder, digest, read_bank
from facesyn.errors import ImageError, RecordError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b", "a"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / f"{name}.png")
    return tmp_path


def test_without_metadata_all_pictures_by_name(folder: Path) -> None:
    assert [(picture.name, picture.labels) for picture in read_bank(folder)] == [("a.png", {}), ("b.png", {})]


def test_with_metadata_the_listed_ones_with_labels(folder: Path) -> None:
    (folder / "metadata.jsonl").write_text('{"file_name": "b.png", "yaw": 3.5}\n')
    assert [(picture.name, picture.labels) for picture in read_bank(folder)] == [("b.png", {"yaw": 3.5})]


def test_a_listed_picture_that_is_missing_is_named(folder: Path) -> None:
    (folder / "metadata.jsonl").write_text('{"file_name": "c.png"}\n')
    with pytest.raises(ImageError, match="lists c.png"):
        read_bank(folder)


def test_a_listed_picture_may_not_leave_the_folder(folder: Path) -> None:
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png"}\n{"file_name": "../c.png"}\n')
    with pytest.raises(RecordError, match="line 2"):
        read_bank(folder)


def test_digest_follows_contents_and_not_order(folder: Path) -> None:
    bank = read_bank(folder)
    before = digest(bank)
    assert digest(reversed(bank)) == before
    Image.new("RGB", (8, 8), "blue").save(folder / "a.png")
    assert digest(bank) != before


def test_a_missing_folder_is_refused(folder: Path) -> None:
    assert bank_folder(str(folder), "edges") == folder
    with pytest.raises(UsageError, match="no folder"):
        bank_folder(str(folder / "missing"), "edges")
