"""The report as one HTML page: puts numbers and small pictures into the template. Measures nothing.

The page asks the network for nothing. Small pictures stand inside it while they are few, else in `report-atlases/`
beside it. Text of a dataset is escaped in the page, and inert where scripts read it.
"""

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from facesyn.dataset.recipe import format_recipe
from facesyn.labelled import CELL
from facesyn.records import write_bytes
from facesyn.registry import Role, names
from facesyn.reporting.atlases import SHEET, STRIP, Atlases
from facesyn.reporting.figures import Numbers, Person, begin, open_run, people, shown_figures
from facesyn.reporting.histograms import Drawn, draw
from facesyn.reporting.models import links, references_of

PAGE = "report.html"
PLACE = "report-atlases"
INLINE_LIMIT = 20_000_000
"""Characters of pictures, in base64, that the page holds itself."""

GATES = {
    "contrast": "nearly plain picture",
    "sharpness": "blurred",
    "faces": "no face, or several",
    "turn": "not frontal",
    "unique": "resembles somebody accepted before",
    "identity": "not its source's identity, or a copy",
    "leakage": "identity of the style reference",
    "distance": "near-duplicate of another image",
    "ethnicity": "ethnicity judged otherwise than asked",
    "gender": "gender judged otherwise than asked",
    "age_interval": "age judged otherwise than asked",
}
STAGES = {"generate": "source face", "transfer": "image"}


@dataclass(frozen=True)
class Report:
    """What was written; `atlases` is None where the pictures are inside the page."""

    page: Path
    atlases: Path | None
    identities: int
    images: int


def write_report(path: Path) -> Report:
    """Write the report of the finished dataset in `path` into it. The same dataset gives the same bytes.

    Raises RunError where it is no finished dataset, RecordError for a malformed row, ImageError for a bad picture.
    """
    from facesyn.out import out

    folder, recipe = open_run(path)
    numbers = begin(folder, recipe)
    work = path / f".{PLACE}"
    atlases = Atlases(folder, references_of(recipe, numbers.provenance), work)
    cells = {cell: index for index, cell in enumerate(numbers.cells)}
    shown: list[list[Any]] = []
    details: list[dict[str, Any]] = []
    total = sum(cell.identities_asked for cell in numbers.cells.values())
    try:
        with out.progress("report", total) as advance:
            for person in people(folder):
                numbers.add(person)
                if person.source is not None:
                    atlases.add(person)
                    shown.append([person.plan.id, cells[person.cell], len(person.images)])
                    details.append(_details(person))
                advance()
        atlases.finish()
        inline = atlases.bytes * 4 / 3 <= INLINE_LIMIT
        addresses = {
            name: _data_uri(work / name) if inline else f"{PLACE}/{name}" for name in atlases.sheets + atlases.strips
        }
        for each, strip in zip(details, atlases.strips, strict=True):
            each["strip"] = addresses[strip]
        data = {
            "keys": list(CELL),
            "cells": [list(cell) for cell in cells],
            "people": shown,
            "side": SHEET,
            "sheets": [addresses[sheet] for sheet in atlases.sheets],
        }
        page = _render(numbers, data, details).encode()
        shutil.rmtree(path / PLACE, ignore_errors=True)
        if not inline:
            os.replace(work, path / PLACE)
        write_bytes(path / PAGE, page)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Report(path / PAGE, None if inline else path / PLACE, numbers.identities, numbers.images)


def inert(value: Any) -> str:
    """JSON that may stand in a `<script>` of data: nothing in it can end the element or begin another."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _details(person: Person) -> dict[str, Any]:
    """What is told of a person on demand. Seeds are text: they are larger than a browser's whole numbers."""
    source = person.source
    assert source is not None
    return {
        "prompt": source.prompt,
        "edges": source.edge_map,
        "seed": str(source.face_seed),
        "attempt": source.attempt or 0,
        "asked": len(person.plan.references),
        "images": [
            [row.file_name, row.reference, row.source_similarity, row.reference_similarity]
            for row in person.images[:STRIP]
        ],
    }


def _render(numbers: Numbers, data: dict[str, Any], details: Sequence[dict[str, Any]]) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    files = resources.files("facesyn.reporting")
    script, style = ((files / f"report.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files / "report.html.j2").read_text(encoding="utf-8"))
    recipe = numbers.recipe
    return template.render(
        numbers=numbers,
        recipe=recipe,
        recipe_text=format_recipe(recipe),
        ethnicities=recipe.demographics.ethnicities,
        genders=recipe.demographics.genders,
        age_intervals=recipe.demographics.age_intervals,
        balance=numbers.balance(),
        figures=_grouped(numbers),
        refusals=_refusals(numbers),
        gates=GATES,
        stages=STAGES,
        links=links(recipe, numbers.provenance),
        own_encoder=recipe.encoder.backend in names(Role.MODEL),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=Markup(style),
        data=Markup(inert(data)),
        details=Markup("\n".join(map(inert, details))),
    )


def _grouped(numbers: Numbers) -> dict[str, list[Drawn]]:
    """Cosines, then what else was measured."""
    drawn = [draw(figure) for figure in shown_figures(numbers)]
    return {
        "similarity": [each for each in drawn if each.figure.low is not None],
        "quality": [each for each in drawn if each.figure.low is None],
    }


def _refusals(numbers: Numbers) -> list[tuple[str, str, int, float]]:
    """(stage, reason, times, share of the most frequent one), most frequent first."""
    most = max(numbers.refused.values(), default=1)
    ordered = sorted(numbers.refused.items(), key=lambda item: (-item[1], item[0]))
    return [(STAGES.get(stage, stage), GATES.get(gate, gate), count, count / most) for (stage, gate), count in ordered]


def _data_uri(file: Path) -> str:
    return f"data:image/webp;base64,{base64.b64encode(file.read_bytes()).decode()}"
