"""`facesyn generate`, on the embedded models and on small SD 1.5- and SDXL-shaped folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image

from facesyn.banks import bank_folder, read_bank
from facesyn.records import FaceRow, PromptRow, format_row, read_rows
from facesyn.registry import Role, create
from facesyn.stages.generation import EdgeMaps, starting_point
from facesyn.testing import drawn_edges


@pytest.fixture(autouse=True)
def open_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """These pictures are made in one or two steps, or drawn: no gate would let them in. See test_gates.py."""
    monkeypatch.setenv("FACESYN_GATES", "0")


@pytest.fixture
def prompts(facesyn: Any, tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text(facesyn("prompts", "-n", 3, "--seed", 1).stdout)
    return file


def pixels(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def test_every_prompt_becomes_a_face_with_its_row(facesyn: Any, prompts: Path, tmp_path: Path) -> None:
    result = facesyn("generate", prompts, "-o", tmp_path / "faces", "--steps", 2)
    assert result.exit_code == 0, result.stderr
    rows = read_rows(tmp_path / "faces" / "metadata.jsonl", FaceRow)
    asked = read_rows(prompts, PromptRow)
    assert [(row.id, row.prompt, row.seed) for row in rows] == [(row.id, row.prompt, row.seed) for row in asked]
    for row in rows:
        assert Image.open(tmp_path / "faces" / row.file_name).size == (128, 128)
        assert row.generator["steps"] == 2 and len(row.generator["model"]["sha256"]) == 64
    assert str(tmp_path) not in (tmp_path / "faces" / "metadata.jsonl").read_text()


def test_rows_come_from_standard_input(facesyn: Any, prompts: Path, tmp_path: Path) -> None:
    result = facesyn("generate", "-", "-o", tmp_path / "faces", "--steps", 1, input=prompts.read_text())
    assert result.exit_code == 0, result.stderr
    assert len(pixels(tmp_path / "faces")) == 3


def test_a_stopped_run_goes_on_to_the_same_faces(facesyn: Any, prompts: Path, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    one = ("--steps", 2, "--batch-size", 1)
    assert facesyn("generate", prompts, "-o", whole, *one).exit_code == 0
    first = tmp_path / "first.jsonl"
    first.write_text(prompts.read_text().splitlines(keepends=True)[0])
    assert facesyn("generate", first, "-o", stopped, *one).exit_code == 0
    with open(stopped / "metadata.jsonl", "a") as file:
        file.write('{"id": "torn')  # killed while writing a row
    assert facesyn("generate", prompts, "-o", stopped, *one).exit_code == 0
    assert pixels(stopped) == pixels(whole)
    assert (stopped / "metadata.jsonl").read_bytes() == (whole / "metadata.jsonl").read_bytes()


def test_other_settings_do_not_mix(facesyn: Any, prompts: Path, tmp_path: Path) -> None:
    assert facesyn("generate", prompts, "-o", tmp_path / "faces", "--steps", 1).exit_code == 0
    before = pixels(tmp_path / "faces")
    result = facesyn("generate", prompts, "-o", tmp_path / "faces", "--steps", 2)
    assert result.exit_code == 1 and "another generator" in result.stderr
    assert pixels(tmp_path / "faces") == before


def test_a_folder_of_something_else_is_refused(facesyn: Any, prompts: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    result = facesyn("generate", prompts, "-o", tmp_path / "mine")
    assert result.exit_code == 1 and "not empty" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--model", "nowhere/at/all"), 1, "no model folder nowhere/at/all"),
        (("--backend", "difusers"), 2, "Did you mean 'diffusers'?"),
        (("--scheduler", "dpm"), 2, "There is no scheduler called 'dpm'"),
        (("--edges", "nowhere"), 2, "no folder nowhere"),
        (("--device", "tpu"), 2, "device"),
        (("--dtype", "fp8"), 2, "precision called 'fp8'"),
        (("--dtype", "fp16", "--device", "cpu"), 2, "fp16 needs a GPU"),
        (("--option", "stepz=3"), 2, "no option 'stepz'"),
    ],
)
def test_bad_input_is_one_sentence(
    facesyn: Any, prompts: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    result = facesyn("generate", prompts, "-o", tmp_path / "faces", *arguments)
    assert result.exit_code == code and says in result.stderr, result.stderr
    assert "Traceback" not in result.stderr and not (tmp_path / "faces").exists()


def test_a_malformed_row_is_named(facesyn: Any, prompts: Path, tmp_path: Path) -> None:
    prompts.write_text(prompts.read_text() + '{"id": "x"}\n')
    result = facesyn("generate", prompts, "-o", tmp_path / "faces")
    assert result.exit_code == 2 and "line 4: ethnicity" in result.stderr


def test_the_same_id_twice_is_refused(facesyn: Any, prompts: Path, tmp_path: Path) -> None:
    prompts.write_text(prompts.read_text() * 2)
    result = facesyn("generate", prompts, "-o", tmp_path / "faces")
    assert result.exit_code == 2 and "occurs twice" in result.stderr


@pytest.mark.parametrize("make", [tiny.sd15, tiny.sdxl], ids=["sd15", "sdxl"])
def test_any_stable_diffusion_folder_runs(make: Any, tmp_path: Path) -> None:
    folder = make(tmp_path / "model")
    row = PromptRow(id="a", ethnicity="x", gender="y", age_interval="18-29", prompt="a woman", seed=1)
    drawn = []
    for scale in (0.0, 1.0):
        options = {"model": str(folder), "steps": 2, "conditioning_scale": scale, "device": "cpu"}
        generator = create(Role.GENERATOR, "diffusers", options)
        faces = generator.generate([row, row], [drawn_edges(1), drawn_edges(2)], [1, 1])
        assert [face.size for face in faces] == [(64, 64)] * 2
        assert generator.facts()["model"]["name"] == "model"
        drawn.append(np.abs(np.asarray(faces[0], int) - np.asarray(faces[1], int)).max())
    assert drawn[0] == 0 and drawn[1] > 0  # only the ControlNet sees that the edge maps differ


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmpp-2m", "dpmpp-2m-karras", "unipc"])
def test_every_scheduler_gives_a_picture_that_its_seed_fixes(scheduler: str, tmp_path: Path) -> None:
    folder = tiny.sd15(tmp_path / "model")
    generator = create(Role.GENERATOR, "diffusers", {"model": str(folder), "steps": 3, "scheduler": scheduler})
    row = PromptRow(id="a", ethnicity="x", gender="y", age_interval="18-29", prompt="a woman", seed=1)
    first, again, other = (generator.generate([row], [drawn_edges(1)], [seed])[0].tobytes() for seed in (1, 1, 2))
    assert first == again != other


def test_a_model_without_a_controlnet_asks_for_one(facesyn: Any, prompts: Path, tmp_path: Path) -> None:
    folder = tiny.sd15(tmp_path / "model")
    (folder / "controlnet").rename(tmp_path / "controlnet")
    result = facesyn("generate", prompts, "-o", tmp_path / "faces", "--model", folder, "--steps", 1)
    assert result.exit_code == 1 and "--controlnet" in result.stderr
    result = facesyn(
        "generate", prompts, "-o", tmp_path / "faces", "--model", folder, "--controlnet", tmp_path / "controlnet",
        "--steps", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr


def test_a_folder_that_is_no_model_is_refused(facesyn: Any, prompts: Path, tmp_path: Path) -> None:
    (tmp_path / "model" / "controlnet").mkdir(parents=True)
    (tmp_path / "model" / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    result = facesyn("generate", prompts, "-o", tmp_path / "faces", "--model", tmp_path / "model")
    assert result.exit_code == 1 and "FluxPipeline" in result.stderr


def test_edges_of_photographs_are_taken_with_canny(facesyn: Any, prompts: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    bank.mkdir()
    gradient = np.add.outer(np.arange(128), np.arange(128)).astype(np.uint8)
    gradient[40:90, 40:90] = 255
    Image.fromarray(gradient).save(bank / "face.png")
    result = facesyn("generate", prompts, "-o", tmp_path / "faces", "--steps", 1, "--edges", bank)
    assert result.exit_code == 0, result.stderr
    assert {row.edge_map for row in read_rows(tmp_path / "faces" / "metadata.jsonl", FaceRow)} == {"face.png"}


def test_rows_round_trip(facesyn: Any, prompts: Path, tmp_path: Path) -> None:
    assert facesyn("generate", prompts, "-o", tmp_path / "faces", "--steps", 1).exit_code == 0
    text = (tmp_path / "faces" / "metadata.jsonl").read_text()
    assert "".join(map(format_row, read_rows(tmp_path / "faces" / "metadata.jsonl", FaceRow))) == text


def test_edge_maps_are_of_the_prompt_s_cell_and_change_with_the_attempt() -> None:
    cell = {"ethnicity": "African", "gender": "male", "age_interval": "30-44"}
    row = PromptRow(id="a", **cell, prompt="a man", seed=1)
    bank = read_bank(bank_folder("mini", "edges"))
    edge_maps = EdgeMaps(bank)
    drawn = [edge_maps.draw(row, attempt) for attempt in range(8)]
    assert all({key: each.labels[key] for key in cell} == cell for each in drawn)
    assert len({each.name for each in drawn}) > 1
    older = row.model_copy(update={"age_interval": "61-65"})
    assert {edge_maps.draw(older, attempt).labels["gender"] for attempt in range(8)} == {"male"}
    assert starting_point(row, edge_maps) == {"face_seed": row.seed, "edge_map": drawn[0].name}
    assert starting_point(row, edge_maps, 3)["face_seed"] != row.seed
