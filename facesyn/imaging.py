"""Pictures in and out: loading with limits, edge maps, deterministic PNG, contact sheets. Knows no models."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin, UnidentifiedImageError

from facesyn.errors import ImageError
from facesyn.marking import CHUNK, TRAINED, Made, packet

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp"))
PIXEL_LIMIT = 64_000_000


def list_images(folder: Path) -> list[Path]:
    """The pictures directly in a folder, by name. Raises ImageError where it is missing or holds none."""
    if not folder.is_dir():
        raise ImageError(f"There is no folder {folder}.", hint="Give a folder of PNG, JPEG, WebP or BMP pictures.")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise ImageError(f"The folder {folder} holds no PNG, JPEG, WebP or BMP picture.")
    return found


def load_image(path: Path, pixel_limit: int = PIXEL_LIMIT) -> Image.Image:
    """A picture, upright and in RGB. Raises ImageError where it is missing, corrupt or over `pixel_limit`."""
    image = ImageOps.exif_transpose(_decode(path, pixel_limit))
    return image.convert("RGB")


def load_edge_map(path: Path) -> Image.Image:
    """A mode-L edge map, white on black: the picture itself where it is one, its Canny edges otherwise.

    A picture is an edge map where nearly every pixel is black or white. Raises ImageError like `load_image`.
    """
    grey = np.asarray(load_image(path).convert("L"))
    if np.mean((grey < 16) | (grey > 239)) > 0.95 and np.mean(grey) < 128:
        return Image.fromarray(grey)
    return canny(Image.fromarray(grey))


def canny(image: Image.Image, low: float = 100, high: float = 200) -> Image.Image:
    """The mode-L Canny edge map of a picture; `low` and `high` are the hysteresis thresholds of OpenCV."""
    import cv2

    return Image.fromarray(cv2.Canny(np.asarray(image.convert("L")), low, high))


def encode_png(image: Image.Image, source: str = TRAINED, made: Made | None = None) -> bytes:
    """The picture as PNG, marked with its IPTC digital source type: as made by a trained model, unless said otherwise.

    `made` is told in the file too; see `facesyn.marking`. The same pixels and marks give the same bytes.
    """
    marks = PngImagePlugin.PngInfo()
    marks.add_itxt(CHUNK, packet(source, made))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=6, pnginfo=marks)
    return buffer.getvalue()


def contact_sheet(rows: Sequence[tuple[str, Sequence[Image.Image]]], tile: int = 128) -> Image.Image:
    """One row of `tile` × `tile` pictures per (label, pictures), with the label's lines to the left of it."""
    lines = [line for label, _ in rows for line in label.splitlines()]
    font = ImageFont.load_default(size=max(10, tile // 10))
    margin = 8 + round(max((font.getlength(line) for line in lines), default=0)) + 8
    width = margin + tile * max(len(pictures) for _, pictures in rows)
    sheet = Image.new("RGB", (width, tile * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (label, pictures) in enumerate(rows):
        draw.multiline_text((8, tile * row + tile // 2), label, fill="black", font=font, anchor="lm", spacing=4)
        for column, picture in enumerate(pictures):
            shown = picture.convert("RGB").resize((tile, tile), Image.Resampling.LANCZOS)
            sheet.paste(shown, (margin + tile * column, tile * row))
    return sheet


def _decode(path: Path, pixel_limit: int) -> Image.Image:
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > pixel_limit:
                raise ImageError(f"{path} has {width} × {height} pixels; the limit is {pixel_limit:,}.")
            image.load()
            return image
    except FileNotFoundError:
        raise ImageError(f"There is no picture {path}.") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not a PNG, JPEG, WebP or BMP picture.") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path} has too many pixels; the limit is {pixel_limit:,}.") from None
    except (OSError, SyntaxError, ValueError) as error:
        # Pillow raises any of these, depending on where in the file the damage is.
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(f"Cannot read {path}: {error.strerror}.") from None
        raise ImageError(f"{path} is corrupt: {error}.", hint="Replace the file or remove it.") from None
