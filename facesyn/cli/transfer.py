"""`facesyn transfer`: faces into the styles of references (ATD)."""

from collections import Counter
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
    Gates,
    OutputFolder,
    Provider,
    Seed,
    parse_backend_options,
)


def transfer(
    faces: Annotated[Path, typer.Argument(help="Folder of `facesyn generate`, or any folder of faces.")],
    output: OutputFolder,
    references: Annotated[
        str,
        typer.Option("--references", envvar="FACESYN_REFERENCES", help="Folder of style references, or mini."),
    ] = "mini",
    per_identity: Annotated[int, typer.Option("--per-identity", min=1, help="Pictures per face.")] = 4,
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs",
            help="JSONL of exact pairings: source and reference (relative to it), output (relative to -o).",
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option("--backend", envvar="FACESYN_TRANSFER", help="Attribute transfer; see `facesyn backends list`."),
    ] = "auto",
    model: Annotated[
        str | None,
        typer.Option("--model", envvar="FACESYN_ATD_MODEL", help="mini, or a folder of an ATD model."),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps.")] = None,
    identity_scale: Annotated[
        float | None,
        typer.Option("--identity-scale", min=0, help="Guidance towards the source's identity; 1 is none."),
    ] = None,
    style_scale: Annotated[
        float | None,
        typer.Option("--style-scale", min=0, help="Guidance towards the reference's style; 1 is none, 0 ignores it."),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            envvar="FACESYN_ENCODER",
            help="Face encoder that measures similarities; empty for none.",
        ),
    ] = "mini",
    seed: Seed = 0,
    provider: Provider = None,
    device: Device = "auto",
    dtype: Dtype = "fp32",
    batch_size: BatchSize = 8,
    gates: Gates = True,
    attempts: Attempts = 4,
    identity_fmr: Annotated[
        float | None,
        typer.Option(
            "--identity-fmr",
            min=1e-9,
            max=0.5,
            help="Hold pictures to their source's identity at this false match rate; not held to it where left out.",
        ),
    ] = None,
    calibration: CalibrationFile = None,
    classifier: Annotated[
        str, typer.Option("--classifier", help="Who judges attributes, as in clip,model=FOLDER; nobody where left out.")
    ] = "",
    commercial: Commercial = False,
    option: BackendOptions = None,
) -> None:
    """Carry every face into several styles, and write a metadata.jsonl with similarities to source and reference.

    Gates refuse what resembles its reference's person, and with --classifier what looks otherwise than its prompt
    asked; it is tried again in another style, except for exact --pairs.

    Stop it at any time and run the same command again: it goes on where it was.

    Example: facesyn transfer faces --per-identity 6 -o people
    """
    from facesyn import registry
    from facesyn.banks import bank_folder, read_bank
    from facesyn.errors import ImageError, UsageError
    from facesyn.gates.keeper import Keeper
    from facesyn.gates.settings import GateSettings
    from facesyn.identity.encoders import open_encoder
    from facesyn.imaging import load_image
    from facesyn.labelled import categories_of
    from facesyn.out import out
    from facesyn.protocols import AttributeTransfer, FaceEncoder
    from facesyn.records import TransferRow
    from facesyn.stages.folder import StageFolder, check_unique
    from facesyn.stages.gated import REJECTED, transfer_gated
    from facesyn.stages.transfers import RandomPairs, pair_exactly, plan_transfers, read_sources, transfer_faces

    if not faces.is_dir():
        raise ImageError(f"There is no folder {faces}.", hint="Make one with `facesyn generate PROMPTS -o FACES`.")
    measured = ("source_similarity", "reference_similarity", "gates", "attempt", "rejected_by")
    folder = StageFolder(output, TransferRow, measured=measured if gates else measured[:2])
    again, sources = None, []
    if pairs is not None:
        pairings = pair_exactly(pairs, seed)
    else:
        sources = read_sources(faces)
        drawn = RandomPairs(sources, read_bank(bank_folder(references, "references")), per_identity, seed)
        pairings, again = drawn.pairings(folder.done), drawn.attempt
    cells = {source.identity: source.cell for source in sources}
    if classifier and not any(cells.values()):
        raise UsageError(
            "Nothing says what these faces were asked to be, so --classifier has nothing to compare.",
            hint="Leave it out, or carry a folder of `facesyn generate`, without --pairs.",
        )
    check_unique([pairing.output for pairing in pairings], "output")
    for path in sorted({path for pairing in pairings for path in (pairing.source, pairing.reference)}):
        load_image(path)  # a corrupt picture is named before any work is done

    asked = {
        "model": model,
        "steps": steps,
        "identity_scale": identity_scale,
        "style_scale": style_scale,
        "provider": provider,
        "device": device if device != "auto" else None,
        "dtype": dtype if dtype != "fp32" else None,
    }
    options = {name: value for name, value in asked.items() if value is not None} | parse_backend_options(option)
    if commercial:
        from facesyn import licences

        parts = licences.backend_parts(registry.Role.TRANSFER, backend, options)
        parts += [licences.bank_part(str(pairs.parent) if pairs else references, "references")]
        parts += licences.faces_parts(faces) + licences.judges(encoder, classifier if gates else "", gated=gates)
        licences.require_commercial(parts)
    network: AttributeTransfer = registry.create(registry.Role.TRANSFER, backend, options)
    judge: FaceEncoder | None = open_encoder(encoder) if encoder else None
    facts = dict(network.facts()) | ({"encoder": dict(judge.facts())} if judge else {})
    todo = folder.missing(plan_transfers(pairings, facts))
    folder.begin()
    short: list[TransferRow] = []
    with out.progress("transfer", len(pairings), len(pairings) - len(todo)) as advance:
        if not gates:
            transfer_faces(todo, pairings, network, judge, folder, batch_size, advance)
        else:
            settings = GateSettings(
                attempts=attempts,
                calibration=str(calibration or ""),
                unique=False,
                identity=identity_fmr is not None,
                identity_fmr=identity_fmr or 0.01,
                leakage=judge is not None,
                classifier=classifier,
            )
            keeper = Keeper(settings, 1, judge, categories_of(cells.values()))
            short = transfer_gated(todo, pairings, again, cells, network, judge, folder, keeper, batch_size, advance)
    out.note(f"{len(folder.done)} pictures in {output}.")
    if doubtful := sum(row.rejected_by is not None for row in folder.done.values()):
        out.warning(f"{doubtful} of them would not have passed the gates; their rows say why, in rejected_by.")
    if short:
        for identity, count in Counter(row.identity for row in short).items():
            out.warning(f"Shortfall of {identity}: {count} pictures; {REJECTED} says why.")
        raise typer.Exit(1)
