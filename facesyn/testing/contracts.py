"""What each role promises, as plain pytest classes. Knows the protocols and no backend."""

import json
import os
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops

from facesyn.demographics import Demographics
from facesyn.errors import FacesynError
from facesyn.protocols import (
    AttributeClassifier,
    AttributeTransfer,
    Executor,
    FaceDetector,
    FaceEncoder,
    FaceGenerator,
    Facts,
    PromptWriter,
    Renderer,
)
from facesyn.records import PromptRow, format_row, parse_rows
from facesyn.testing.samples import drawn_edges, drawn_face, prompt_rows


class PromptWriterContract(ABC):
    """`write`: one row per cell, in order, deterministic, without repeats in a cell."""

    count = 64

    @abstractmethod
    def make(self) -> PromptWriter:
        """A fresh writer to be tested."""

    def test_satisfies_the_protocol(self) -> None:
        assert isinstance(self.make(), PromptWriter)

    def test_writes_one_row_per_cell_in_order(self) -> None:
        cells = Demographics().plan(self.count, seed=1)
        assert [row.cell for row in self.make().write(cells, seed=1)] == cells

    def test_ids_are_unique_and_follow_the_number(self) -> None:
        cells = Demographics().plan(self.count, seed=1)
        ids = [row.id for row in self.make().write(cells, seed=1)]
        assert len(set(ids)) == self.count
        half = self.count // 2
        assert [row.id for row in self.make().write(cells[half:], seed=1, first=half)] == ids[half:]

    def test_is_deterministic_in_the_seed(self) -> None:
        cells = Demographics().plan(self.count, seed=1)
        rows = list(self.make().write(cells, seed=1))
        assert list(self.make().write(cells, seed=1)) == rows
        assert [row.seed for row in self.make().write(cells, seed=2)] != [row.seed for row in rows]

    def test_no_prompt_of_a_cell_repeats(self) -> None:
        cell = Demographics().cells[0]
        prompts = [row.prompt for row in self.make().write([cell] * self.count, seed=3)]
        assert len(set(prompts)) == self.count

    def test_rows_survive_the_trip_through_jsonl(self) -> None:
        rows = list(self.make().write(Demographics().plan(4, seed=1), seed=1))
        assert list(parse_rows(map(format_row, rows), PromptRow, "rows")) == rows


