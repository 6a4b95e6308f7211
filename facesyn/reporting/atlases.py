"""The small pictures of a report: contact sheets of source faces, and one strip per person. Knows no page.

Sheets hold SHEET × SHEET tiles; a strip holds the source and the first images, and under each image its reference.
They are written to a folder as they are made, so memory holds one sheet and one strip.
"""

import io
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from PIL import Image

from facesyn.banks import BankPicture
from facesyn.dataset.run_folder import RunFolder
from facesyn.imaging import load_image
from facesyn.reporting.figures import Person

TILE = 96
SHEET = 16
STRIP = 24
"""Images of a person shown in the report; the rest are told by number."""
QUALITY = 72
BACKGROUND = (128, 128, 128)


class Atlases:
    """Writes sheets and strips into `place`, a folder made anew."""

    def __init__(self, folder: RunFolder, references: Mapping[str, BankPicture], place: Path):
        self._folder, self._references, self._place = folder, references, place
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        self.sheets: list[str] = []
        self.strips: list[str] = []
        self.bytes = 0
        self._sheet: Image.Image | None = None
        self._filled = 0
        self._reference = lru_cache(maxsize=2048)(self._reference_tile)

    def add(self, person: Person) -> None:
        """The next person, who has a source."""
        source = _tile(self._folder.sources / f"{person.plan.id}.png")
        if self._sheet is None:
            self._sheet = Image.new("RGB", (TILE * SHEET, TILE * SHEET), BACKGROUND)
        row, column = divmod(self._filled, SHEET)
        self._sheet.paste(source, (column * TILE, row * TILE))
        self._filled += 1
        if self._filled == SHEET * SHEET:
            self._write_sheet()
        shown = person.images[:STRIP]
        strip = Image.new("RGB", (TILE * (1 + len(shown)), TILE * 2), BACKGROUND)
        strip.paste(source, (0, 0))
        for number, image in enumerate(shown, 1):
            strip.paste(_tile(self._folder.images / image.file_name), (number * TILE, 0))
            if image.reference in self._references:
                strip.paste(self._reference(image.reference), (number * TILE, TILE))
        self.strips.append(self._write(f"strip-{len(self.strips):05d}.webp", strip))

    def finish(self) -> None:
        """Write the sheet that is begun."""
        if self._filled:
            self._write_sheet()

    def _write_sheet(self) -> None:
        assert self._sheet is not None
        rows = -(-self._filled // SHEET)
        sheet = self._sheet.crop((0, 0, TILE * SHEET, TILE * rows))
        self.sheets.append(self._write(f"sheet-{len(self.sheets):05d}.webp", sheet))
        self._sheet, self._filled = None, 0

    def _write(self, name: str, picture: Image.Image) -> str:
        buffer = io.BytesIO()
        picture.save(buffer, format="WEBP", quality=QUALITY, method=2)
        (self._place / name).write_bytes(buffer.getvalue())
        self.bytes += buffer.tell()
        return name

    def _reference_tile(self, name: str) -> Image.Image:
        return _tile(self._references[name].path)


def _tile(path: Path) -> Image.Image:
    """A picture as a square of TILE pixels, its middle where it is not square. Raises ImageError."""
    picture = load_image(path)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.resize((TILE, TILE), Image.Resampling.LANCZOS, (left, top, left + side, top + side))
