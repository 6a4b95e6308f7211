"""`facesyn generate`: prompts and edge maps to unique frontal faces (UFG)."""

from typing import Annotated

import typer

from facesyn.cli.options import BackendOptions, BatchSize, Device, Dtype, OutputFolder, parse_backend_options


def generate(
    prompts: Annotated[str, typer.Argument(help="JSONL rows of `facesyn prompts`; - reads standard input.")],
    output: OutputFolder,
    backend: Annotated[
        str,
        typer.Option("--backend", envvar="FACESYN_GENERATOR", help="Face generator; see `facesyn backends list`."),
    ] = "diffusers",
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
    device: Device = "auto",
    dtype: Dtype = "fp32",
    batch_size: BatchSize = 8,
    option: BackendOptions = None,
) -> None:
    """Generate one face per prompt, and a metadata.jsonl that says how each was made.

    Stop it at any time and run the same command again: it goes on where it was.

    Example: facesyn prompts -n 32 | facesyn generate - -o faces
    """
    from facesyn import registry
    from facesyn.banks import bank_folder, read_bank
    from facesyn.out import out
    from facesyn.protocols import FaceGenerator
    from facesyn.records import FaceRow, PromptRow, read_rows
    from facesyn.stages.folder import StageFolder, check_unique
    from facesyn.stages.generation import generate_faces, plan_faces

    rows = read_rows(prompts, PromptRow)
    check_unique([row.id for row in rows], "id")
    bank = read_bank(bank_folder(edges, "edges"))
    folder = StageFolder(output, FaceRow)
    asked = {
        "model": model,
        "controlnet": controlnet,
        "scheduler": scheduler,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "conditioning_scale": conditioning_scale,
        "device": device if device != "auto" else None,
        "dtype": dtype if dtype != "fp32" else None,
    }
    options = {name: value for name, value in asked.items() if value is not None} | parse_backend_options(option)
    generator: FaceGenerator = registry.create(registry.Role.GENERATOR, backend, options)
    todo = folder.missing(plan_faces(rows, bank, generator.facts()))
    output.mkdir(parents=True, exist_ok=True)
    with out.progress("generate", len(rows), len(rows) - len(todo)) as advance:
        generate_faces(todo, generator, bank, folder, batch_size, advance)
    out.note(f"{len(rows)} faces in {output}.")
