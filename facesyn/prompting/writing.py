"""Rows of prompts: asks, screens, asks again, and fills from templates what is left. Knows no model.

Every row says how it came about: `attributes`, and `formulation` with the backend's facts, who found the attributes and
the sentence (`model` or `template`), and what was rejected before: a model's answers one by one, draws from templates
counted by reason.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from facesyn.demographics import Cell
from facesyn.errors import UsageError
from facesyn.out import out
from facesyn.prompting.duplicates import NEAR, Said
from facesyn.prompting.formulation import ATTRIBUTES, Formulation
from facesyn.prompting.requests import Answer, Description, Request, Requests
from facesyn.prompting.screening import Rejection, Screen
from facesyn.records import PromptRow
from facesyn.seeds import derive_seed

MAX_TRIES = 1000
"""Draws from the templates for one row before its cell counts as used up."""
MAX_NEAR_TRIES = 20
"""Draws rejected as near-duplicates before one is let through: vocabularies of few words make many near sentences."""

Complete = Callable[[Sequence[Request]], Iterator[Answer]]
"""Answers requests in their order. Raises BackendError where the model cannot be reached any more."""


@dataclass
class _Slot:
    """A row to be."""

    id: str
    cell: Cell
    rejected: list[dict[str, Any]] = field(default_factory=list)
    attributes: dict[str, Any] | None = None
    """Those a model found last for a sentence that was rejected."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    row: PromptRow | None = None

    def reject(self, attempt: int, rejection: Rejection) -> None:
        self.rejected.append({"attempt": attempt, **asdict(rejection)})


class Writing:
    """The rows of one call: screens what it is offered, and remembers what it took."""

    def __init__(self, formulation: Formulation, cells: Sequence[Cell], seed: int, facts: Mapping[str, Any]):
        self._formulation = formulation
        self._seed = seed
        self._facts = facts
        distinct = set(cells)
        self._screen = Screen(formulation, distinct)
        self.said = {cell: Said() for cell in distinct}
        self.sentences: dict[Cell, list[str]] = {cell: [] for cell in distinct}

    def offer(self, slot: _Slot, attempt: int, description: Description) -> bool:
        """Take a model's description as the slot's row, or note why not."""
        rejection = self._screen.reject(
            description.sentence, slot.cell, description.attributes, must_say=True
        ) or self._repeated(slot.cell, description.sentence)
        if rejection is None:
            attributes = {"ethnicity": slot.cell.ethnicity, "gender": slot.cell.gender, **description.attributes}
            self._take(slot, attributes, description.sentence, "model", "model")
            return True
        slot.attributes = description.attributes
        slot.reject(attempt, rejection)
        return False

    def fill(self, slot: _Slot) -> PromptRow:
        """Take a sentence of the templates: about the attributes that a model found, if any, else about drawn ones.

        Raises UsageError where the templates have nothing left to say about the cell.
        """
        rng = random.Random(derive_seed(self._seed, "prompt", slot.id))
        rejected: Counter[str] = Counter()
        found, last = slot.attributes, ""
        for _ in range(MAX_TRIES):
            attributes = self._attributes_of(slot.cell, found, rng)
            sentence = self._formulation.render_prompt(attributes, rng)
            rejection = self._screen.reject(sentence, slot.cell) or self._repeated(slot.cell, sentence)
            if rejection is None or (
                rejection.reason == "near-duplicate" and rejected["near-duplicate"] == MAX_NEAR_TRIES
            ):
                slot.rejected += [{"reason": reason, "times": times} for reason, times in sorted(rejected.items())]
                return self._take(slot, attributes, sentence, "model" if found else "template", "template")
            rejected[rejection.reason] += 1
            found, last = None, rejection.found
        if {*rejected} <= {"duplicate", "near-duplicate"}:
            raise UsageError(
                f"The vocabularies give no more than {len(self.said[slot.cell])} distinct prompts for {slot.cell}.",
                hint="Ask for fewer identities, or add words to the vocabularies.",
            )
        raise UsageError(
            f"The templates' prompts for {slot.cell} do not pass the screen: {', '.join(sorted(rejected))}.",
            hint=f"Last it found {last!r}; change the templates, or screening.toml, in {self._formulation.folder}.",
        )

    def _attributes_of(self, cell: Cell, found: Mapping[str, Any] | None, rng: random.Random) -> dict[str, Any]:
        """What a template is to say: of the attributes found, those that templates know; without any, drawn ones."""
        if found is None:
            return self._formulation.sample_attributes(cell, rng)
        known = {*ATTRIBUTES, *self._formulation.choices(cell)}
        said = {name: value for name, value in found.items() if name in known}
        return {"ethnicity": cell.ethnicity, "gender": cell.gender, **said}

    def _repeated(self, cell: Cell, sentence: str) -> Rejection | None:
        if self.said[cell].repeats(sentence):
            return Rejection("duplicate")
        likeness = self.said[cell].likeness(sentence)
        return Rejection("near-duplicate", f"{likeness:.2f}") if likeness >= NEAR else None

    def _take(
        self, slot: _Slot, attributes: Mapping[str, Any], sentence: str, attributes_by: str, sentence_by: str
    ) -> PromptRow:
        self.said[slot.cell].add(sentence)
        self.sentences[slot.cell].append(sentence)
        slot.row = PromptRow.model_validate(
            {
                "id": slot.id,
                "ethnicity": slot.cell.ethnicity,
                "gender": slot.cell.gender,
                "age_interval": str(slot.cell.age_interval),
                "prompt": sentence,
                "negative_prompt": self._formulation.negative_prompt(attributes),
                "seed": derive_seed(self._seed, "generate", slot.id),
                "attributes": dict(attributes),
                "formulation": {
                    **self._facts,
                    **slot.facts,
                    "attributes_by": attributes_by,
                    "sentence_by": sentence_by,
                    "rejected": slot.rejected,
                },
            }
        )
        return slot.row


