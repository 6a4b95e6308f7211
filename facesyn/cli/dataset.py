"""`facesyn dataset`: whole datasets from recipes."""

from typing import Annotated, Any

import typer

from facesyn.cli.options import Json, OutputFolder
from facesyn.errors import UsageError
from facesyn.out import out

app = typer.Typer(help="Whole datasets from recipes.", no_args_is_help=True, rich_markup_mode=None)


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
    workers: Annotated[
        int | None,
        typer.Option(
            envvar="FACESYN_WORKERS",
            min=1,
            help="Processes; all cores by default, 1 on a GPU. Never changes the result.",
        ),
    ] = None,
    executor: Annotated[str, typer.Option(envvar="FACESYN_EXECUTOR", help="Where shards are made.")] = "local",
    no_gates: Annotated[
        bool, typer.Option("--no-gates", help="Let every picture in; the recipe's [gates] are not asked.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")] = False,
    json: Json = False,
) -> None:
    """Build a dataset: prompts, faces, transferred images, labels, contact sheet.

    Stop it at any time and run the same command again: it goes on where it was, to the same result.

    Example: facesyn dataset build demo -o people
    """
    from facesyn.dataset import build as builder
    from facesyn.dataset.recipe import load_recipe

    if not str(output).strip():
        raise UsageError("The output folder has no name.", hint="Give one, as in -o people.")
    resolved = load_recipe(recipe).scaled(identities, images, seed)
    if no_gates:
        resolved = resolved.model_copy(update={"gates": resolved.gates.model_copy(update={"enabled": False})})
    if dry_run:
        builder.check_recipe(resolved)
        _print_forecast(builder.forecast(resolved), json)
        return
    built = builder.build(resolved, output, workers, executor)
    summary: dict[str, Any] = {"folder": str(output), "identities": built.identities, "images": built.images}
    if built.shortfalls:
        summary["shortfalls"] = [row.model_dump() for row in built.shortfalls]
    if not built.shards_made:
        out.note(f"{output} was complete already.")
    if json:
        out.json(summary)
    else:
        out.line(f"{output}: {built.identities} identities, {built.images} images")
    if built.shortfalls:
        for shortfall in built.shortfalls:
            out.warning(f"Shortfall in {shortfall}.")
        raise typer.Exit(1)


def _print_forecast(forecast: Any, as_json: bool) -> None:
    totals = {
        "identities": forecast.identities,
        "images": forecast.images,
        "shards": forecast.shards,
        "bytes": forecast.bytes,
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
        out.json(totals | {"quotas": quotas})
        return
    rows = [(cell.ethnicity, cell.gender, cell.age_interval, n) for cell, n in forecast.quotas.items()]
    out.table(("ethnicity", "gender", "age", "identities"), rows)
    out.line(
        f"{forecast.identities} identities, {forecast.images} images beside their sources, "
        f"{forecast.shards} shards, about {forecast.bytes / 1e6:.0f} MB"
    )
