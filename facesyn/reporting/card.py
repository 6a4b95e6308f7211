"""The dataset card: README.md with the front matter the Hugging Face hub reads. Says only what rows hold.

What is not in a row is not said: there is no sentence on real faces, on fairness, or on anything nobody measured.
"""

from importlib import resources
from pathlib import Path

from facesyn.dataset.recipe import Recipe, format_recipe
from facesyn.errors import RunError
from facesyn.licences import Use
from facesyn.records import write_bytes
from facesyn.registry import Role, names
from facesyn.reporting.figures import begin, open_run, people, shown_figures
from facesyn.reporting.models import Link, links

CARD = "README.md"
MARK = "<!-- written by facesyn dataset card -->"
SHAPES = {"syn-mpie": "Syn-MPIE", "syn-casia": "Syn-CASIA", "syn-ms1m": "Syn-MS1M"}
"""Recipes with the shapes of the paper's datasets, which took their styles from photographs."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_card(path: Path, licence: str | None = None) -> Path:
    """Write the card of the finished dataset in `path`. The same dataset gives the same bytes.

    `licence` is the one its maker gives the pictures; without one the card says that none is given. A README.md that
    this function did not write is left alone: raises RunError, as for a folder that is no finished dataset.
    """
    from jinja2 import Environment, StrictUndefined

    folder, recipe = open_run(path)
    file = path / CARD
    if file.exists() and MARK not in file.read_text(encoding="utf-8", errors="replace"):
        raise RunError(f"{file} is not a card of facesyn.", hint="Move it away to have one written.")
    numbers = begin(folder, recipe)
    for person in people(folder):
        numbers.add(person)
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"cell": _cell, "quoted": _quoted}
    template = environment.from_string(
        (resources.files("facesyn.reporting") / "card.md.j2").read_text(encoding="utf-8")
    )
    chain = links(recipe, numbers.provenance)
    text = template.render(
        mark=MARK,
        licence=licence,
        shape=shape_of(recipe),
        size=size_category(numbers.images),
        numbers=numbers,
        recipe=recipe,
        recipe_text=format_recipe(recipe),
        balance=numbers.balance(),
        figures=shown_figures(numbers),
        links=chain,
        open_links=unsettled(chain),
        own=sorted(set(names(Role.MODEL)) & {link.name for link in chain}),
        own_encoder=recipe.encoder.backend in names(Role.MODEL),
    )
    write_bytes(file, text.encode())
    return file


def shape_of(recipe: Recipe) -> str | None:
    """What the dataset has of the paper's dataset of its recipe's name: the shape, and the styles only perhaps."""
    published, references = SHAPES.get(recipe.name), recipe.transfer.references
    if published is None:
        return None
    if references in names(Role.MODEL):
        return f"{published}-shaped: its styles are the references of {_cell(references)}, not the paper's photographs."
    name = _cell(Path(references).name)
    return f"{published}-shaped: its styles are the folder {name}; whether they are the paper's is not known here."


def size_category(images: int) -> str:
    """The hub's name for a number of rows."""
    return next((name for limit, name in SIZES if images < limit), "1M<n<10M")


def unsettled(chain: list[Link]) -> list[str]:
    """The names of links whose licence does not plainly allow commercial use, each once and in order."""
    return list(dict.fromkeys(link.name for link in chain if link.use is not Use.ALLOWED))


def _cell(text: object) -> str:
    """Text in a Markdown table: one line, no markup of its own."""
    escaped = " ".join(str(text).split())
    for sign in "\\`*_|[]<>":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped


def _quoted(text: object) -> str:
    """Text as a YAML string: JSON's are a subset."""
    import json

    return json.dumps(str(text), ensure_ascii=False)
