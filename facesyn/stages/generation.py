"""Prompts to frontal faces: which edge map each gets, and the loop that makes them. Names no backend."""

import random
from collections.abc import Mapping, Sequence

from facesyn.banks import BankPicture, choose
from facesyn.imaging import load_edge_map
from facesyn.out import Advance
from facesyn.protocols import FaceGenerator
from facesyn.records import FaceRow, PromptRow
from facesyn.seeds import derive_seed
from facesyn.stages.folder import StageFolder


def draw_edge_map(prompt: PromptRow, bank: Sequence[BankPicture]) -> BankPicture:
    """The edge map of one prompt: drawn by its seed and id, of a person of its gender where the bank says so."""
    return choose(bank, 1, prompt.gender, random.Random(derive_seed(prompt.seed, "edges", prompt.id)))[0]


def plan_faces(prompts: Sequence[PromptRow], bank: Sequence[BankPicture], facts: Mapping[str, object]) -> list[FaceRow]:
    """The row of every face to be made; `facts` are the generator's."""
    return [
        FaceRow.model_validate(
            {
                **prompt.model_dump(),
                "file_name": f"{prompt.id}.png",
                "edge_map": draw_edge_map(prompt, bank).name,
                "face_seed": prompt.seed,
                "generator": dict(facts),
            }
        )
        for prompt in prompts
    ]


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
