"""`facesyn evaluate models`: autoencoder, UFG and ATD of a bundle on people that none of them was trained on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facesyn.cli.evaluate import interval, transfer_rows
from facesyn.cli.options import Device, Json

if TYPE_CHECKING:
    from facesyn.labelled import LabelledFaces
    from facesyn.protocols import AttributeClassifier, FaceEncoder
    from facesyn.rendered import RenderedFaces


def models(
    data: Annotated[Path, typer.Option("--data", help="Rendered people, unseen: frontal and in styles.")],
    people: Annotated[
        Path | None, typer.Option("--people", help="More unseen people, for statistics; of --data where left out.")
    ] = None,
    training: Annotated[
        Path | None, typer.Option("--training", help="What they learned from, for memorisation.")
    ] = None,
    ufg: Annotated[str, typer.Option("--ufg", envvar="FACESYN_MODEL", help="mini, or a folder.")] = "mini",
    atd: Annotated[str, typer.Option("--atd", envvar="FACESYN_ATD_MODEL", help="mini, or a folder.")] = "mini",
    classifier: Annotated[
        str | None,
        typer.Option("--classifier", help="Attribute classifier; one the gates do not use is no accomplice."),
    ] = None,
    encoder: Annotated[str, typer.Option("--encoder", help="Face encoder with a calibration.")] = "mini",
    faces: Annotated[int, typer.Option("--faces", min=64, help="Faces to generate.")] = 1000,
    pairs: Annotated[int, typer.Option("--pairs", min=2, help="Transfers to compare with the truth.")] = 400,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure the models a dataset is made with, on people and styles they never saw.

    Example: facesyn evaluate models --data val --people further --training renders --classifier mini,model=runs/judge
    """
    from facesyn import registry
    from facesyn.evaluation.transfer import evaluate_transfer
    from facesyn.identity.encoders import open_classifier, open_encoder
    from facesyn.identity.landmarks import load_landmarker
    from facesyn.labelled import of_rendered
    from facesyn.out import out
    from facesyn.rendered import read_renders

    unseen = read_renders(data)
    known = None if training is None else read_renders(training)
    judge = open_encoder(encoder)
    report: dict[str, Any] = {"autoencoder": _autoencoder(atd, unseen)}
    strangers = of_rendered(read_renders(people) if people else unseen)
    portraits = strangers.subset(strangers.frontal.nonzero()[0])
    learned = None if known is None else of_rendered(known)
    looks = open_classifier(classifier, portraits.categories) if classifier else None
    report["generator"] = _generator(ufg, portraits, learned, judge, looks, faces, seed, device)
    options = {"model": atd, "device": device}
    network = registry.create(registry.Role.TRANSFER, "auto", options)
    without = registry.create(registry.Role.TRANSFER, "auto", options | {"style_scale": 0.0})
    with out.progress("transfer", pairs) as advance:
        figures = evaluate_transfer(
            network,
            without,
            judge,
            load_landmarker("mini"),
            unseen,
            known,
            looks,
            count=pairs,
            seed=seed,
            advance=advance,
        )
    report["transfer"] = figures.as_dict()
    if json:
        out.json(report)
        return
    _print(report)


def _autoencoder(model: str, unseen: "RenderedFaces") -> dict[str, float]:
    from diffusers import AutoencoderKL

    from facesyn.models import resolve
    from facesyn.training.autoencoder import measure_autoencoder

    vae = AutoencoderKL.from_pretrained(resolve(model, "atd"), subfolder="vae", local_files_only=True)
    return measure_autoencoder(vae.eval(), unseen, limit=400)


