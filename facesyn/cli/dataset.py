"""`facesyn dataset`: whole datasets from recipes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from facesyn.cli.options import CalibrationFile, Commercial, Encoder, Json, OutputFolder, parse_backend_options
from facesyn.errors import UsageError
from facesyn.out import out

app = typer.Typer(help="Whole datasets from recipes.", no_args_is_help=True, rich_markup_mode=None)


Workers = Annotated[
    int | None,
    typer.Option(
        envvar="FACESYN_WORKERS",
        min=1,
        help="Processes; all cores by default, 1 on a GPU. Never changes the result.",
    ),
]
Executor = Annotated[str, typer.Option(envvar="FACESYN_EXECUTOR", help="Where shards are made: local or ray.")]
ExecutorOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--executor-option",
        metavar="NAME=VALUE",
        help="An option of the executor, as address=HOST:PORT, num_gpus=1 or attempts=3; repeatable.",
    ),
]


@app.callback()
def dataset() -> None:
    """Whole datasets from recipes."""


@app.command()
def build(
    recipe: Annotated[str, typer.Argument(help="demo, syn-mpie, syn-casia, syn-ms1m, or a TOML file.")],
    output: OutputFolder,
    identities: Annotated[int | None, typer.Option(min=1, help="Number of people, instead of the recipe's.")] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Transferred images per person, instead of the recipe's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the run, instead of the recipe's.")] = None,
    references: Annotated[
        str | None, typer.Option(help="Style references, instead of the recipe's: a folder of images or a bundle.")
    ] = None,
    edges: Annotated[
        str | None, typer.Option(help="Edge maps, instead of the recipe's: a folder of images or a bundle.")
    ] = None,
    workers: Workers = None,
    executor: Executor = "local",
    executor_options: ExecutorOptions = None,
    no_gates: Annotated[
        bool, typer.Option("--no-gates", help="Let every picture in; the recipe's [gates] are not asked.")
    ] = False,
    commercial: Commercial = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="With --dry-run: make a few pictures, to say how long it will take.")
    ] = False,
    json: Json = False,
) -> None:
    """Build a dataset: prompts, faces, transferred images, labels, contact sheet.

    Stop it at any time and run the same command again: it goes on where it was, to the same result.

    Example: facesyn dataset build demo -o people
    """
    from facesyn.dataset import build as builder
    from facesyn.dataset.forecast import forecast
    from facesyn.dataset.recipe import load_recipe

    if not str(output).strip():
        raise UsageError("The output folder has no name.", hint="Give one, as in -o people.")
    resolved = load_recipe(recipe).scaled(identities, images, seed).with_banks(references, edges)
    if no_gates:
        resolved = resolved.model_copy(update={"gates": resolved.gates.model_copy(update={"enabled": False})})
    if commercial:
        from facesyn.licences import recipe_chain, require_commercial

        require_commercial(recipe_chain(resolved))
    if measure and not dry_run:
        raise UsageError("--measure belongs to --dry-run.", hint="Give both, or neither to build.")
    if dry_run:
        builder.check_recipe(resolved)
        _print_forecast(forecast(resolved), _measured(resolved) if measure else None, workers, json)
        return
    options = parse_backend_options(executor_options)
    _report(builder.build(resolved, output, workers, executor, options), output, json)


@app.command()
def extend(
    folder: Annotated[Path, typer.Argument(help="The dataset, as facesyn dataset build left it.")],
    identities: Annotated[int, typer.Option(min=1, help="How many people it is to have in all.")],
    workers: Workers = None,
    executor: Executor = "local",
    executor_options: ExecutorOptions = None,
    json: Json = False,
) -> None:
    """Add people to a finished dataset; its pictures stay, its cells stay balanced, nobody new is anybody there.

    Stop it at any time and run the same command again: it goes on where it was, to the same result.

    Example: facesyn dataset extend people --identities 24
    """
    from facesyn.dataset.build import extend as extend_dataset

    options = parse_backend_options(executor_options)
    built = extend_dataset(folder, identities, workers=workers, executor=executor, executor_options=options)
    _report(built, folder, json)


def _report(built: Any, folder: Path, json: bool) -> None:
    """What the dataset holds; exit 1 where that is less than was asked for."""
    summary: dict[str, Any] = {"folder": str(folder), "identities": built.identities, "images": built.images}
    if built.shortfalls:
        summary["shortfalls"] = [row.model_dump() for row in built.shortfalls]
    if not built.shards_made:
        out.note(f"{folder} was complete already.")
    if json:
        out.json(summary)
    else:
        out.line(f"{folder}: {built.identities} identities, {built.images} images")
    if built.shortfalls:
        for shortfall in built.shortfalls:
            out.warning(f"Shortfall in {shortfall}.")
        raise typer.Exit(1)


@app.command()
def audit(
    folder: Annotated[Path, typer.Argument(help="The dataset: of facesyn, or any folder of known people.")],
    against: Annotated[
        list[Path] | None, typer.Option("--against", help="Folder of faces nobody should look like; repeatable.")
    ] = None,
    training: Annotated[
        Path | None, typer.Option("--training", help="Faces the models learned from, to find what was memorised.")
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option("--held-out", help="Faces of the same kind that they did not learn from.")
    ] = None,
    references: Annotated[
        str | None, typer.Option("--references", help="The bank of style references; a dataset's own where left out.")
    ] = None,
    encoder: Encoder = "mini",
    calibration: CalibrationFile = None,
    fmr: Annotated[float, typer.Option("--fmr", min=1e-9, max=0.5, help="False match rate of one comparison.")] = 1e-3,
    limit: Annotated[
        float, typer.Option("--limit", min=0, max=1, help="Greatest share of images or people over the threshold.")
    ] = 0.01,
    json: Json = False,
) -> None:
    """Look for people a dataset should not show: of a gallery, of its references, twice; exit 1 where there are too
    many.

    The limit holds for images. A leak rate says how many have a neighbour above the threshold: strangers do so at the
    stated rate times the gallery's size.

    Example: facesyn dataset audit people --against real-faces --limit 0.001
    """
    from facesyn.evaluation.audit import audit_dataset
    from facesyn.identity.calibration import FMRS
    from facesyn.identity.encoders import calibration_of, open_encoder
    from facesyn.labelled import read_gallery, read_labelled

    if (training is None) != (held_out is None):
        raise UsageError("Memorisation needs both --training and --held-out.")
    faces, judge = read_labelled(folder), open_encoder(encoder)
    measured = calibration_of(judge, calibration)
    rates = sorted({fmr, *FMRS}, reverse=True)
    report = audit_dataset(
        faces,
        judge,
        {f"{rate:g}": measured.threshold(rate, strangers="all") for rate in rates},
        galleries={str(path): read_gallery(path) for path in against or []},
        memory=(read_labelled(training), read_labelled(held_out)) if training and held_out else None,
        bank=_bank_of(folder, references),
    )
    over = [f"{name} ({share:.2%})" for name, share in report.pop("shares")[f"{fmr:g}"].items() if share > limit]
    over += [f"{len(report['repeated'])} repeated pictures"] if report["repeated"] else []
    if json:
        out.json({"fmr": fmr, "limit": limit, "over_limit": over, **report})
    else:
        _print_audit(report, f"{fmr:g}")
    if over:
        out.warning(f"Over the limit of {limit:.2%} at FMR {fmr:g}: {', '.join(over)}.")
        raise typer.Exit(1)


def _bank_of(folder: Path, references: str | None) -> list[Any]:
    """The references by name: those asked for, or those of the dataset's recipe; none where neither says."""
    from facesyn.banks import bank_folder, read_bank
    from facesyn.dataset.recipe import parse_recipe

    recipe = folder / "recipe.toml"
    if references is None and recipe.is_file():
        references = parse_recipe(recipe.read_text(encoding="utf-8"), str(recipe)).transfer.references
    return read_bank(bank_folder(references, "references")) if references else []


