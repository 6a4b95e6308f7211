"""Formulated prompts from Jinja templates and weighted vocabularies."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from facesyn.demographics import Cell
from facesyn.prompting.formulation import load
from facesyn.prompting.writing import write_from_templates
from facesyn.records import PromptRow


class TemplateWriter:
    """The prompt writer that needs no model.

    `templates` is a folder with `templates/` and `vocabularies/`; without it $FACESYN_PROMPTS is used, and
    without that facesyn's own.
    """

    licence = "Apache-2.0"
    """Of the sentences that come with facesyn."""

    def __init__(self, templates: Path | str | None = None):
        self._formulation = load(Path(templates) if templates is not None else None)

    def write(self, cells: Sequence[Cell], *, seed: int, first: int = 0) -> Iterator[PromptRow]:
        """See `facesyn.protocols.PromptWriter` and `write_from_templates`."""
        facts = {"backend": "template"}
        return write_from_templates(self._formulation, cells, seed=seed, first=first, facts=facts)
