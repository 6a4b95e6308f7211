"""`facesyn generate`: prompts and edge maps to unique frontal faces (UFG)."""

from pathlib import Path
from typing import Annotated

import typer

from facesyn.cli.options import (
    Attempts,
    BackendOptions,
    BatchSize,
    CalibrationFile,
    Commercial,
    Device,
    Dtype,
    Encoder,
    Gates,
    OutputFolder,
    Provider,
    parse_backend_options,
)


def generate(
    prompts: Annotated[str, typer.Argument(help="JSONL rows of `facesyn prompts`; - reads standard input.")],
    output: OutputFolder,
    backend: Annotated[
        str,
        typer.Option("--backend", envvar="FACESYN_GENERATOR", help="Face generator; see `facesyn backends list`."),
    ] = "auto",
    model: Annotated[
        str | None,
        typer.Option("--model", envvar="FACESYN_MODEL", help="mini, or an SD 1.5 or SDXL diffusers folder or hub id."),
    ] = None,
    controlnet: Annotated[
        str | None,
        typer.Option(
            "--controlnet",
            envvar="FACESYN_CONTROLNET",
            help="Canny ControlNet: folder or hub id; the model's own where left out.",
        ),
    ] = None,
    edges: Annotated[
        str,
        typer.Option(
            "--edges",
            envvar="FACESYN_EDGES",
            help="Folder of edge maps, or of pictures to take Canny edges of; or mini.",
        ),
    ] = "mini",
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            help="ddim, euler, dpmpp-2m, dpmpp-2m-karras or unipc; the model's own where left out.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps.")] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option("--guidance-scale", min=0, help="How strongly the prompt is followed; 1 is no guidance."),
    ] = None,
    conditioning_scale: Annotated[
        float | None,
        typer.Option("--conditioning-scale", min=0, help="How strongly the edge map is followed."),
    ] = None,
    provider: Provider = None,
    device: Device = "auto",
    dtype: Dtype = "fp32",
    batch_size: BatchSize = 8,
    gates: Gates = True,
    attempts: Attempts = 4,
    known: Annotated[
        list[Path] | None,
        typer.Option("--known", help="Folder of faces that nobody new may look like; repeatable."),
    ] = None,
    encoder: Encoder = "mini",
    calibration: CalibrationFile = None,
    classifier: Annotated[
        str, typer.Option("--classifier", help="Who judges attributes, as in clip,model=FOLDER; nobody where left out.")
    ] = "",
    commercial: Commercial = False,
    option: BackendOptions = None,
) -> None:
    """Generate one face per prompt, and a metadata.jsonl that says how each was made.

    Gates let in one sharp frontal face that resembles nobody else; refused attempts are kept in rejected.jsonl.

    Stop it at any time and run the same command again: it goes on where it was.

    Example: facesyn prompts -n 32 | facesyn generate - -o faces
    """
    from facesyn import registry
    from facesyn.banks import bank_folder, read_bank
    from facesyn.demographics import count_cells
    from facesyn.gates.keeper import Keeper
    from facesyn.gates.settings import GateSettings
    from facesyn.identity.encoders import open_encoder
    from facesyn.labelled import asked_of, categories_of
    from facesyn.out import out
    from facesyn.protocols import FaceGenerator
    from facesyn.records import FaceRow, PromptRow, read_rows
    from facesyn.stages.folder import StageFolder, check_unique
    from facesyn.stages.gated import REJECTED, generate_gated
    from facesyn.stages.generation import generate_faces, plan_faces

    rows = read_rows(prompts, PromptRow)
    check_unique([row.id for row in rows], "id")
    bank = read_bank(bank_folder(edges, "edges"))
    folder = StageFolder(output, FaceRow, measured=["gates"])
    asked = {
        "model": model,
        "controlnet": controlnet,
        "scheduler": scheduler,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "conditioning_scale": conditioning_scale,
        "provider": provider,
        "device": device if device != "auto" else None,
        "dtype": dtype if dtype != "fp32" else None,
    }
    options = {name: value for name, value in asked.items() if value is not None} | parse_backend_options(option)
    if commercial:
        from facesyn import licences

        parts = licences.backend_parts(registry.Role.GENERATOR, backend, options)
        parts += [licences.bank_part(edges, "edges")]
        parts += licences.judges(encoder, classifier) if gates else []
        licences.require_commercial(parts)
    generator: FaceGenerator = registry.create(registry.Role.GENERATOR, backend, options)
    todo = folder.missing(plan_faces(rows, bank, generator.facts(), folder.done))
    folder.begin()
    short: list[FaceRow] = []
    with out.progress("generate", len(rows), len(rows) - len(todo)) as advance:
        if not gates:
            generate_faces(todo, generator, bank, folder, batch_size, advance)
        else:
            judge = open_encoder(encoder)
            settings = GateSettings(
                attempts=attempts,
                calibration=str(calibration or ""),
                known=list(map(str, known or [])),
                classifier=classifier,
            )
            categories = categories_of(map(asked_of, rows))
            keeper = Keeper(settings, len(rows), judge, categories)
            short = generate_gated(todo, generator, judge, bank, folder, keeper, batch_size, advance)
    out.note(f"{len(folder.done)} faces in {output}.")
    if short:
        for cell, count in count_cells([row.cell for row in short]).items():
            out.warning(f"Shortfall in {cell}: {count} people; {REJECTED} says why.")
        raise typer.Exit(1)
