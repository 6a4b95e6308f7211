"""Option types shared by commands: flag > FACESYN_* variable > the command's default."""

from pathlib import Path
from typing import Annotated

import typer

from facesyn.registry import parse_options as parse_backend_options

Seed = Annotated[
    int,
    typer.Option("--seed", envvar="FACESYN_SEED", min=0, help="Seed of the run; the same seed gives the same result."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OutputFolder = Annotated[Path, typer.Option("--output", "-o", help="Folder to write to; created where it is missing.")]
Device = Annotated[str, typer.Option("--device", envvar="FACESYN_DEVICE", help="auto, cpu, cuda, cuda:1, mps …")]
Dtype = Annotated[str, typer.Option("--dtype", envvar="FACESYN_DTYPE", help="fp32, fp16 or bf16.")]
Provider = Annotated[
    str | None,
    typer.Option(
        "--provider",
        envvar="FACESYN_PROVIDER",
        help="Run ONNX graphs on cpu, cuda or tensorrt; the fastest runtime installed where left out.",
    ),
]
BatchSize = Annotated[
    int, typer.Option("--batch-size", envvar="FACESYN_BATCH_SIZE", min=1, help="Pictures computed at once.")
]
BackendOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        help="An option of the backend, e.g. of a third-party one; repeatable.",
    ),
]

Encoder = Annotated[
    str,
    typer.Option(
        "--encoder",
        envvar="FACESYN_ENCODER",
        help="Face encoder: mini, onnx:FILE.onnx, recogniser:FOLDER; options follow, as in ,colour=bgr.",
    ),
]
CalibrationFile = Annotated[
    Path | None,
    typer.Option("--calibration", help="Thresholds of the encoder; the file beside its weights where left out."),
]
Gates = Annotated[
    bool,
    typer.Option("--gates/--no-gates", envvar="FACESYN_GATES", help="Let in only pictures that pass the gates."),
]
Attempts = Annotated[
    int, typer.Option("--attempts", min=1, max=100, help="How often a picture the gates refuse is made, in all.")
]

Commercial = Annotated[
    bool,
    typer.Option("--commercial", help="Refuse models whose licence does not state that commercial use is allowed."),
]

__all__ = [
    "Attempts",
    "Commercial",
    "Gates",
    "BackendOptions",
    "BatchSize",
    "CalibrationFile",
    "Device",
    "Dtype",
    "Encoder",
    "Json",
    "OutputFolder",
    "Provider",
    "Seed",
    "parse_backend_options",
]