def _print_audit(report: dict[str, Any], fmr: str) -> None:
    rows = []
    for name, found in report["galleries"].items():
        for level in ("images", "people"):
            rate = found[level]["leak_rate"][fmr]
            most = f"{found[level]['nearest'][0][0]} – {found[level]['nearest'][0][1]}"
            rows.append((f"{level} – {name}", f"{found[level]['quantiles']['0.5']:.3f}", _rate(rate), most))
            own = found[level]["gallery_to_itself"]["0.5"], found[level]["gallery_rate"][fmr]
            rows.append((f"{level} of {name} to each other", f"{own[0]:.3f}", f"{own[1]:.2%}", ""))
    style = report["style"]
    if style["images"]:
        rows.append(("images – own reference", f"{style['own']['0.5']:.3f}", _rate(style["leak_rate"][fmr]), ""))
        rate = _rate(style["matched_rate"][fmr])
        rows.append(("images – matched stranger", f"{style['matched_stranger']['0.5']:.3f}", rate, ""))
    out.table(("compared", "median cosine", f"over FMR {fmr}", "nearest"), rows)
    if "memorisation" in report:
        out.line(
            f"Memorisation: nearer to the training set than held-out faces with chance {report['memorisation']['auc']}."
        )
    for first, second in report["repeated"]:
        out.line(f"Repeated picture: {first} = {second}")


def _rate(found: dict[str, float]) -> str:
    return f"{found['value']:.2%} ({found['low']:.2%}–{found['high']:.2%})"


def _measured(recipe: Any) -> Any:
    from facesyn.dataset.measure import measure

    out.note("Making a few pictures to measure.")
    return measure(recipe)


def _print_forecast(forecast: Any, measured: Any, workers: int | None, as_json: bool) -> None:
    totals = {
        "identities": forecast.identities,
        "images": forecast.images,
        "shards": forecast.shards,
        "bytes": measured.bytes if measured else forecast.bytes,
    }
    if as_json:
        quotas = [
            {
                "ethnicity": cell.ethnicity,
                "gender": cell.gender,
                "age_interval": str(cell.age_interval),
                "identities": n,
            }
            for cell, n in forecast.quotas.items()
        ]
        times = (
            {
                "gpu_hours" if measured.gpu else "core_hours": round(measured.hours, 4),
                "seconds_per_source": round(measured.source, 4),
                "seconds_per_image": round(measured.image, 4),
            }
            if measured
            else {}
        )
        out.json(totals | times | {"quotas": quotas})
        return
    rows = [(cell.ethnicity, cell.gender, cell.age_interval, n) for cell, n in forecast.quotas.items()]
    out.table(("ethnicity", "gender", "age", "identities"), rows)
    out.line(
        f"{forecast.identities} identities, {forecast.images} images beside their sources, "
        f"{forecast.shards} shards, about {totals['bytes'] / 1e6:.0f} MB"
    )
    if measured is None:
        out.hint("--measure makes a few pictures and says how long it will take.")
        return
    unit = "GPU-hours" if measured.gpu else "core-hours"
    out.line(
        f"{measured.hours:.3g} {unit}: {measured.source:.3g} s a source, {measured.image:.3g} s an image in one worker"
        + (f"; {measured.hours / workers:.3g} hours in {workers} workers" if workers else "")
    )
