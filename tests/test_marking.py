"""The marks in a picture's file: written, read back, the same bytes for the same row, and inert whatever they hold."""

from pathlib import Path

import pytest
from PIL import Image

from facesyn import __version__
from facesyn.errors import ImageError
from facesyn.imaging import encode_png
from facesyn.marking import COMPUTED, TRAINED, Made, model_of, read_marks

PICTURE = Image.new("RGB", (8, 8), "teal")


@pytest.mark.parametrize(
    "made",
    [Made("000012", 2**62 + 1, "ab" * 32), Made("a\" b='<script>&amp;</script>", 0), Made()],
    ids=["all", "awkward", "nothing"],
)
def test_marks_are_read_back_as_they_were_written(tmp_path: Path, made: Made) -> None:
    data = encode_png(PICTURE, made=made)
    assert data == encode_png(PICTURE.copy(), made=made)
    (tmp_path / "a.png").write_bytes(data)
    marks = read_marks(tmp_path / "a.png")
    assert marks is not None
    assert (marks.source, marks.tool, marks.made) == (TRAINED, f"facesyn {__version__}", made)


def test_the_source_type_is_the_one_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(PICTURE, COMPUTED))
    marks = read_marks(tmp_path / "a.png")
    assert marks is not None and marks.source == COMPUTED


def test_an_unmarked_picture_has_none_and_damage_is_named(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "a.png")
    assert read_marks(tmp_path / "a.png") is None
    (tmp_path / "b.png").write_bytes(b"words")
    with pytest.raises(ImageError, match="b.png"):
        read_marks(tmp_path / "b.png")


def test_only_a_model_with_a_hash_is_told() -> None:
    assert model_of({"model": {"name": "mini", "sha256": "ab"}}) == "ab"
    assert model_of({"drawing": "oval", "model": "mini"}) is None
