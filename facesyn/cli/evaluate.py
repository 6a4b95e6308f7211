"""`facesyn evaluate`: figures about models and datasets."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facesyn.cli.options import Device, Json
from facesyn.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

ENCODERS = ("mini", "mini-judge")
"""Who measures a dataset unless told otherwise: the recogniser that gates use, and one that had no say in it."""

app = typer.Typer(help="Measure models and datasets.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def evaluate() -> None:
    """Measure models and datasets."""


@app.command()
def transfer(
    data: Annotated[Path, typer.Option("--data", help="Folder of shards of rendered faces the model never saw.")],
    training: Annotated[
        Path | None, typer.Option("--training", help="Shards it learned from: how far looking them up would come.")
    ] = None,
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
    encoder: Annotated[str, typer.Option("--encoder", help="Face encoder that judges identity.")] = ENCODERS[0],
    classifier: Annotated[
        str | None, typer.Option("--classifier", help="Attribute classifier: whether people look as old as they are.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="PNG of examples: source, reference, output, truth.")
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Compare attribute transfer with the truth, which renders can show: A in the style that B was seen in.

    Example: facesyn evaluate transfer --data held-out-renders --sheet transfer.png
    """
    from facesyn import registry
    from facesyn.evaluation.transfer import evaluate_transfer
    from facesyn.identity.encoders import open_classifier, open_encoder
    from facesyn.identity.networks import Landmarker
    from facesyn.imaging import contact_sheet, encode_png
    from facesyn.models import resolve
    from facesyn.out import out
    from facesyn.records import write_bytes
    from facesyn.rendered import read_renders

    faces = read_renders(data)
    known = None if training is None else read_renders(training)
    options = {"model": model, "device": device, "steps": steps, "identity_scale": identity_scale}
    network = registry.create(registry.Role.TRANSFER, "auto", options | {"style_scale": style_scale})
    without = registry.create(registry.Role.TRANSFER, "auto", options | {"style_scale": 0.0})
    judge = open_encoder(encoder, {"device": device})
    landmarker = Landmarker.from_pretrained(resolve("mini", "landmarker"), local_files_only=True).eval()
    looks = open_classifier(classifier, {}) if classifier else None
    with out.progress("evaluate", pairs) as advance:
        figures = evaluate_transfer(
            network, without, judge, landmarker, faces, known, looks, count=pairs, seed=seed, advance=advance
        )
    if sheet is not None:
        shown = [
            [picture for row in figures.examples[i : i + 3] for picture in row]
            for i in range(0, len(figures.examples), 3)
        ]
        write_bytes(sheet, encode_png(contact_sheet([("", row) for row in shown])))
    values = figures.as_dict()
    if json:
        out.json(values)
        return
    out.table(
        ("pictures against the truth", "SSIM", "difference /255", "face SSIM", "face difference /255"),
        [(name.replace("_", " "), *map(interval, found.values())) for name, found in values["pictures"].items()],
    )
    out.table(("measure", "value"), transfer_rows(values))


def transfer_rows(values: dict[str, Any]) -> list[tuple[str, str]]:
    """The single figures of a transfer, as rows of a table."""
    return [
        ("pairs", str(values["pairs"])),
        ("yaw correlation", f"{values['yaw_correlation']:.3f}"),
        ("yaw error (degrees)", f"{values['yaw_error']:.1f}"),
        ("light from the side, correlation", f"{values['light_correlation']['side']:.3f}"),
        ("light from above, correlation", f"{values['light_correlation']['height']:.3f}"),
        ("background colour, correlation", f"{values['background_correlation']:.3f}"),
        ("nearer to source than to reference", interval(values["nearer_to_source"])),
        ("above the 1 % FMR threshold", interval(values["above_threshold"])),
        ("more like the reference's person than the truth is", interval(values["leakage"])),
        *(
            (f"{attribute.replace('_', ' ')} as labelled, {pictures}", interval(share))
            for pictures, found in values["attributes"].items()
            for attribute, share in found.items()
        ),
    ]


