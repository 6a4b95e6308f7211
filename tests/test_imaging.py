"""Pictures in and out: limits, damage, edge maps, deterministic bytes, contact sheets."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from facesyn.errors import ImageError
from facesyn.imaging import contact_sheet, encode_png, list_images, load_edge_map, load_image


@pytest.fixture
def picture() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (48, 40, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_every_mode_loads_as_rgb(picture: Image.Image, tmp_path: Path, mode: str) -> None:
    picture.convert(mode).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").mode == "RGB"


def test_a_turned_photograph_is_put_upright(picture: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert load_image(tmp_path / "a.jpg").size == (48, 40)


def test_a_truncated_picture_is_named(picture: Image.Image, tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "webp"):
        path = tmp_path / f"a.{suffix}"
        picture.save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ImageError, match=f"a.{suffix}"):
            load_image(path)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("words")
    with pytest.raises(ImageError, match="is not a PNG"):
        load_image(tmp_path / "a.png")
    with pytest.raises(ImageError, match="no picture"):
        load_image(tmp_path / "b.png")
    with pytest.raises(ImageError, match="Cannot read"):
        load_image(tmp_path)


def test_too_many_pixels_are_refused(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="40 × 48 pixels"):
        load_image(tmp_path / "a.png", pixel_limit=40 * 48 - 1)
    assert load_image(tmp_path / "a.png", pixel_limit=40 * 48).size == (40, 48)


def test_png_bytes_are_lossless_deterministic_and_marked(picture: Image.Image) -> None:
    data = encode_png(picture)
    assert data == encode_png(picture.copy())
    with Image.open(io.BytesIO(data)) as read:
        assert read.tobytes() == picture.tobytes()
        assert "trainedAlgorithmicMedia" in read.info["XML:com.adobe.xmp"]


def test_an_edge_map_is_kept_and_a_photograph_goes_through_canny(tmp_path: Path) -> None:
    edges = Image.new("L", (64, 64))
    ImageDraw.Draw(edges).ellipse((8, 8, 56, 56), outline=255)
    edges.save(tmp_path / "edges.png")
    assert load_edge_map(tmp_path / "edges.png").tobytes() == edges.tobytes()
    disc = Image.new("RGB", (64, 64), (90, 120, 60))
    ImageDraw.Draw(disc).ellipse((8, 8, 56, 56), fill=(220, 180, 150))
    disc.save(tmp_path / "disc.png")
    found = np.asarray(load_edge_map(tmp_path / "disc.png"))
    assert set(np.unique(found)) == {0, 255} and 0.01 < np.mean(found > 0) < 0.2


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no"):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="no folder"):
        list_images(tmp_path / "missing")


def test_contact_sheet_shows_every_picture_beside_its_label() -> None:
    colours = ["red", "green", "blue"]
    sheet = contact_sheet([("label\nline", [Image.new("RGB", (9, 9), colour) for colour in colours])] * 2, tile=32)
    assert sheet.height == 64
    middles = [sheet.getpixel((sheet.width - 96 + 32 * column + 16, 48)) for column in range(3)]
    assert middles == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    label = np.asarray(sheet.crop((0, 0, sheet.width - 96, 32)))
    assert (label < 100).any()
