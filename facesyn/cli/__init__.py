"""The `facesyn` command: registers the commands. What they do on errors is in `facesyn.cli.errors`.

One module per command: parse, call, print. They import nothing heavy outside the bodies of their commands.
"""

import os
import signal
from typing import Annotated

import typer

from facesyn import __version__
from facesyn.cli import (
    backends,
    benchmark,
    calibrate,
    dataset,
    doctor,
    evaluate,
    evaluate_models,
    export,
    formats,
    generate,
    models,
    prompts,
    recipes,
    references,
    report,
    train,
    transfer,
)
from facesyn.cli.errors import Commands, terminate

app = typer.Typer(
    name="facesyn",
    cls=Commands,
    help="Labelled, balanced, training-ready datasets of synthetic faces.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich's help alone would cost 0.1 s
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"facesyn {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command()(prompts.prompts)
app.command()(generate.generate)
app.command()(transfer.transfer)
dataset.app.command()(formats.convert)
dataset.app.command()(formats.verify)
dataset.app.command()(report.report)
dataset.app.command()(report.card)
dataset.app.command()(report.sign)
dataset.app.add_typer(recipes.app, name="recipes")
app.add_typer(dataset.app, name="dataset")
app.add_typer(references.app, name="references")
app.command()(train.train)
evaluate.app.command()(evaluate_models.models)
app.add_typer(evaluate.app, name="evaluate")
app.command()(calibrate.calibrate)
app.add_typer(backends.app, name="backends")
app.command()(models.models)
app.command()(export.export)
app.command()(benchmark.benchmark)
app.command()(doctor.doctor)


def main() -> None:
    """Entry point of the console script."""
    signal.signal(signal.SIGTERM, terminate)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its remarks are about itself, not about the work
    app()