def _generator(
    model: str,
    portraits: "LabelledFaces",
    learned: "LabelledFaces | None",
    judge: "FaceEncoder",
    classifier: "AttributeClassifier | None",
    count: int,
    seed: int,
    device: str,
) -> dict[str, Any]:
    import numpy as np

    from facesyn import registry
    from facesyn.evaluation import generator as measure
    from facesyn.evaluation.audit import memorisation
    from facesyn.evaluation.dataset import retention
    from facesyn.evaluation.random_features import RandomFeatures
    from facesyn.identity.calibration import FMRS
    from facesyn.identity.encoders import calibration_of, embed_all
    from facesyn.out import out

    generator = registry.create(registry.Role.GENERATOR, "auto", {"model": model, "device": device})
    studio = measure.Studio(generator, registry.create(registry.Role.PROMPTER, "template", {}), portraits, seed)
    crossed = studio.cells[:: max(1, len(studio.cells) // 8)]
    with out.progress("generate", count + len(crossed) * measure.LEVELS**3) as advance:
        made = studio.portraits(count, advance)
        grids = [studio.crossed(cell, advance) for cell in crossed]
    shape = (measure.LEVELS,) * 3 + (-1,)
    generated, rendered = judge.embed(made.pictures), embed_all(judge, portraits)
    chance = RandomFeatures(seed)
    calibration = calibration_of(judge)
    kept = {}
    for fmr in FMRS:
        threshold = calibration.threshold(fmr, strangers="all")
        number = min(len(generated), len(rendered))
        shares = [retention(rows[:number], threshold)[-1][1] / number for rows in (generated, rendered)]
        kept[f"fmr {fmr:g}"] = {"people": number, "generated": round(shares[0], 4), "renders": round(shares[1], 4)}
    found: dict[str, Any] = {
        "faces": count,
        "edges": measure.edges_followed(made, portraits),
        "frechet": {
            "encoder": measure.distances(generated, rendered),
            "random network": measure.distances(chance.embed(made.pictures), embed_all(chance, portraits)),
        },
        "distinct": kept,
        "variance": measure.variance_shares([np.reshape(judge.embed(grid), shape) for grid in grids]),
    }
    if classifier is not None:
        found["recovered"] = measure.recovery(made, portraits, classifier)
    if learned is not None:
        found["memorised"] = memorisation(generated, embed_all(judge, learned), rendered)
    return found


def _print(report: dict[str, Any]) -> None:
    from facesyn.out import out

    vae, ufg, atd = report["autoencoder"], report["generator"], report["transfer"]
    out.table(
        ("autoencoder", "value"),
        [
            ("PSNR (dB)", f"{vae['psnr']:.2f}"),
            ("SSIM", f"{vae['ssim']:.3f}"),
            ("difference /255", f"{vae['difference']:.2f}"),
        ],
    )
    rows = [
        ("edge F1 (of strangers)", f"{interval(ufg['edges']['f1'])} ({ufg['edges']['f1_of_strangers']['value']:.3f})"),
        *(
            (f"Fréchet distance, {name} (render to render)", f"{found['generated']:.3f} ({found['renders']:.3f})")
            for name, found in ufg["frechet"].items()
        ),
        *(
            (f"distinct at {name} (renders)", f"{found['generated']:.1%} ({found['renders']:.1%}) of {found['people']}")
            for name, found in ufg["distinct"].items()
        ),
        *((f"variance of identity from {name}", f"{share:.1%}") for name, share in ufg["variance"].items()),
        *(
            (
                f"{key} recovered in {seen} (in renders)",
                f"{found['generated']['value']:.1%} ({found['renders']['value']:.1%})",
            )
            for seen, attributes in ufg.get("recovered", {}).items()
            for key, found in attributes.items()
        ),
    ]
    if "memorised" in ufg:
        rows.append(("nearer to training than an unseen face: chance (0.5 is none)", f"{ufg['memorised']['auc']:.3f}"))
    out.table(("generator", "value"), rows)
    out.table(
        ("transfer against the truth", "SSIM", "difference /255", "face SSIM", "face difference /255"),
        [(name, *map(interval, found.values())) for name, found in atd["pictures"].items()],
    )
    out.table(("transfer", "value"), transfer_rows(atd))
