"""`facesyn dataset convert` and `verify`: a dataset in the format a trainer reads, and whether it is still whole."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from facesyn.cli.options import Json
from facesyn.out import out


class To(StrEnum):
    """The formats of `facesyn.formats.registry`, which is not imported to say what there is."""

    IMAGEFOLDER = "imagefolder"
    WEBDATASET = "webdataset"
    PARQUET = "parquet"
    RECORDIO = "recordio"
    HDF5 = "hdf5"


class Pictures(StrEnum):
    IMAGES = "images"
    ALIGNED = "aligned"


def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A dataset in any of the formats, or a built one.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="A new folder.")],
    to: Annotated[To, typer.Option("--to", help="The format to write.")],
    images: Annotated[
        Pictures | None,
        typer.Option("--images", help="Which pictures of a built dataset: as made, or aligned (default for recordio)."),
    ] = None,
    shard_size: Annotated[
        int, typer.Option("--shard-size", min=1, metavar="MB", help="Largest tar, or pictures in a Parquet file.")
    ] = 1000,
    seed: Annotated[
        int, typer.Option("--seed", envvar="FACESYN_SEED", min=0, help="Of the shuffle of a WebDataset.")
    ] = 0,
    json: Json = False,
) -> None:
    """Write a dataset in another format; pictures, labels and rows stay as they are, byte for byte.

    Example: facesyn dataset convert people people-parquet --to parquet
    """
    from facesyn.formats.convert import convert as convert_dataset
    from facesyn.formats.samples import Layout

    manifest = convert_dataset(
        source, target, to.value, images.value if images else None, Layout(shard_size * 1_000_000, seed)
    )
    if json:
        out.json({"folder": str(target), **manifest.model_dump()})
    else:
        out.line(f"{target}: {manifest.images} images of {manifest.identities} identities as {manifest.format}")


def verify(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A converted or a built dataset, or one made elsewhere.")
    ],
    json: Json = False,
) -> None:
    """Check every file's hash, every label and every count of a dataset; exit 1 where one is wrong.

    Example: facesyn dataset verify people-parquet
    """
    from facesyn.formats.verify import verify as verify_dataset

    found = verify_dataset(folder)
    if json:
        out.json({"folder": str(folder), **found.as_dict()})
    else:
        for file, problem in found.bad.items():
            out.line(f"{file}: {problem}")
        checked = f"{found.images} images of {found.identities} identities, {found.format}"
        out.line(f"{folder}: {checked}: {f'{len(found.bad)} problems' if found.bad else 'all well'}")
    if not found.hashes:
        out.warning(f"{folder} has no hashes: that its files open and match their rows is all that could be checked.")
    if found.bad:
        raise typer.Exit(1)