def write_from_templates(
    formulation: Formulation, cells: Sequence[Cell], *, seed: int, first: int, facts: Mapping[str, Any]
) -> Iterator[PromptRow]:
    """One row per cell, in order; row i gets the id of number `first + i`, six digits wide.

    Raises UsageError where a cell has no further prompt that was not written before in this call.
    """
    writing = Writing(formulation, cells, seed, facts)
    for slot in _slots(cells, first):
        yield writing.fill(slot)


def write_with_model(
    formulation: Formulation,
    cells: Sequence[Cell],
    complete: Complete,
    *,
    seed: int,
    first: int,
    facts: Mapping[str, Any],
    batch: int,
    attempts: int,
) -> Iterator[PromptRow]:
    """As `write_from_templates`, with sentences of a model where they pass the screen.

    Each attempt asks for everything that is open, `batch` people of one cell at a time; after `attempts` of them the
    templates fill what is left. All requests of an attempt are known before its first answer, so that the rows do not
    depend on the order in which answers come.
    """
    requests, slots = Requests(formulation), _slots(cells, first)
    writing = Writing(formulation, cells, seed, facts)
    with out.progress("prompts", len(slots)) as advance:
        for attempt in range(attempts):
            groups = list(_groups(slots, batch))
            if not groups:
                break
            asked = [_ask(requests, writing, group, seed, attempt) for group in groups]
            for group, request, answer in zip(groups, asked, complete(asked), strict=True):
                for slot, found in zip(group, requests.read(answer, request), strict=True):
                    slot.facts = answer.facts
                    if isinstance(found, Rejection):
                        slot.reject(attempt, found)
                    elif writing.offer(slot, attempt, found):
                        advance()
        for slot in slots:
            if slot.row is None:
                writing.fill(slot)
                advance()
    for slot in slots:
        assert slot.row is not None
        yield slot.row


def _slots(cells: Sequence[Cell], first: int) -> list[_Slot]:
    return [_Slot(f"{number:06d}", cell) for number, cell in enumerate(cells, first)]


def _groups(slots: Sequence[_Slot], size: int) -> Iterator[list[_Slot]]:
    """The open slots, `size` of one cell together, in the order of the cells' first rows."""
    by_cell: dict[Cell, list[_Slot]] = {}
    for slot in slots:
        if slot.row is None:
            by_cell.setdefault(slot.cell, []).append(slot)
    for members in by_cell.values():
        for start in range(0, len(members), size):
            yield members[start : start + size]


def _ask(requests: Requests, writing: Writing, group: Sequence[_Slot], seed: int, attempt: int) -> Request:
    cell = group[0].cell
    return requests.request(
        cell,
        [random.Random(derive_seed(seed, "formulate", slot.id, attempt)) for slot in group],
        seed=derive_seed(seed, "request", group[0].id, attempt),
        accepted=writing.sentences[cell],
        problems=sorted({slot.rejected[-1]["reason"] for slot in group if slot.rejected}),
    )
