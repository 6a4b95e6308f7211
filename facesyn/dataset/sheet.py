"""The contact sheet of a finished dataset: identities in rows, the source first. Makes no face."""

from collections.abc import Sequence

from PIL import Image

from facesyn.dataset.plan import PlanRow
from facesyn.dataset.recipe import Recipe
from facesyn.dataset.run_folder import RunFolder
from facesyn.demographics import AgeInterval, Cell
from facesyn.imaging import contact_sheet, load_image
from facesyn.stages.transfers import image_name

ROWS = 32
COLUMNS = 9


def dataset_sheet(folder: RunFolder, recipe: Recipe, plan: Sequence[PlanRow]) -> Image.Image:
    """The first `ROWS` identities of the plan in order of their cells, with up to `COLUMNS` pictures each."""
    cells = recipe.demographics.to_demographics().cells
    sourced = [row for row in plan if (folder.sources / f"{row.id}.png").is_file()]
    first = sorted(sourced[:ROWS], key=lambda row: cells.index(_cell(row)))
    return contact_sheet(
        [(f"{row.id}\n{row.ethnicity}\n{row.gender} {row.age_interval}", _pictures(folder, row)) for row in first]
    )


def _cell(row: PlanRow) -> Cell:
    return Cell(row.ethnicity, row.gender, AgeInterval.parse(row.age_interval))


def _pictures(folder: RunFolder, row: PlanRow) -> list[Image.Image]:
    files = [folder.images / image_name(row.id, number) for number in range(len(row.references))]
    made = [file for file in files if file.is_file()]  # the gates may have let fewer in
    return [load_image(file) for file in (folder.sources / f"{row.id}.png", *made[: COLUMNS - 1])]