class FaceGeneratorContract(ABC):
    """`generate`: square RGB pictures, each fixed by its own prompt, edge map and seed."""

    tolerance = 2.0
    """Greatest mean difference, of 255, between a picture computed alone and in a batch."""

    @abstractmethod
    def make(self) -> FaceGenerator:
        """A fresh generator to be tested."""

    def test_satisfies_the_protocol(self) -> None:
        assert isinstance(self.make(), FaceGenerator)

    def test_makes_one_square_rgb_picture_per_prompt(self) -> None:
        generator = self.make()
        faces = generator.generate(prompt_rows(3), [drawn_edges(n) for n in range(3)], [1, 2, 3])
        _assert_pictures(faces, 3, generator.size)

    def test_takes_edge_maps_of_any_size(self) -> None:
        generator = self.make()
        edges = [drawn_edges(1, size=generator.size // 2), drawn_edges(1, size=generator.size * 2 + 1)]
        _assert_pictures(generator.generate(prompt_rows(2), edges, [1, 2]), 2, generator.size)

    def test_is_deterministic(self) -> None:
        first, second = (self.make().generate(prompt_rows(1), [drawn_edges(1)], [7])[0] for _ in range(2))
        assert first.tobytes() == second.tobytes()

    def test_the_seed_matters(self) -> None:
        generator = self.make()
        first, second = generator.generate(prompt_rows(1) * 2, [drawn_edges(1)] * 2, [7, 8])
        assert first.tobytes() != second.tobytes()

    def test_a_picture_does_not_depend_on_its_batch(self) -> None:
        generator, rows, edges = self.make(), prompt_rows(3), [drawn_edges(n) for n in range(3)]
        alone = generator.generate(rows[1:2], edges[1:2], [5])[0]
        among = generator.generate(rows, edges, [4, 5, 6])[1]
        assert _difference(alone, among) <= self.tolerance

    def test_facts_are_json_and_stable(self) -> None:
        _assert_facts(self.make().facts(), self.make().facts())


class AttributeTransferContract(ABC):
    """`transfer`: square RGB pictures, each fixed by its own source, reference and seed."""

    tolerance = 2.0

    @abstractmethod
    def make(self) -> AttributeTransfer:
        """A fresh transfer to be tested."""

    def test_satisfies_the_protocol(self) -> None:
        assert isinstance(self.make(), AttributeTransfer)

    def test_makes_one_square_rgb_picture_per_pair(self) -> None:
        transfer = self.make()
        made = transfer.transfer([drawn_face(1), drawn_face(2)], [drawn_face(3), drawn_face(4)], [1, 2])
        _assert_pictures(made, 2, transfer.size)

    def test_takes_pictures_of_any_size(self) -> None:
        transfer = self.make()
        made = transfer.transfer([drawn_face(1, size=90)], [drawn_face(2, size=301)], [1])
        _assert_pictures(made, 1, transfer.size)

    def test_is_deterministic(self) -> None:
        first, second = (self.make().transfer([drawn_face(1)], [drawn_face(2)], [7])[0] for _ in range(2))
        assert first.tobytes() == second.tobytes()

    def test_the_source_and_the_reference_matter(self) -> None:
        transfer = self.make()
        plain, other_source, other_style = transfer.transfer(
            [drawn_face(1), drawn_face(3), drawn_face(1)],
            [drawn_face(2), drawn_face(2), drawn_face(3)],
            [7] * 3,
        )
        assert plain.tobytes() != other_source.tobytes()
        assert plain.tobytes() != other_style.tobytes()

    def test_a_picture_does_not_depend_on_its_batch(self) -> None:
        transfer, sources, references = (
            self.make(),
            [drawn_face(1), drawn_face(2)],
            [drawn_face(3), drawn_face(4)],
        )
        alone = transfer.transfer(sources[1:], references[1:], [5])[0]
        among = transfer.transfer(sources, references, [4, 5])[1]
        assert _difference(alone, among) <= self.tolerance

    def test_facts_are_json_and_stable(self) -> None:
        _assert_facts(self.make().facts(), self.make().facts())


class FaceEncoderContract(ABC):
    """`embed`: float32 rows of unit length, the same for the same picture."""

    @abstractmethod
    def make(self) -> FaceEncoder:
        """A fresh encoder to be tested."""

    def test_satisfies_the_protocol(self) -> None:
        assert isinstance(self.make(), FaceEncoder)

    def test_embeddings_are_float32_rows_of_unit_length(self) -> None:
        embeddings = self.make().embed([drawn_face(n) for n in range(3)])
        assert embeddings.dtype == np.float32 and embeddings.ndim == 2 and len(embeddings) == 3
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-4)

    def test_takes_pictures_of_any_size(self) -> None:
        embeddings = self.make().embed([drawn_face(1, size=90), drawn_face(1, size=256)])
        assert embeddings.shape[0] == 2 and np.isfinite(embeddings).all()

    def test_an_embedding_does_not_depend_on_its_batch(self) -> None:
        encoder, faces = self.make(), [drawn_face(n) for n in range(3)]
        np.testing.assert_allclose(encoder.embed(faces)[1], encoder.embed(faces[1:2])[0], atol=1e-4)

    def test_different_faces_have_different_embeddings(self) -> None:
        first, second = self.make().embed([drawn_face(1), drawn_face(2)])
        assert not np.allclose(first, second, atol=1e-4)

    def test_facts_are_json_and_stable(self) -> None:
        _assert_facts(self.make().facts(), self.make().facts())


class RendererContract(ABC):
    """`rasterise`: which triangles cover the pixels' centres, nearest first."""

    size = 32

    @abstractmethod
    def make(self) -> Renderer:
        """A fresh renderer to be tested."""

    def _seen(self, positions: list[list[float]], triangles: list[list[int]], layers: int = 1) -> tuple[Any, Any]:
        """Triangles and depths of positions that are given in clip space, so that the matrix changes nothing."""
        import torch

        renderer = self.make()
        seen = renderer.rasterise(
            torch.tensor(positions, dtype=torch.float32, device=renderer.device),
            torch.tensor(triangles, dtype=torch.int64, device=renderer.device),
            torch.eye(4, device=renderer.device),
            self.size,
            layers,
        )
        assert seen.triangle.shape == seen.depth.shape == (layers, self.size, self.size)
        assert seen.triangle.dtype == torch.int64 and seen.depth.dtype == torch.float32
        return seen.triangle.cpu().numpy(), seen.depth.cpu().numpy()

    def test_satisfies_the_protocol(self) -> None:
        assert isinstance(self.make(), Renderer)

    def test_a_triangle_covers_the_centres_inside_it_upper_row_first(self) -> None:
        triangle, depth = self._seen([[-1, 1, 0], [0, 1, 0], [-1, 0, 0]], [[0, 1, 2]])
        row, column = np.mgrid[: self.size, : self.size] + 0.5
        inside = row + column < self.size / 2 - 0.01
        outside = row + column > self.size / 2 + 0.01
        assert (triangle[0][inside] == 0).all() and (triangle[0][outside] == -1).all()
        assert np.allclose(depth[0][inside], 0.5, atol=1e-5) and (depth[0][outside] == 1).all()

    def test_both_sides_of_a_triangle_count(self) -> None:
        for corners in ([0, 1, 2], [0, 2, 1]):
            assert (self._seen([[-1, -1, 0], [3, -1, 0], [-1, 3, 0]], [corners])[0] == 0).all()

    def test_layers_come_nearest_first(self) -> None:
        whole = [[-1.0, -1.0], [3.0, -1.0], [-1.0, 3.0]]
        positions = [[x, y, z] for z in (0.5, -0.5, 0.0) for x, y in whole]
        triangle, depth = self._seen(positions, [[0, 1, 2], [3, 4, 5], [6, 7, 8]], layers=4)
        assert [set(layer.ravel().tolist()) for layer in triangle] == [{1}, {2}, {0}, {-1}]
        assert np.allclose([float(layer.mean()) for layer in depth], [0.25, 0.5, 0.75, 1.0], atol=1e-5)

    def test_what_crosses_is_told_apart_pixel_by_pixel(self) -> None:
        positions = [[-1, -1, -1], [3, -1, 3], [-1, 3, -1], [-1, -1, 0], [3, -1, 0], [-1, 3, 0]]
        triangle, _ = self._seen([[float(value) for value in row] for row in positions], [[0, 1, 2], [3, 4, 5]], 2)
        left, right = triangle[:, :, : self.size // 2], triangle[:, :, self.size // 2 :]
        assert (left[0] == 0).all() and (left[1] == 1).all()
        assert (right[0] == 1).all() and (right[1] == 0).all()


class FaceDetectorContract(ABC):
    """`detect`: float32 rows of box, score and five landmarks; none where there is no face."""

    @abstractmethod
    def make(self) -> FaceDetector:
        """A fresh detector to be tested."""

    def test_satisfies_the_protocol(self) -> None:
        assert isinstance(self.make(), FaceDetector)

    def test_rows_are_boxes_scores_and_landmarks_best_first(self) -> None:
        detector = self.make()
        for face in (drawn_face(1), drawn_face(2, size=301)):
            found = detector.detect(face)
            assert found.dtype == np.float32 and found.ndim == 2 and found.shape[1] == 15
            assert (found[:, 2] > found[:, 0]).all() and (found[:, 3] > found[:, 1]).all()
            assert (np.diff(found[:, 4]) <= 0).all() and np.isfinite(found).all()

    def test_an_empty_picture_has_no_face(self) -> None:
        assert len(self.make().detect(Image.new("RGB", (160, 120), "gray"))) == 0

    def test_is_deterministic(self) -> None:
        detector = self.make()
        np.testing.assert_array_equal(detector.detect(drawn_face(1)), detector.detect(drawn_face(1)))


class AttributeClassifierContract(ABC):
    """`classify`: shares per category of every attribute, for every face on its own."""

    @abstractmethod
    def make(self) -> AttributeClassifier:
        """A fresh classifier to be tested."""

    def test_satisfies_the_protocol(self) -> None:
        assert isinstance(self.make(), AttributeClassifier)

    def test_shares_of_an_attribute_sum_to_one(self) -> None:
        found = self.make().classify([drawn_face(n) for n in range(3)])
        assert len(found) == 3 and all(each.keys() == found[0].keys() for each in found)
        for each in found:
            for attribute, shares in each.items():
                assert attribute in ("ethnicity", "gender", "age_interval")
                assert abs(sum(shares.values()) - 1) < 1e-4 and min(shares.values()) >= 0

    def test_a_face_does_not_depend_on_its_batch(self) -> None:
        classifier, faces = self.make(), [drawn_face(n) for n in range(3)]
        alone, among = classifier.classify(faces[1:2])[0], classifier.classify(faces)[1]
        for attribute, shares in alone.items():
            for category, share in shares.items():
                assert abs(share - among[attribute][category]) < 1e-4


class ExecutorContract(ABC):
    """`run`: every shard once, `on_done` in this process after each, the first exception raised here."""

    @abstractmethod
    def make(self) -> Executor:
        """A fresh executor to be tested."""

    def test_satisfies_the_protocol(self) -> None:
        assert isinstance(self.make(), Executor)

    def test_works_every_shard_once_and_says_so_here(self, tmp_path: Path) -> None:
        done: list[tuple[int, int]] = []

        def on_done(shard: int) -> None:
            assert (tmp_path / str(shard)).exists()
            done.append((shard, os.getpid()))

        self.make().run(partial(_work, tmp_path), [3, 1, 4, 5], on_done)
        assert sorted(done) == [(shard, os.getpid()) for shard in (1, 3, 4, 5)]

    def test_no_shards_are_no_work(self, tmp_path: Path) -> None:
        self.make().run(partial(_work, tmp_path), [], lambda shard: pytest.fail("no shard was asked for"))

    def test_raises_the_error_of_a_shard(self, tmp_path: Path) -> None:
        with pytest.raises(FacesynError, match="shard 13"):
            self.make().run(partial(_work, tmp_path), [13], lambda shard: pytest.fail("the shard failed"))


def _work(folder: Path, shard: int) -> None:
    """Leaves a file named after the shard; fails if it was there, and for shard 13."""
    if shard == 13:
        raise FacesynError("There is no shard 13.")
    (folder / str(shard)).touch(exist_ok=False)


def _assert_pictures(pictures: list[Image.Image], count: int, size: int) -> None:
    assert [(picture.mode, picture.size) for picture in pictures] == [("RGB", (size, size))] * count


def _difference(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference, of 255."""
    return float(np.asarray(ImageChops.difference(one, other), dtype=np.float64).mean())


def _assert_facts(once: Facts, again: Facts) -> None:
    def dumped(facts: Facts) -> Any:
        return json.dumps(dict(facts), sort_keys=True)

    assert dumped(once) == dumped(again)
    assert once, "facts must name what made the picture"
