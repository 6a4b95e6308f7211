"""`facesyn calibrate`: what similarities of an encoder mean."""

from pathlib import Path
from typing import Annotated

import typer

from facesyn.cli.options import Encoder, Json


def calibrate(
    data: Annotated[
        Path,
        typer.Option("--data", help="Labelled faces the encoder never saw: shards, a dataset, a folder per person."),
    ],
    encoder: Encoder = "mini",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; beside the encoder's weights where left out.")
    ] = None,
    fmr: Annotated[
        list[float] | None, typer.Option("--fmr", min=1e-9, max=0.5, help="False match rate; repeatable.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=20, help="Draws of people for the intervals.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of these draws.")] = 0,
    json: Json = False,
) -> None:
    """Measure the thresholds of a face encoder at stated false match rates, over all strangers and within a cell.

    A rate asked for with --fmr that the pairs cannot support is refused; of the usual ones, those are left out and
    named.

    Example: facesyn calibrate --data faces --encoder onnx:arcface.onnx
    """
    from facesyn.errors import UsageError
    from facesyn.identity.calibration import FMRS, Calibration, fingerprint_of, write_calibration
    from facesyn.identity.calibration import calibrate as measure
    from facesyn.identity.encoders import embed_all, open_encoder
    from facesyn.labelled import read_people
    from facesyn.out import out
    from facesyn.protocols import CalibratedEncoder

    faces = read_people(data)
    judge = open_encoder(encoder)
    file = output or (judge.calibration_file if isinstance(judge, CalibratedEncoder) else None)
    if file is None:
        raise UsageError("The encoder names no place for its calibration.", hint="Name a file with -o.")
    with out.progress("embed", len(faces)) as advance:
        embeddings = embed_all(judge, faces, advance)
    thresholds, refused = measure(
        embeddings, faces.identities, faces.cells, faces.frontal, fmrs=fmr or FMRS, resamples=resamples, seed=seed
    )
    if fmr and refused or not thresholds:
        raise UsageError(refused[0][0].upper() + refused[0][1:] + ".", hint="Calibrate on more people.")
    for reason in refused:
        out.note(f"Left out: {reason}.")
    calibration = Calibration(
        encoder=dict(judge.facts()),
        fingerprint=fingerprint_of(judge.facts()),
        data=faces.digest(),
        identities=len(set(faces.identities)),
        images=len(faces),
        thresholds=thresholds,
    )
    write_calibration(file, calibration)
    if json:
        out.json(calibration.model_dump())
        return
    rows = [
        (
            t.pictures,
            t.strangers,
            f"{t.fmr:g}",
            f"{t.threshold:.4f}",
            f"{t.low:.4f}–{t.high:.4f}",
            _percent(t.tar),
            t.identity_pairs,
        )
        for t in thresholds
    ]
    out.table(("pictures", "strangers", "FMR", "threshold", "95 %", "TAR", "pairs of people"), rows)
    out.note(f"Written to {file}.")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
