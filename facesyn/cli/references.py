"""`facesyn references`: style references and edge maps of people who do not exist, from a 3D head."""

from pathlib import Path
from typing import Annotated

import typer

from facesyn.cli.options import BackendOptions, OutputFolder, Seed, parse_backend_options

app = typer.Typer(
    help="Style references and edge maps with no photograph.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def references() -> None:
    """Style references and edge maps with no photograph."""


@app.command()
def render(
    output: OutputFolder,
    identities: Annotated[int, typer.Option("--identities", min=1, help="Number of people.")] = 32,
    styles: Annotated[int, typer.Option("--styles", min=1, help="Number of styles, the same for everybody.")] = 8,
    per_identity: Annotated[
        int | None, typer.Option("--per-identity", min=1, help="Styles each person is shown in; all by default.")
    ] = None,
    grid: Annotated[
        str, typer.Option("--grid", help="multi-pie: 15 cameras × 20 flashes × expressions instead of styles.")
    ] = "",
    expression: Annotated[
        list[str] | None,
        typer.Option("--expression", help="Expressions of the grid; repeatable, neutral by default, all for six."),
    ] = None,
    vary: Annotated[
        str,
        typer.Option(
            "--vary", metavar="FACTOR,…", help="Change one factor at a time, in --styles ways, e.g. pose,light."
        ),
    ] = "",
    seed: Seed = 0,
    size: Annotated[int, typer.Option("--size", min=32, max=1024, help="Side of the pictures in pixels.")] = 128,
    crop: Annotated[str, typer.Option("--crop", help="head, arcface or ffhq.")] = "head",
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="Also write depth, normals or segmentation; repeatable.")
    ] = None,
    assets: Annotated[
        Path | None,
        typer.Option("--assets", envvar="FACESYN_ASSETS", help="Folder of MakeHuman's data."),
    ] = None,
    renderer: Annotated[
        str, typer.Option("--renderer", envvar="FACESYN_RENDERER", help="See `facesyn backends list`.")
    ] = "moderngl",
    workers: Annotated[
        int, typer.Option("--workers", envvar="FACESYN_WORKERS", min=0, help="Processes; 0 renders in this one.")
    ] = 0,
    option: BackendOptions = None,
) -> None:
    """Render people in styles, with labels, portraits and edge maps. Every label is exact, and nobody is real.

    Stop it at any time and run the same command again: it goes on where it was.

    Example: facesyn references render --identities 32 --styles 8 --assets makehuman -o styles
    """
    from facesyn import registry
    from facesyn.errors import UsageError
    from facesyn.out import out
    from facesyn.references import stream
    from facesyn.references.assets import find_assets
    from facesyn.references.crops import NAMES
    from facesyn.references.folder import ReferenceFolder
    from facesyn.references.photographer import Equipment
    from facesyn.references.plans import Order, multi_pie_expressions

    if crop not in NAMES:
        raise UsageError(f"There is no crop {crop!r}.", hint=registry.suggest(crop, NAMES, "Crops"))
    if expression and grid != "multi-pie":
        raise UsageError("Expressions by name belong to a grid.", hint="Add --grid multi-pie.")
    found = find_assets(assets)
    order = Order(
        identities=identities,
        styles=styles,
        seed=seed,
        per_identity=per_identity,
        grid=grid,
        expressions=multi_pie_expressions(expression or ["neutral"]),
        vary=tuple(factor.strip().replace("-", "_") for factor in vary.split(",")) if vary else (),
    )
    options = tuple(parse_backend_options(option).items())
    registry.load(registry.Role.RENDERER, renderer)
    equipment = Equipment(found.data, size, crop, renderer, options, geometry=bool(map_))
    facts = {
        "renderer": renderer,
        "assets": found.digest,
        "size": size,
        "crop": crop,
        "seed": seed,
        "identities": identities,
        "styles": styles,
        "per_identity": per_identity or styles,
    }
    folder = ReferenceFolder(output, facts, tuple(map_ or ()))
    left = stream.unfinished(equipment, order, folder)
    each = order.shots_per_identity + 1
    with out.progress("render", identities * each, (identities - len(left)) * each) as advance:
        stream.render_references(equipment, order, folder, left, workers, advance)
    out.note(f"{identities} people, {identities * (each - 1)} pictures and as many portraits as people in {output}.")


@app.command()
def edges(
    folder: Annotated[Path, typer.Argument(help="Any folder of images, or one of `facesyn references render`.")],
    output: OutputFolder,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="Edge maps to keep, of shapes spread evenly; all by default."),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Edges of whole pictures, hair included, also where landmarks are known.")
    ] = False,
) -> None:
    """Take Canny edges of pictures, and keep those whose shapes differ most: a bank for `facesyn generate --edges`.

    Faces that labels call turned are left out. With --count, the first maps are as different as possible.

    Example: facesyn references edges styles/portraits -n 64 -o edges
    """
    from facesyn.banks import read_bank
    from facesyn.errors import ImageError
    from facesyn.marking import COMPUTED
    from facesyn.out import out
    from facesyn.records import EdgeRow
    from facesyn.references.edges import edge_bank, frontal
    from facesyn.stages.folder import StageFolder

    if not folder.is_dir():
        raise ImageError(f"There is no folder {folder}.", hint="Give a folder of PNG, JPEG, WebP or BMP pictures.")
    pictures = read_bank(folder)
    stage = StageFolder(output, EdgeRow, source=COMPUTED)
    with out.progress("edges", sum(frontal(picture.labels) for picture in pictures)) as advance:
        bank = edge_bank(pictures, count, whole, advance)
    left = {row.file_name for row in stage.missing([each.row for each in bank])}
    stage.begin()
    for each in bank:
        if each.row.file_name in left:
            stage.add(each.row, each.picture)
    out.note(f"{len(bank)} edge maps in {output}.")
