"""`facesyn dataset recipes`: the recipes that come with facesyn, to look at and to start from."""

from pathlib import Path
from typing import Annotated

import typer

from facesyn.cli.options import Json
from facesyn.errors import UsageError
from facesyn.out import out

app = typer.Typer(help="The recipes that come with facesyn.", rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="One of `facesyn dataset recipes`.")]


@app.callback(invoke_without_command=True)
def recipes(context: typer.Context, json: Json = False) -> None:
    """List the recipes that come with facesyn; see `show` and `new`.

    Example: facesyn dataset recipes
    """
    if context.invoked_subcommand:
        return
    from facesyn.dataset.recipe import LongTail, built_in, description, load_recipe

    rows = []
    for name in built_in():
        recipe = load_recipe(name)
        mean = recipe.image_total / recipe.identities
        tail = isinstance(recipe.images, LongTail)
        rows.append((name, recipe.identities, f"{mean:g} on average" if tail else f"{mean:g}", recipe.image_total))
    if json:
        keys = ("name", "identities", "images_per_identity", "images")
        out.json([dict(zip(keys, row, strict=True)) | {"description": description(row[0])} for row in rows])
    else:
        columns = ("recipe", "identities", "images of each", "images", "")
        out.table(columns, [(*row, description(row[0])) for row in rows])


@app.command()
def show(name: Name) -> None:
    """Print a recipe as TOML, with its comments.

    Example: facesyn dataset recipes show syn-casia
    """
    from facesyn.dataset.recipe import built_in_text

    out.line(built_in_text(name).rstrip("\n"))


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="What the new recipe is called.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The TOML file to write; never one that is there.")],
    like: Annotated[str, typer.Option("--like", help="The recipe to start from.")] = "demo",
) -> None:
    """Write a recipe to start from: the TOML of another one under a new name.

    Example: facesyn dataset recipes new mine -o mine.toml --like syn-casia
    """
    from facesyn.dataset.recipe import built_in_text, parse_recipe
    from facesyn.records import write_bytes

    if output.exists():
        raise UsageError(f"{output} is there already.", hint="Choose another file.")
    text = built_in_text(like).replace(f'name = "{like}"', f'name = "{name}"', 1)
    parse_recipe(text, f"The recipe {name!r}")
    write_bytes(output, text.encode())
    out.note(f"{output} is like {like}; change it, then: facesyn dataset build {output} -o FOLDER")
