"""Prompts to frontal faces: which edge map each gets, and the loop that makes them. Names no backend."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from facesyn.banks import BankPicture, choose
from facesyn.imaging import load_edge_map
from facesyn.labelled import CELL
from facesyn.out import Advance
from facesyn.protocols import FaceGenerator
from facesyn.records import FaceRow, PromptRow
from facesyn.seeds import derive_seed
from facesyn.stages.folder import StageFolder


class EdgeMaps:
    """A bank of edge maps, to draw from by the cell of a person."""

    def __init__(self, bank: Sequence[BankPicture]):
        self._bank = bank
        self._of_cell: dict[tuple[Any, ...], list[BankPicture]] = defaultdict(list)
        for picture in bank:
            self._of_cell[tuple(picture.labels.get(key) for key in CELL)].append(picture)

    def draw(self, prompt: PromptRow, attempt: int = 0) -> BankPicture:
        """The edge map of a prompt's attempt, drawn by seed, id and attempt.

        It is of a person of the prompt's cell where the bank has such, else of its gender: edges that contradict a
        prompt cost ethnicity and age.
        """
        rng = random.Random(derive_seed(prompt.seed, "edges", prompt.id, attempt))
        own = self._of_cell.get(tuple(getattr(prompt, key) for key in CELL))
        return choose(own or self._bank, 1, prompt.gender, rng)[0]


def starting_point(prompt: PromptRow, edge_maps: EdgeMaps, attempt: int = 0) -> dict[str, Any]:
    """What a face is made from, as fields of its row: the noise of its `face_seed`, and an edge map.

    The first attempt's noise is the prompt's own. Later ones have other noise and another edge map, which says most
    about who it becomes.
    """
    seed = prompt.seed if attempt == 0 else derive_seed(prompt.seed, "generate", prompt.id, attempt)
    return {"face_seed": seed, "edge_map": edge_maps.draw(prompt, attempt).name}


def plan_faces(
    prompts: Sequence[PromptRow],
    bank: Sequence[BankPicture],
    facts: Mapping[str, object],
    done: Mapping[str, FaceRow],
) -> list[FaceRow]:
    """The row of every face to be made, as at its first attempt; `facts` are the generator's.

    Those `done`, by file name, are planned at the attempt they were let in at.
    """
    edge_maps = EdgeMaps(bank)

    def plan(prompt: PromptRow) -> FaceRow:
        name = f"{prompt.id}.png"
        attempt = done[name].attempt if name in done else 0
        made_from = {"attempt": attempt} | starting_point(prompt, edge_maps, attempt)
        return FaceRow.model_validate({**prompt.model_dump(), "file_name": name, **made_from, "generator": dict(facts)})

    return [plan(prompt) for prompt in prompts]


def generate_faces(
    rows: Sequence[FaceRow],
    generator: FaceGenerator,
    bank: Sequence[BankPicture],
    folder: StageFolder[FaceRow],
    batch_size: int,
    advance: Advance,
) -> None:
    """Make the faces of `rows` and add them to `folder`, in order. Raises ImageError for a corrupt edge map."""
    used = {row.edge_map for row in rows}
    maps = {picture.name: load_edge_map(picture.path) for picture in bank if picture.name in used}
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        pictures = generator.generate(batch, [maps[row.edge_map] for row in batch], [row.face_seed for row in batch])
        for row, picture in zip(batch, pictures, strict=True):
            folder.add(row, picture)
        advance(len(batch))
