"""`facesyn dataset report` and `card`: what a finished dataset says of itself, as a page and as a card."""

from pathlib import Path
from typing import Annotated

import typer

from facesyn.cli.options import OutputFolder
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


def card(
    folder: Folder,
    licence: Annotated[
        str | None,
        typer.Option("--licence", help="The licence you give the pictures, as the hub writes it; none where left out."),
    ] = None,
) -> None:
    """Write README.md into a dataset: a card for the Hugging Face hub, of what was asked, made and measured.

    Example: facesyn dataset card people --licence cc-by-4.0
    """
    from facesyn.reporting.card import write_card

    out.line(str(write_card(folder, licence)))


def sign(
    folder: Folder,
    output: OutputFolder,
    certificate: Annotated[Path, typer.Option("--certificate", help="PEM file of your certificate and its chain.")],
    key: Annotated[Path, typer.Option("--key", help="PEM file of its private key (PKCS #8); never shown or copied.")],
    algorithm: Annotated[str, typer.Option("--algorithm", help="es256, es384, es512, ps256 … or ed25519.")] = "es256",
) -> None:
    """Write signed copies of a dataset's pictures: C2PA manifests that say a trained model made them.

    Example: facesyn dataset sign people -o signed --certificate chain.pem --key key.pem
    """
    from facesyn.reporting.signing import sign_dataset

    out.line(f"{output}: {sign_dataset(folder, output, certificate, key, algorithm)} signed pictures")