@app.command()
def verification(
    model: Annotated[
        str,
        typer.Argument(
            help="Face encoder: mini, onnx:FILE.onnx, recogniser:FOLDER; options follow, as in ,flip=false."
        ),
    ],
    benchmark: Annotated[
        list[Path], typer.Option("--benchmark", help="A .bin, or lines FILE FILE 1|0 of files beside it; repeatable.")
    ],
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where the files of pairs are, if not beside the list.")
    ] = None,
    align: Annotated[
        str | None,
        typer.Option("--align", help="Detector that aligns pictures first; .bin pictures are aligned already."),
    ] = None,
    roc: Annotated[Path | None, typer.Option("--roc", help="PNG of the ROC curves.")] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Print the paper's comparison table beside.")] = False,
    json: Json = False,
) -> None:
    """Verify a recogniser on pairs of faces: ten-fold accuracy, EER, TAR at FAR 1e-3 and 1e-4.

    Example: facesyn evaluate verification onnx:r50.onnx --benchmark lfw.bin --benchmark agedb_30.bin --roc roc.png
    """
    from facesyn import registry
    from facesyn.errors import ImageError
    from facesyn.evaluation import published
    from facesyn.evaluation.benchmark import Benchmark, embed_benchmark, plot_roc, read_benchmark, verify
    from facesyn.identity.alignment import align as align_face
    from facesyn.identity.encoders import open_encoder
    from facesyn.imaging import encode_png
    from facesyn.out import out
    from facesyn.records import write_bytes

    read = [read_benchmark(path, folder) for path in benchmark]
    encoder = open_encoder(model, {"crop": "aligned"})
    if align is not None:
        detector = registry.create(registry.Role.DETECTOR, align)

        def aligned(source: Benchmark, index: int) -> "Image":
            picture = source.open(index)
            found = detector.detect(picture)
            if not len(found):
                raise ImageError(f"No face was found in picture {index} of {source.name}.")
            return align_face(picture, found[0, 5:].reshape(5, 2))

        read = [Benchmark(each.name, each.same, partial(aligned, each)) for each in read]
    found = {}
    for each in read:
        with out.progress(each.name, each.pictures) as advance:
            found[each.name] = verify(embed_benchmark(encoder, each, advance), each.same)
    if roc is not None:
        write_bytes(roc, encode_png(plot_roc({name: figures.roc for name, figures in found.items()})))
    if json:
        out.json(
            {
                "encoder": dict(encoder.facts()),
                "benchmarks": {
                    name: {
                        **{key: getattr(figures, key) for key in ("pairs", "accuracy", "accuracy_std", "threshold")},
                        **{"eer": figures.eer, "tar_at_far": figures.tar},
                    }
                    for name, figures in found.items()
                },
            }
        )
        return
    out.table(
        ("benchmark", "pairs", "accuracy %", "±", "EER %", "TAR@FAR 1e-3 %", "TAR@FAR 1e-4 %"),
        [
            (
                *(name, figures.pairs, f"{figures.accuracy:.2%}"[:-1], f"{figures.accuracy_std:.2%}"[:-1]),
                f"{figures.eer:.2%}"[:-1],
                *(f"{figures.tar[far]:.2%}"[:-1] if far in figures.tar else "–" for far in ("0.001", "0.0001")),
            )
            for name, figures in found.items()
        ],
    )
    if paper:
        accuracy = {name: figures.accuracy for name, figures in found.items()}
        out.line("")
        out.table(published.COLUMNS, [*published.ROWS, published.measured_row(accuracy)])


@app.command()
def dataset(
    folder: Annotated[
        Path, typer.Argument(help="A facesyn dataset, a folder with one subfolder per person, or shards.")
    ],
    encoder: Annotated[
        list[str] | None,
        typer.Option("--encoder", help="Face encoder, repeatable: not only the gate's own; mini and mini-judge."),
    ] = None,
    beside: Annotated[
        Path | None, typer.Option("--beside", help="Renders or real people to compare with, as many of each.")
    ] = None,
    classifier: Annotated[
        str | None, typer.Option("--classifier", help="Attribute classifier: asked against measured.")
    ] = None,
    align: Annotated[str | None, typer.Option("--align", help="Detector that aligns pictures first.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of draws and intervals.")] = 0,
    json: Json = False,
) -> None:
    """Measure a dataset: balance, uniqueness, consistency, genuine and impostor similarities, diversity, quality.

    Example: facesyn evaluate dataset people --encoder mini --encoder onnx:arcface.onnx --json
    """
    from facesyn import registry
    from facesyn.evaluation import dataset as measure
    from facesyn.identity.alignment import align_all
    from facesyn.identity.calibration import FMRS
    from facesyn.identity.encoders import calibration_of, embed_all, open_classifier, open_encoder
    from facesyn.labelled import read_labelled
    from facesyn.out import out

    sets = {"dataset": read_labelled(folder)}
    if beside is not None:
        sets["beside"] = read_labelled(beside).equal_number(sets["dataset"], seed)
    missed: dict[str, list[str]] = {}
    if align is not None:
        detector = registry.create(registry.Role.DETECTOR, align)
        for name, faces in list(sets.items()):
            sets[name], missed[name] = align_all(faces, detector)
    judge = open_classifier(classifier, sets["dataset"].categories) if classifier else None
    report: dict[str, Any] = {}
    for name, faces in sets.items():
        report[name] = {
            "people": len(faces.members()),
            "images": len(faces),
            **({"no_face_found": missed[name]} if missed.get(name) else {}),
            "balance": measure.balance(faces),
            **({"agreement": measure.agreement(faces, judge)} if judge else {}),
            "pictures": measure.picture_figures(faces),
            "encoders": {},
        }
        for spec in encoder or ENCODERS:
            network = open_encoder(spec, {"crop": "aligned"} if align else {})
            thresholds = {}
            try:
                calibration = calibration_of(network)
                thresholds = {f"fmr {fmr:g}": calibration.threshold(fmr, strangers="all") for fmr in FMRS}
            except UsageError as error:
                out.note(f"{spec}: no uniqueness or consistency without thresholds. {error}")
            with out.progress(f"{name}, {spec}", len(faces)) as advance:
                embeddings = embed_all(network, faces, advance)
            report[name]["encoders"][spec] = measure.similarity_figures(embeddings, faces, thresholds, seed)
    if json:
        out.json(report)
        return
    out.table(("figure", *report), _dataset_rows(report))


