"""Figures of a dataset against plain counting, and an audit that finds what was planted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facesyn.evaluation.audit import memorisation, nearest, nearest_stranger, repeated, style_leakage
from facesyn.evaluation.dataset import agreement, chi_squared, consistency, retention, spread_within
from facesyn.evaluation.pairs import bootstrap, dimensions, draw_pictures, pair_figures
from facesyn.labelled import LabelledFaces, read_labelled
from facesyn.testing import drawn_face


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture
def people() -> tuple[np.ndarray, np.ndarray]:
    """60 people × 4 embeddings."""
    rng = np.random.default_rng(3)
    centre = rng.normal(size=(60, 24))
    return unit(np.repeat(centre, 4, 0) + 0.7 * rng.normal(size=(240, 24))), np.repeat([f"p{i}" for i in range(60)], 4)


def test_pair_figures_are_those_of_a_count(people: tuple[np.ndarray, np.ndarray]) -> None:
    embeddings, names = people
    genuine, impostor = [], []
    for i in range(240):
        for j in range(i):
            (genuine if names[i] == names[j] else impostor).append(float(np.dot(embeddings[i], embeddings[j])))
    found = pair_figures(embeddings, names)
    assert found is not None
    mean_g, mean_i = sum(genuine) / len(genuine), sum(impostor) / len(impostor)
    var_g = sum((v - mean_g) ** 2 for v in genuine) / len(genuine)
    var_i = sum((v - mean_i) ** 2 for v in impostor) / len(impostor)
    assert found.fdr.value == pytest.approx((mean_g - mean_i) ** 2 / (var_g + var_i), abs=1e-6)
    ranked = sorted(impostor, reverse=True)
    for figure, fmr in ((found.fnmr_at_fmr_1e_2, 0.01), (found.fnmr_at_fmr_1e_3, 0.001)):
        threshold = ranked[int(fmr * len(ranked) + 1e-9)]
        assert figure.value == pytest.approx(np.mean([v <= threshold for v in genuine]), abs=1e-6)
        assert figure.low <= figure.value <= figure.high
    rates = [(np.mean(np.array(impostor) >= t), np.mean(np.array(genuine) < t)) for t in sorted(genuine + impostor)]
    assert found.eer.value == pytest.approx(np.mean(min(rates, key=lambda r: abs(r[0] - r[1]))), abs=2e-3)
    assert found.genuine.sum() == len(genuine) and found.impostor.sum() == len(impostor)


def test_intervals_hold_the_figures_of_embeddings_that_lie_close_together(
    people: tuple[np.ndarray, np.ndarray],
) -> None:
    embeddings, names = people
    close = unit(np.concatenate([np.full((240, 1), 30.0), embeddings], 1))  # every cosine is above 0.997
    found, apart = pair_figures(close, names), pair_figures(embeddings, names)
    assert found is not None and apart is not None
    for name in ("eer", "fdr", "fnmr_at_fmr_1e_2", "fnmr_at_fmr_1e_3"):
        figure = getattr(found, name)
        assert figure.low <= figure.value <= figure.high
        assert figure.value == pytest.approx(getattr(apart, name).value, rel=0.01)


def test_dimensions_count_the_directions_of_embeddings() -> None:
    rng = np.random.default_rng(5)
    assert dimensions(rng.normal(size=(20_000, 8))) == pytest.approx(8, abs=0.05)
    assert dimensions(np.outer(rng.normal(size=500), rng.normal(size=8))) == pytest.approx(1)
    assert dimensions(rng.normal(size=(500, 8)) * [1, 1, 0, 0, 0, 0, 0, 0] + 7) == pytest.approx(2, abs=0.05)


def test_a_dataset_without_pairs_has_no_pair_figures(people: tuple[np.ndarray, np.ndarray]) -> None:
    assert pair_figures(people[0][::4], people[1][::4]) is None
    assert pair_figures(people[0][:4], people[1][:4]) is None


def test_a_draw_keeps_people_and_pairs() -> None:
    names = np.repeat(np.arange(100).astype(str), 10)
    assert len(draw_pictures(names, 5000)) == 1000
    chosen = draw_pictures(names, 400)
    assert len(chosen) == 400 and set(np.unique(names[chosen], return_counts=True)[1]) == {4}
    chosen = draw_pictures(names, 60)
    assert set(np.unique(names[chosen], return_counts=True)[1]) == {2} and len(chosen) == 60


def test_retention_counts_a_duplicated_person_once() -> None:
    rng = np.random.default_rng(0)
    faces = unit(rng.normal(size=(30, 64)))
    faces[17] = faces[4]
    assert retention(faces, 0.9)[-1] == (30, 29)
    assert [n for n, _ in retention(faces, 0.9)] == [2, 4, 8, 16, 30]
    kept: list[int] = []
    for i in range(30):
        if all(float(np.dot(faces[i], faces[k])) < 0.2 for k in kept):
            kept.append(i)
    assert retention(faces, 0.2)[-1] == (30, len(kept))


def test_consistency_falls_with_a_picture_of_somebody_else(people: tuple[np.ndarray, np.ndarray]) -> None:
    embeddings, names = people
    members = {name: list(np.flatnonzero(names == name)) for name in np.unique(names)}
    before = consistency(embeddings, members, 0.6).value
    swapped = embeddings.copy()
    swapped[[0, 100]] = swapped[[100, 0]]
    assert consistency(swapped, members, 0.6).value < before
    assert spread_within(swapped, members).mean() > spread_within(embeddings, members).mean()


def test_chi_squared_is_pearsons() -> None:
    found = chi_squared([30, 50, 20], [1, 1, 1])
    assert found["chi_squared"] == pytest.approx(14.0, abs=1e-4)
    assert found["degrees_of_freedom"] == 2 and found["p"] == pytest.approx(np.exp(-7.0), abs=1e-6)


def test_bootstrap_intervals_have_the_normal_width() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = bootstrap(values)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * 2 / 20, rel=0.15)


def test_agreement_names_a_mislabelled_cell() -> None:
    class Judge:
        def classify(self, faces: list[Image.Image]) -> list[dict[str, dict[str, float]]]:
            female = [min(max((np.asarray(face).mean() - 28) / 200, 0.05), 0.95) for face in faces]
            return [{"gender": {"female": float(f), "male": 1 - float(f)}} for f in female]

    tints = [(200, 200, 200), (210, 210, 210), (110, 110, 110), (250, 20, 250)]  # the third looks male, but faintly
    faces = LabelledFaces(
        list("abcd"),
        np.array(list("aabb")),
        [{"gender": "female"}] * 4,
        lambda i: Image.new("RGB", (8, 8), tints[i]),
    )
    found = agreement(faces, Judge())
    seen = found["colour"]["gender"]
    assert seen["pictures"] == 0.75 and seen["confusion"] == [["female", "female", 3], ["female", "male", 1]]
    assert seen["people"]["value"] == 1.0  # the fourth, of the same person, says so more clearly
    assert found["grey"]["gender"]["pictures"] == 0.5  # the fourth was light in its colours only
    assert found["grey"]["gender"]["people"]["value"] == 0.5


def test_nearest_is_brute_force() -> None:
    rng = np.random.default_rng(5)
    ours, theirs = unit(rng.normal(size=(20, 8))).astype("f4"), unit(rng.normal(size=(50, 8))).astype("f4")
    similarity, names = nearest(ours, theirs, [str(i) for i in range(50)])
    np.testing.assert_allclose(similarity, (ours @ theirs.T).max(1), atol=1e-6)
    assert [int(n) for n in names] == (ours @ theirs.T).argmax(1).tolist()


def test_a_gallerys_own_strangers_are_the_measure() -> None:
    rng = np.random.default_rng(8)
    faces, names = unit(rng.normal(size=(30, 8))), np.repeat(np.arange(10), 3).astype(str)
    expected = [max(float(faces[i] @ faces[j]) for j in range(30) if names[i] != names[j]) for i in range(30)]
    np.testing.assert_allclose(nearest_stranger(faces, names, block=7), expected, atol=1e-9)


def test_memorised_faces_lie_nearer_than_held_out_ones() -> None:
    rng = np.random.default_rng(6)
    training, held_out = unit(rng.normal(size=(200, 16))), unit(rng.normal(size=(100, 16)))
    fresh = unit(rng.normal(size=(100, 16)))
    copied = unit(training[:100] + 0.05 * rng.normal(size=(100, 16)))
    assert memorisation(copied, training, held_out)["auc"] == 1
    assert 0.35 < memorisation(fresh, training, held_out)["auc"] < 0.65


def test_style_leakage_is_measured_beside_a_matched_stranger() -> None:
    rng = np.random.default_rng(7)
    bank = unit(rng.normal(size=(6, 32)))
    labels = [{"gender": "female", "light": "rim" if i % 2 else "soft", "yaw": 10.0 * i} for i in range(6)]
    names = [f"{i}.png" for i in range(6)]
    rows = [{"reference": names[i % 6]} for i in range(60)]
    faces = LabelledFaces(
        [str(i) for i in range(60)], np.arange(60).astype(str), rows, lambda i: Image.new("RGB", (4, 4))
    )
    own = unit(rng.normal(size=(60, 32)))
    clean = style_leakage(own, faces, bank, labels, names, {"x": 0.6})
    assert abs(clean["excess"]["value"]) < 0.1 and clean["leak_rate"]["x"]["value"] < 0.05
    leaky = unit(own + 1.5 * bank[np.arange(60) % 6])
    found = style_leakage(leaky, faces, bank, labels, names, {"x": 0.6})
    assert found["excess"]["low"] > 0.3 and found["leak_rate"]["x"]["value"] > 0.9
    assert found["matched_rate"]["x"]["value"] < 0.05 and found["images"] == 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """12 people × 2 pictures, one subfolder each."""
    for person in range(12):
        (tmp_path / "set" / f"p{person:02d}").mkdir(parents=True)
        for number in range(2):
            shade = np.asarray(drawn_face(person, size=128), int) + (12 * number)
            Image.fromarray(shade.clip(0, 255).astype(np.uint8)).save(
                tmp_path / "set" / f"p{person:02d}" / f"{number}.png"
            )
    return tmp_path / "set"


def test_four_layouts_are_read(folder: Path, tmp_path: Path) -> None:
    faces = read_labelled(folder)
    assert len(faces) == 24 and len(faces.members()) == 12 and faces.cells is None
    lines = [
        json.dumps({"file_name": name, "identity": identity, "ethnicity": "x", "gender": "y", "age_interval": "18-29"})
        for name, identity in zip(faces.names, faces.identities, strict=True)
    ]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    labelled = read_labelled(folder)
    assert labelled.names == faces.names and labelled.cells is not None and labelled.cells[0] == "x / y / 18-29"
    assert labelled.digest() == faces.digest()
    half = labelled.equal_number(labelled.subset(range(12)))
    assert len(half.members()) == 6 and len(half) == 12


def test_a_repeated_picture_is_found_whoever_it_is_of(folder: Path) -> None:
    assert repeated(read_labelled(folder), 0.5) == []
    shutil.copy(folder / "p03" / "0.png", folder / "p07" / "9.png")
    assert repeated(read_labelled(folder), 0.5) == [["p03/0.png", "p07/9.png"]]


def test_commands_measure_and_audit_a_foreign_folder(facesyn: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    result = facesyn("evaluate", "dataset", folder, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)["dataset"]
    assert report["people"] == 12 and report["images"] == 24
    assert set(report["encoders"]) == {"mini", "mini-judge"}  # the judge is not the gate
    mini = report["encoders"]["mini"]
    assert {"eer", "fdr", "uniqueness", "consistency", "diversity", "histograms"} <= set(mini)
    assert mini["eer"]["low"] <= mini["eer"]["value"] <= mini["eer"]["high"]
    table = facesyn("evaluate", "dataset", folder, "--beside", folder)
    assert table.exit_code == 0 and "mini: fdr" in table.stdout and "beside" in table.stdout.splitlines()[0]

    gallery = tmp_path / "gallery"
    gallery.mkdir()
    shutil.copy(folder / "p05" / "0.png", gallery / "somebody.png")
    caught = facesyn("dataset", "audit", folder, "--against", gallery, "--json")
    assert caught.exit_code == 1, caught.stdout
    report = json.loads(caught.stdout)
    (found,) = report["galleries"].values()
    assert found["images"]["nearest"][0] == ["p05/0.png", "somebody.png", 1.0]
    assert report["over_limit"] and "Over the limit" in caught.stderr
    harmless = facesyn("dataset", "audit", folder)
    assert harmless.exit_code == 0, harmless.stderr
