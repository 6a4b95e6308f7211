"""Rendered pictures without files: sessions and batches, from this process or from several.

The result depends on the order and the equipment alone, never on the number of workers.
"""

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from facesyn.out import Advance
from facesyn.references.assets import find_assets
from facesyn.references.folder import ReferenceFolder
from facesyn.references.photographer import Equipment, Photographer, Rendered, planner
from facesyn.references.plans import Order
from facesyn.rendered import RenderedFaces

_AHEAD = 2
"""Sessions per worker that are asked for before they are needed."""


@dataclass(frozen=True)
class Batch:
    """`images` (b, size, size, 3) uint8, with the labels of each."""

    images: np.ndarray
    labels: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.labels)


class ReferenceStream:
    """Batches of rendered pictures with labels, for training without files; can be iterated over again and again.

    Person by person: the portrait, then the styled pictures. With `endless`, the order starts again with other people
    and styles, its seed counted up. `workers` 0 renders in this process. The last batch of a finite stream may be
    smaller.
    """

    def __init__(
        self, equipment: Equipment, order: Order, batch_size: int, workers: int = 0, endless: bool = False
    ) -> None:
        self.equipment, self.order, self.batch_size = equipment, order, batch_size
        self._workers, self._endless = workers, endless

    def __iter__(self) -> Iterator[Batch]:
        images: list[np.ndarray] = []
        labels: list[dict[str, Any]] = []
        for session in self._sessions():
            for rendered in session:
                images.append(np.asarray(rendered.picture))
                labels.append(rendered.labels)
                if len(images) == self.batch_size:
                    yield Batch(np.stack(images), labels)
                    images, labels = [], []
        if images:
            yield Batch(np.stack(images), labels)

    def _sessions(self) -> Iterator[Iterable[Rendered]]:
        order = self.order
        while True:
            yield from sessions(self.equipment, order, range(order.identities), self._workers)
            if not self._endless:
                return
            order = _next(order)


def render_faces(equipment: Equipment, order: Order, workers: int, advance: Advance) -> RenderedFaces:
    """Every picture of an order in memory, as trainings want them: 49 kB each at 128 pixels."""
    images: list[np.ndarray] = []
    labels: list[dict[str, Any]] = []
    for batch in ReferenceStream(equipment, order, batch_size=1, workers=workers):
        images.extend(batch.images)
        labels.extend(batch.labels)
        advance()
    return RenderedFaces(np.stack(images), labels)


def sessions(
    equipment: Equipment, order: Order, numbers: Sequence[int], workers: int = 0
) -> Iterator[Iterable[Rendered]]:
    """All pictures of each person of `numbers`, in that order, made by `workers` processes or, with 0, by this one."""
    if workers == 0:
        photographer = Photographer(equipment, order)
        for number in numbers:
            yield photographer.session(number)
        return
    context = multiprocessing.get_context("spawn")  # neither OpenGL nor torch survives a fork
    with ProcessPoolExecutor(workers, context, _settle, (equipment, order)) as pool:
        waiting: list[Future[list[Rendered]]] = []
        try:
            for number in numbers:
                waiting.append(pool.submit(_session, number))
                if len(waiting) > workers * _AHEAD:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def unfinished(equipment: Equipment, order: Order, folder: ReferenceFolder) -> list[int]:
    """The people of an order of whom a folder lacks a picture; they are rendered whole."""
    plan = planner(order, find_assets(equipment.assets))
    people = (plan.identity(number) for number in range(order.identities))
    return [each.number for each in people if not folder.has([plan.portrait(each), *plan.shots(each)])]


def render_references(
    equipment: Equipment, order: Order, folder: ReferenceFolder, left: Sequence[int], workers: int, advance: Advance
) -> None:
    """Render the people `left` into a folder, in order."""
    folder.begin()
    for session in sessions(equipment, order, left, workers):
        for rendered in session:
            folder.add(rendered)
            advance()


def _next(order: Order) -> Order:
    return replace(order, seed=order.seed + 1)


_photographer: Photographer | None = None
"""A worker's own."""


def _settle(equipment: Equipment, order: Order) -> None:
    import torch

    global _photographer
    torch.set_num_threads(1)
    _photographer = Photographer(equipment, order)


def _session(number: int) -> list[Rendered]:
    assert _photographer is not None
    return list(_photographer.session(number))