def _dataset_rows(report: dict[str, Any]) -> list[list[str]]:
    """One row per figure, one column per set."""
    columns = []
    for values in report.values():
        column = {"people": str(values["people"]), "images": str(values["images"])}
        for key, found in values["balance"].items():
            column[f"{key}: χ² (p)"] = f"{found['chi_squared']:.2f} ({found['p']:.3f})"
        for seen, attributes in values.get("agreement", {}).items():
            for key, found in attributes.items():
                column[f"{key} in {seen}: people (pictures)"] = f"{interval(found['people'])} ({found['pictures']:.1%})"
        column |= {name: interval(found) for name, found in values["pictures"].items()}
        for spec, found in values["encoders"].items():
            for fmr, points in found["uniqueness"].items():
                column[f"{spec}: kept at {fmr}"] = f"{points[-1]['kept']} of {points[-1]['people']}"
            for fmr, share in found["consistency"].items():
                column[f"{spec}: consistency at {fmr}"] = interval(share)
            for name in ("eer", "fdr", "fnmr_at_fmr_1e_2", "fnmr_at_fmr_1e_3", "diversity"):
                if name in found:
                    column[f"{spec}: {name}"] = interval(found[name])
        columns.append(column)
    names = list(dict.fromkeys(name for column in columns for name in column))
    return [[name, *(column.get(name, "–") for column in columns)] for name in names]


def interval(found: dict[str, float]) -> str:
    return f"{found['value']:.4g} ({found['low']:.4g}–{found['high']:.4g})"


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Datasets: of facesyn, folders of known people, or shards.")],
    unseen: Annotated[Path, typer.Option("--unseen", help="People in none of them, to verify on.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the trained recognisers are kept.")],
    protocol: Annotated[str, typer.Option("--protocol", help="atd, dcface, vec2face or cemiface.")] = "atd",
    backbone: Annotated[str | None, typer.Option("--backbone", help="Instead of the protocol's own.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the protocol's own.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Instead of the protocol's own.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Instead of the protocol's own.")] = None,
    people: Annotated[int | None, typer.Option(min=2, help="People of each; all that every one has.")] = None,
    images: Annotated[int | None, typer.Option(min=2, help="Images of each person; all that every one has.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per dataset.")] = 3,
    crop: Annotated[
        str, typer.Option("--crop", help="facesyn for its own pictures, aligned for 112 × 112.")
    ] = "facesyn",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    json: Json = False,
) -> None:
    """Train the same recogniser on each of several datasets, cut to equal numbers, and verify on unseen people.

    Example: facesyn evaluate compare people renders --unseen val -o runs/compare
    """
    import torch

    from facesyn.identity.backbones import BACKBONES
    from facesyn.labelled import read_labelled
    from facesyn.out import out
    from facesyn.recognition.compare import FIGURES, matched
    from facesyn.recognition.compare import compare as train_and_verify
    from facesyn.recognition.recipes import protocol as named

    if backbone is not None and backbone not in BACKBONES:
        raise UsageError(f"There is no backbone called {backbone!r}.", hint=f"There are {', '.join(BACKBONES)}.")
    names = [f"{number}-{path.resolve().name}" for number, path in enumerate(folders)]
    sets = matched(
        {name: read_labelled(path) for name, path in zip(names, folders, strict=True)}, people, images, seed=0
    )
    torch.set_num_threads(threads)
    chosen = named(protocol).adapted(
        backbone=backbone, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate
    )
    found = train_and_verify(sets, read_labelled(unseen), output, chosen, seeds=seeds, crop=crop, report=out.note)
    if json:
        out.json(found)
        return
    rows = []
    for key in FIGURES:
        cells = []
        for values in found["sets"].values():
            figure = values[key]
            spread = "" if figure["std"] is None else f" ± {figure['std']:.3g}"
            cells.append(f"{figure['mean']:.4g}{spread} ({figure['low']:.4g}–{figure['high']:.4g})")
        rows.append((key, *cells))
    out.table(("figure, ± over seeds (95 % over people)", *found["sets"]), rows)
