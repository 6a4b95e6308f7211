"""`facesyn evaluate`: figures about models and datasets."""

from pathlib import Path
from typing import Annotated

import typer

from facesyn.cli.options import Device, Json

app = typer.Typer(help="Measure models.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def evaluate() -> None:
    """Measure models."""


@app.command()
def transfer(
    data: Annotated[Path, typer.Option("--data", help="Folder of shards of rendered faces the model never saw.")],
    model: Annotated[
        str, typer.Option("--model", envvar="FACESYN_ATD_MODEL", help="mini, or a folder of an ATD model.")
    ] = "mini",
    pairs: Annotated[int, typer.Option("--pairs", min=2, help="Number of (source, reference) pairs.")] = 1400,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Sampling steps; the model's own where left out.")
    ] = None,
    style_scale: Annotated[float | None, typer.Option("--style-scale", min=0)] = None,
    identity_scale: Annotated[float | None, typer.Option("--identity-scale", min=0)] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="PNG of examples: source, reference, output, truth.")
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Compare attribute transfer with the truth, which renders can show: A in the style that B was seen in.

    Example: facesyn evaluate transfer --data held-out-renders --sheet transfer.png
    """
    import dataclasses

    from facesyn import registry
    from facesyn.evaluation.transfer import evaluate_transfer
    from facesyn.identity.networks import Landmarker
    from facesyn.imaging import contact_sheet, encode_png
    from facesyn.models import resolve
    from facesyn.out import out
    from facesyn.records import write_bytes
    from facesyn.rendered import read_shards

    faces = read_shards(data)
    options = {"model": model, "device": device, "steps": steps, "identity_scale": identity_scale}
    network = registry.create(registry.Role.TRANSFER, "diffusers", options | {"style_scale": style_scale})
    without = registry.create(registry.Role.TRANSFER, "diffusers", options | {"style_scale": 0.0})
    judge = registry.create(registry.Role.ENCODER, "mini", {"device": device})
    landmarker = Landmarker.from_pretrained(resolve("mini", "landmarker"), local_files_only=True).eval()
    with out.progress("evaluate", pairs) as advance:
        figures = evaluate_transfer(network, without, judge, landmarker, faces, count=pairs, seed=seed, advance=advance)
    if sheet is not None:
        shown = [
            [picture for row in figures.examples[i : i + 3] for picture in row]
            for i in range(0, len(figures.examples), 3)
        ]
        write_bytes(sheet, encode_png(contact_sheet([("", row) for row in shown])))
    values = {
        field.name: getattr(figures, field.name) for field in dataclasses.fields(figures) if field.name != "examples"
    }
    if json:
        out.json(values)
        return
    rows = [
        (
            name,
            *(f"{values[key][measure]:.3f}" for measure in ("ssim", "difference", "face_ssim", "face_difference")),
        )
        for name, key in (
            ("model", "model"),
            ("style off", "style_off"),
            ("copied reference", "copied_reference"),
        )
    ]
    out.table(("", "SSIM", "difference /255", "face SSIM", "face difference /255"), rows)
    out.table(
        ("measure", "value"),
        [
            ("pairs", figures.pairs),
            ("yaw correlation", f"{figures.yaw_correlation:.3f}"),
            ("yaw error (degrees)", f"{figures.yaw_error:.1f}"),
            ("nearer to source than to reference", f"{figures.nearer_to_source:.1%}"),
            ("above the 1 % FMR threshold", f"{figures.above_threshold:.1%}"),
        ],
    )
