"""Formulated prompts from Jinja templates and weighted vocabularies."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from facesyn.demographics import Cell
from facesyn.errors import UsageError
from facesyn.formulation import load
from facesyn.records import PromptRow
from facesyn.seeds import derive_seed

MAX_TRIES = 1000
"""Draws for one row before its cell counts as used up."""


class TemplateWriter:
    """The prompt writer that needs no model.

    `templates` is a folder with `templates/` and `vocabularies/`; without it $FACESYN_PROMPTS is used, and
    without that facesyn's own.
    """

    def __init__(self, templates: Path | str | None = None):
        self._formulation = load(Path(templates) if templates is not None else None)

    def write(self, cells: Sequence[Cell], *, seed: int, first: int = 0) -> Iterator[PromptRow]:
        """One row per cell, in order; row i gets the id of number `first + i`, six digits wide.

        Raises UsageError where a cell has no further prompt that was not written before in this call.
        """
        written: dict[Cell, set[str]] = {}
        for number, cell in enumerate(cells, first):
            yield self._row(f"{number:06d}", cell, seed, written.setdefault(cell, set()))

    def _row(self, id: str, cell: Cell, seed: int, written: set[str]) -> PromptRow:
        rng = random.Random(derive_seed(seed, "prompt", id))
        for _ in range(MAX_TRIES):
            attributes = self._formulation.sample_attributes(cell, rng)
            prompt = self._formulation.render_prompt(attributes, rng)
            if prompt not in written:
                written.add(prompt)
                return PromptRow(
                    id=id,
                    ethnicity=cell.ethnicity,
                    gender=cell.gender,
                    age_interval=str(cell.age_interval),
                    prompt=prompt,
                    negative_prompt=self._formulation.negative_prompt(attributes),
                    seed=derive_seed(seed, "generate", id),
                )
        raise UsageError(
            f"The vocabularies give no more than {len(written)} distinct prompts for {cell}.",
            hint="Ask for fewer identities, or add words to the vocabularies.",
        )
