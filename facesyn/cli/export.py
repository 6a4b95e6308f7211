"""`facesyn export`: models as ONNX graphs."""

from typing import Annotated

import typer

from facesyn.cli.options import Json, OutputFolder


def export(
    model: Annotated[str, typer.Argument(help="mini, or a folder or hub id of a UFG, ATD or recogniser.")],
    output: OutputFolder,
    precision: Annotated[
        str, typer.Option("--precision", help="fp32; fp16, for GPUs; or int8, of matrix products, for processors.")
    ] = "fp32",
    controlnet: Annotated[
        str | None, typer.Option("--controlnet", help="ControlNet of a UFG folder that has none of its own.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a model with ONNX graphs of its networks, compared with PyTorch; parity.json says how far they are off.

    The folder stays a model for PyTorch; `--backend onnx --model FOLDER` runs the graphs.

    Example: facesyn export mini -o exported
    """
    from facesyn.export.models import export_model
    from facesyn.out import out

    found = export_model(model, output, precision, controlnet, lambda name: out.note(f"exporting {name}"))
    if json:
        out.json(found)
        return
    rows = [(name, f"{max(errors.values()):.1e}") for name, errors in found["networks"].items()]
    out.table(("network", f"error of {found['precision']}"), rows)
