"""From an exposure to a photograph: background, tone curve, degradation. Knows no head."""

import io
from dataclasses import asdict

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from facesyn.references.styles import Background, Quality

_KNEE = 0.55
"""Linear brightness from which highlights are rolled off."""
_STANDARD = 128
"""Side of the picture that the sizes in `Quality` are meant for."""


def backdrop(background: Background, size: int) -> np.ndarray:
    """(size, size, 3) float sRGB in [0, 1]."""
    rng = np.random.default_rng(background.seed)
    colours = np.array(background.colours) / 255
    y, x = np.mgrid[:size, :size] / size - 0.5
    if background.kind == "plain":
        return np.asarray(colours[0] * (1 - 0.12 * (x**2 + y**2))[..., None])
    if background.kind == "gradient":
        angle = rng.uniform(0, 2 * np.pi)
        t = np.clip((np.cos(angle) * x + np.sin(angle) * y) / 1.2 + 0.5, 0, 1)[..., None]
        return np.asarray(colours[0] * (1 - t) + colours[1] * t)
    if background.kind == "noise":
        picture, strength = np.broadcast_to(colours[0], (size, size, 3)).copy(), 0.5
        for octave in (3, 6, 12, 24):
            cells = Image.fromarray((rng.random((octave, octave)) * 255).astype(np.uint8))
            cloud = np.asarray(cells.resize((size, size), Image.Resampling.BICUBIC), float)[..., None] / 255
            picture += (colours[1 + octave % 3] - colours[0]) * (cloud - 0.3) * strength
            strength *= 0.62
        return picture.clip(0, 1)
    drawn = Image.new("RGB", (size, size), _pixel(colours[0]))
    draw = ImageDraw.Draw(drawn)
    for _ in range(int(rng.integers(4, 14))):
        colour = _pixel(colours[rng.integers(4)] * rng.uniform(0.6, 1.5))
        left, top = rng.uniform(-0.2, 1.1, 2) * size
        width, height = rng.uniform(0.08, 0.6, 2) * size
        shape = draw.ellipse if rng.random() < 0.35 else draw.rectangle
        shape([left, top, left + width, top + height], fill=colour)
    blur = rng.uniform(1.5, 7) * size / _STANDARD
    return np.asarray(drawn.filter(ImageFilter.GaussianBlur(blur)), float) / 255


def _pixel(colour: np.ndarray) -> tuple[int, int, int]:
    r, g, b = (colour * 255).clip(0, 255).astype(int).tolist()
    return r, g, b


def develop(rgba: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """(n, n, 3) float sRGB in [0, 1] of a linear premultiplied exposure over an sRGB backdrop, highlights rolled."""
    colour = rgba[..., :3]
    over = _KNEE + (1 - _KNEE) * np.tanh((colour - _KNEE) / (1 - _KNEE))
    colour = np.where(colour > _KNEE, over, colour)
    light = colour + (1 - rgba[..., 3:]) * behind**2.2
    return np.asarray(light.clip(0, 1) ** (1 / 2.2))


def degrade(picture: np.ndarray, quality: Quality, rng: np.random.Generator) -> Image.Image:
    """The picture (n, n, 3), float sRGB in [0, 1], as a camera of that quality keeps it."""
    if quality.gamma is not None:
        picture = picture**quality.gamma
    if quality.grey is not None:
        luminance = (picture @ [0.299, 0.587, 0.114])[..., None]
        picture = picture + (luminance - picture) * quality.grey
    if quality.blur is not None:
        eight_bits = Image.fromarray((picture * 255 + 0.5).astype(np.uint8))
        radius = quality.blur * len(picture) / _STANDARD
        picture = np.asarray(eight_bits.filter(ImageFilter.GaussianBlur(radius)), float) / 255
    if quality.noise is not None:
        picture = picture + rng.normal(0, quality.noise / 255, picture.shape)
    image = Image.fromarray((picture.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    if quality.jpeg is not None:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality.jpeg)
        image = Image.open(buffer).convert("RGB")
    return image


def quality_label(quality: Quality) -> dict[str, float]:
    """The degradations that were applied."""
    return {name: round(value, 2) for name, value in asdict(quality).items() if value is not None}
