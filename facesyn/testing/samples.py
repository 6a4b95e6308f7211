"""Small drawn inputs for the contract suites. Knows nothing of backends."""

import random

from PIL import Image, ImageDraw

from facesyn.demographics import Demographics
from facesyn.records import PromptRow
from facesyn.seeds import derive_seed


def drawn_face(number: int, size: int = 128) -> Image.Image:
    """An RGB picture, `size` × `size`, of a simple face; another number is another face."""
    rng = random.Random(number)
    image = Image.new("RGB", (size, size), (200, 200, 200))
    _draw(image, rng, skin=tuple(rng.randint(60, 230) for _ in range(3)), line=(30, 20, 20))
    return image


def drawn_edges(number: int, size: int = 128) -> Image.Image:
    """A mode-L edge map, white on black, of the same face."""
    rng = random.Random(number)
    for _ in range(3):  # the colours `drawn_face` draws first
        rng.randint(60, 230)
    image = Image.new("L", (size, size), 0)
    _draw(image, rng, skin=None, line=255)
    return image


def prompt_rows(count: int) -> list[PromptRow]:
    """Valid rows over the default cells."""
    return [
        PromptRow(
            id=f"{number:06d}",
            ethnicity=cell.ethnicity,
            gender=cell.gender,
            age_interval=str(cell.age_interval),
            prompt=f"frontal portrait of a {cell.age_interval.low} year old {cell.ethnicity} person",
            seed=derive_seed(0, "generate", f"{number:06d}"),
        )
        for number, cell in enumerate(Demographics().plan(count, seed=0))
    ]


def _draw(
    image: Image.Image, rng: random.Random, skin: tuple[int, ...] | None, line: tuple[int, int, int] | int
) -> None:
    pen, size = ImageDraw.Draw(image), image.width

    def box(x: float, y: float, width: float, height: float) -> list[float]:
        return [
            size * (x - width / 2),
            size * (y - height / 2),
            size * (x + width / 2),
            size * (y + height / 2),
        ]

    pen.ellipse(box(0.5, 0.52, rng.uniform(0.5, 0.7), rng.uniform(0.7, 0.85)), fill=skin, outline=line)
    apart, height = rng.uniform(0.11, 0.16), rng.uniform(0.42, 0.48)
    for x in (0.5 - apart, 0.5 + apart):
        pen.ellipse(box(x, height, 0.1, rng.uniform(0.04, 0.07)), outline=line)
    pen.line([size * 0.5, size * height, size * 0.5, size * rng.uniform(0.58, 0.64)], fill=line)
    pen.arc(box(0.5, 0.7, rng.uniform(0.18, 0.3), 0.1), 20, 160, fill=line)
