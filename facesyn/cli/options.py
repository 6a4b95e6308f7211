"""Option types shared by commands: flag > FACESYN_* variable > the command's default."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from facesyn.errors import UsageError

Seed = Annotated[
    int,
    typer.Option("--seed", envvar="FACESYN_SEED", min=0, help="Seed of the run; the same seed gives the same result."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OutputFolder = Annotated[Path, typer.Option("--output", "-o", help="Folder to write to; created where it is missing.")]
Device = Annotated[str, typer.Option("--device", envvar="FACESYN_DEVICE", help="auto, cpu, cuda, cuda:1, mps …")]
Dtype = Annotated[str, typer.Option("--dtype", envvar="FACESYN_DTYPE", help="fp32, fp16 or bf16.")]
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


def parse_backend_options(pairs: list[str] | None) -> dict[str, Any]:
    """`["steps=4", "name=x"]` → `{"steps": 4, "name": "x"}`: values are JSON where they parse, else words.

    Raises UsageError for a pair without `=`.
    """
    options: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"Backend option {pair!r} has no value.", hint="Write it as --option steps=4.")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options
