"""Figures about models, on inputs whose figures are known; and the whole command, on small random models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from facesyn.demographics import Cell
from facesyn.evaluation import generator
from facesyn.evaluation.measures import edge_f1, frechet_distance
from facesyn.evaluation.pairs import by_person
from facesyn.evaluation.random_features import RandomFeatures
from facesyn.evaluation.transfer import background_of, light_of, nearest_of_cell
from facesyn.labelled import LabelledFaces
from facesyn.records import PromptRow
from facesyn.rendered import RenderedFaces
from facesyn.testing import drawn_face


def test_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20_000, 3)), 1.0 + 2.0 * rng.normal(size=(20_000, 3))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, b) == pytest.approx(3 * 1.0 + 3 * (2 - 1) ** 2, rel=0.05)


def test_edges_match_within_the_tolerance_and_no_further() -> None:
    edges = np.zeros((128, 128), bool)
    edges[20:100, 64] = True
    assert edge_f1(edges, edges) == 1
    assert edge_f1(np.roll(edges, 1, axis=1), edges) == 1
    assert edge_f1(np.roll(edges, 4, axis=1), edges) == 0
    half = edges.copy()
    half[60:] = False
    assert edge_f1(half, edges) == pytest.approx(2 / 3, abs=0.02)  # all of it right, half of it there
    nothing = np.zeros_like(edges)
    assert edge_f1(nothing, edges) == 0 and edge_f1(nothing, nothing) == 1


@pytest.mark.parametrize("axis", range(3))
def test_variance_goes_to_the_factor_that_makes_it(axis: int) -> None:
    rng = np.random.default_rng(axis)
    levels = generator.LEVELS
    cells = []
    for _ in range(40):
        shape = [1, 1, 1, 8]
        shape[axis] = levels
        cells.append(3 * rng.normal(size=shape) + rng.normal(size=(levels, levels, levels, 8)))
    shares = generator.variance_shares(cells)
    assert shares[generator.FACTORS[axis]] == pytest.approx(0.9, abs=0.05)
    assert shares["interaction"] == pytest.approx(0.1, abs=0.05)


def test_light_and_background_are_read_from_pictures() -> None:
    landmarks = np.array([[[40, 45], [80, 45], [60, 65], [45, 85], [75, 85]]])
    bright, dark = torch.full((1, 3, 128, 128), 0.5), torch.full((1, 3, 128, 128), -0.5)
    left = torch.cat([bright[..., :60], dark[..., 60:]], 3)
    side, height = light_of(left, landmarks)[0]
    assert side > 0.4 and abs(height) < 1e-6
    assert light_of(left.flip(3), 128 - landmarks)[0][0] < -0.4
    top = torch.cat([bright[..., :60, :], dark[..., 60:, :]], 2)
    assert light_of(top, landmarks)[0][1] > 0.3
    green = torch.full((1, 3, 128, 128), -1.0)
    green[:, 1, :20] = 1
    assert background_of(green)[0].tolist() == [-1, 1, -1]


def test_the_nearest_training_picture_is_looked_for_in_the_cell() -> None:
    grey = np.arange(0, 250, 10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    label = {"ethnicity": "African", "gender": "female", "age_interval": "18-29"}
    labels = [label | ({"gender": "male"} if n % 2 else {}) for n in range(len(grey))]
    training = RenderedFaces(grey, labels)
    truth = training.batch([4, 7])
    assert torch.equal(nearest_of_cell(truth, [tuple(label.values())] * 2, training)[0], truth[0])
    found = nearest_of_cell(truth, [("African", "male", "18-29")] * 2, training)
    assert torch.equal(found[1], truth[1]) and not torch.equal(found[0], truth[0])


def test_intervals_resample_people_and_keep_the_mean_of_pictures() -> None:
    names = np.repeat([str(n) for n in range(50)], 4)
    values = np.repeat(np.arange(50) % 2, 4)
    whole = by_person(values, names)
    assert whole.value == 0.5 and whole.low == pytest.approx(0.36, abs=0.06)
    assert by_person(values, np.arange(200).astype(str)).low > whole.low


class Copier:
    """A generator that returns its edge maps, and remembers what it was asked."""

    size = 64

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def generate(self, prompts: list[PromptRow], edges: list[Image.Image], seeds: list[int]) -> list[Image.Image]:
        self.asked += [(row.prompt, seed) for row, seed in zip(prompts, seeds, strict=True)]
        return [drawn_face(number) for number in seeds]


class Writer:
    def write(self, cells: list[Cell], *, seed: int, first: int = 0) -> Any:
        for number, cell in enumerate(cells):
            e, g, a = (str(part) for part in cell.categories)
            yield PromptRow(id=str(number), ethnicity=e, gender=g, age_interval=a, prompt=f"{e} {number}", seed=number)


class Sure:
    """A classifier that calls everyone a woman of thirty from Africa."""

    def classify(self, faces: list[Image.Image]) -> list[dict[str, dict[str, float]]]:
        one = {"ethnicity": {"African": 1.0, "Caucasian": 0.0}, "gender": {"female": 1.0, "male": 0.0}}
        return [one | {"age_interval": {"30-44": 1.0}} for _ in faces]


@pytest.fixture
def portraits() -> LabelledFaces:
    points = [[40.0, 50.0], [80.0, 50.0], [60.0, 70.0], [45.0, 90.0], [75.0, 90.0]]
    labels = [
        {"ethnicity": e, "gender": g, "age_interval": "30-44", "landmarks": points, "style": -1}
        for e in ("African", "Caucasian")
        for g in ("female", "male")
        for _ in range(3)
    ]
    names = [f"p{n}" for n in range(len(labels))]
    return LabelledFaces(names, np.array(names), labels, lambda index: drawn_face(index, size=128))


def test_faces_are_made_cell_by_cell_and_crossed_within_one(portraits: LabelledFaces) -> None:
    copier = Copier()
    studio = generator.Studio(copier, Writer(), portraits)
    made = studio.portraits(16, lambda done: None)
    assert len(made.pictures) == 16 and len({seed for _, seed in copier.asked}) == 16
    for row, owner in zip(made.prompts, made.owners, strict=True):
        assert (row.ethnicity, row.gender) == tuple(portraits.labels[owner][key] for key in ("ethnicity", "gender"))
    copier.asked.clear()
    assert len(studio.crossed(studio.cells[0], lambda done: None)) == generator.LEVELS**3
    assert len(set(copier.asked)) == generator.LEVELS**2  # prompts × noises, each with every edge map
    found = generator.recovery(made, portraits, Sure())["grey"]
    assert found["ethnicity"]["generated"]["value"] == found["gender"]["generated"]["value"] == 0.5
    assert found["age_interval"]["ratio"] == 1
    edges = generator.edges_followed(made, portraits)
    assert 0 <= edges["f1"]["value"] <= 1


def test_random_features_are_the_same_every_time() -> None:
    faces = [drawn_face(n) for n in range(3)]
    first = RandomFeatures(1).embed(faces)
    assert np.array_equal(first, RandomFeatures(1).embed(faces)) and not np.allclose(
        first, RandomFeatures(2).embed(faces)
    )


def test_models_are_measured_in_one_command(facesyn: Any, shared: Path, tmp_path: Path) -> None:
    val = tmp_path / "val"
    val.mkdir()
    shard = sorted((shared / "data" / "renders").glob("*.tar"))[0]
    (val / shard.name).symlink_to(shard)
    tiny.atd().save_pretrained(tmp_path / "atd")
    models = ["--ufg", tiny.sd15(tmp_path / "ufg"), "--atd", tmp_path / "atd"]
    models += ["--classifier", "mini"]
    result = facesyn("evaluate", "models", "--data", val, *models, "--faces", 64, "--pairs", 8, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert set(report) == {"autoencoder", "generator", "transfer"}
    assert report["generator"]["frechet"]["encoder"]["generated"] > report["generator"]["frechet"]["encoder"]["renders"]
    assert set(report["transfer"]["pictures"]) == {"model", "style off", "copied reference"}
    assert report["transfer"]["pictures"]["copied reference"]["ssim"]["value"] > 0.5
    gender = {name: found["gender"]["value"] for name, found in report["transfer"]["attributes"].items()}
    assert gender["true pictures"] > 0.8 and gender["model"] < gender["true pictures"]  # an untrained model's are noise
    told = facesyn("evaluate", "models", "--data", val, *models, "--faces", 64, "--pairs", 2, "--training", val)
    assert told.exit_code == 0, told.output
    assert "nearer to training" in told.stdout and "nearest training" in told.stdout
    assert "gender as labelled, true pictures" in told.stdout
