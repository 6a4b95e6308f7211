"""`facesyn prompts`: a balanced plan, and one formulated prompt for each of its identities."""

from pathlib import Path
from typing import Annotated

import typer

from facesyn.cli.options import BackendOptions, Seed, parse_backend_options


def prompts(
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of identities.")],
    seed: Seed = 0,
    backend: Annotated[
        str,
        typer.Option("--backend", envvar="FACESYN_PROMPTER", help="Prompt writer; see `facesyn backends list`."),
    ] = "template",
    model: Annotated[
        str | None,
        typer.Option("--model", help="Language model: its name at the server (openai) or a GGUF file (llamacpp)."),
    ] = None,
    ethnicity: Annotated[
        list[str] | None,
        typer.Option("--ethnicity", help="Requested appearance category, any words; repeatable."),
    ] = None,
    gender: Annotated[list[str] | None, typer.Option("--gender", help="Repeatable.")] = None,
    age: Annotated[
        list[str] | None, typer.Option("--age", help="Age interval in years, e.g. 18-29; repeatable.")
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="CATEGORY=NUMBER", help="Weight of a category, 1 by default; repeatable."),
    ] = None,
    templates: Annotated[
        Path | None, typer.Option("--templates", help="Folder of own templates and vocabularies.")
    ] = None,
    option: BackendOptions = None,
    report: Annotated[
        bool,
        typer.Option("--report", help="Print vocabulary and diversity figures per cell; on standard error without -o."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; standard output where it is left out or -."),
    ] = None,
) -> None:
    """Write one prompt per identity, balanced over the cells.

    Rows are JSON lines: id, ethnicity, gender, age_interval, prompt, negative_prompt, seed, attributes, formulation
    (who wrote it, and what was rejected before).

    Example: facesyn prompts -n 64 --seed 1 --weight African=2 > prompts.jsonl

    With a language model: facesyn prompts -n 64 --backend llamacpp --model qwen.gguf -o prompts.jsonl --report
    """
    import sys

    from facesyn.demographics import AgeInterval, Demographics
    from facesyn.protocols import PromptWriter
    from facesyn.records import PromptRow, format_row, write_rows
    from facesyn.registry import Role, create

    default = Demographics()
    demographics = Demographics(
        ethnicities=tuple(ethnicity or default.ethnicities),
        genders=tuple(gender or default.genders),
        age_intervals=tuple(map(AgeInterval.parse, age)) if age else default.age_intervals,
        weights=tuple(map(_parse_weight, weight or ())),
    )
    options = parse_backend_options(option)
    options |= {name: value for name, value in (("model", model), ("templates", templates)) if value is not None}
    writer: PromptWriter = create(Role.PROMPTER, backend, options)
    rows = writer.write(demographics.plan(count, seed), seed=seed)
    written: list[PromptRow] = []
    if output is None or str(output) == "-":
        for row in rows:
            written.append(row)
            sys.stdout.write(format_row(row))
    else:
        written = list(rows)
        write_rows(output, written)
    if report:
        from facesyn.prompting.formulation import load
        from facesyn.prompting.report import print_report

        print_report(written, load(templates), sys.stderr if output is None or str(output) == "-" else sys.stdout)


def _parse_weight(text: str) -> tuple[str, float]:
    from facesyn.errors import UsageError

    category, _, number = text.rpartition("=")
    try:
        return category.strip(), float(number)
    except ValueError:
        raise UsageError(f"Weight {text!r} is no category and number.", hint="Write it as African=2.") from None
