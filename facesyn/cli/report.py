"""`facesyn dataset report` and `card`: what a finished dataset says of itself, as a page and as a card."""

from pathlib import Path
from typing import Annotated

import typer

from facesyn.out import out

Folder = Annotated[Path, typer.Argument(help="The folder of a finished `facesyn dataset build`.")]


def report(folder: Folder) -> None:
    """Write report.html into a dataset: who is in it, how alike they are, what was refused, what made them.

    The page works without network. Where its small pictures outgrow 20 MB, they stand beside it in report-atlases/.

    Example: facesyn dataset report people
    """
    from facesyn.reporting.page import write_report

    written = write_report(folder)
    out.line(f"{written.page}: {written.identities} identities, {written.images} images")
    if written.atlases:
        out.note(f"Its pictures are in {written.atlases}: keep the two together.")
