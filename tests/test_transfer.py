"""`facesyn transfer`, on the embedded models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image

from facesyn.records import TransferRow, read_rows
from facesyn.testing import drawn_face


@pytest.fixture(autouse=True)
def open_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """These pictures are made in one or two steps, or drawn: no gate would let them in. See test_gates.py."""
    monkeypatch.setenv("FACESYN_GATES", "0")


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    for number in range(2):
        drawn_face(number).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def styles(tmp_path: Path) -> Path:
    folder = tmp_path / "styles"
    folder.mkdir()
    for number in range(3):
        drawn_face(number + 10).save(folder / f"s{number}.png")
    return folder


def rows_of(folder: Path) -> list[TransferRow]:
    return read_rows(folder / "metadata.jsonl", TransferRow)


def test_every_face_is_carried_into_several_styles(facesyn: Any, faces: Path, styles: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = facesyn("transfer", faces, "--references", styles, "--per-identity", 3, "-o", out, "--steps", 1)
    assert result.exit_code == 0, result.stderr
    rows = rows_of(out)
    assert [row.file_name for row in rows] == [f"{i}/{k:03d}.png" for i in (0, 1) for k in range(3)]
    for identity in "01":
        assert {row.reference for row in rows if row.identity == identity} == {"s0.png", "s1.png", "s2.png"}
    for row in rows:
        assert Image.open(out / row.file_name).size == (128, 128)
        assert row.source_similarity is not None and -1 <= row.source_similarity <= 1
        assert "pose" in row.transferred and row.transfer["steps"] == 1
    assert str(tmp_path) not in (out / "metadata.jsonl").read_text()


def test_generated_faces_keep_their_ids(facesyn: Any, tmp_path: Path) -> None:
    prompts = facesyn("prompts", "-n", 2).stdout
    assert facesyn("generate", "-", "-o", tmp_path / "faces", "--steps", 1, input=prompts).exit_code == 0
    result = facesyn("transfer", tmp_path / "faces", "--per-identity", 2, "-o", tmp_path / "out", "--steps", 1)
    assert result.exit_code == 0, result.stderr
    ids = [json.loads(line)["id"] for line in prompts.splitlines()]
    assert [row.identity for row in rows_of(tmp_path / "out")] == [i for i in ids for _ in range(2)]


def test_exact_pairs_are_all_written(facesyn: Any, faces: Path, styles: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    asked = [("faces/0.png", "styles/s1.png", "a/0001.png"), ("faces/1.png", "styles/s1.png", "0002.png")]
    pairs.write_text("".join(json.dumps({"source": s, "reference": r, "output": o}) + "\n" for s, r, o in asked))
    result = facesyn("transfer", faces, "--pairs", pairs, "-o", tmp_path / "out", "--steps", 1, "--encoder", "")
    assert result.exit_code == 0, result.stderr
    made = rows_of(tmp_path / "out")
    assert [(row.source, row.reference, row.file_name) for row in made] == asked
    assert all((tmp_path / "out" / row.file_name).is_file() and row.source_similarity is None for row in made)


def test_a_stopped_run_goes_on_to_the_same_pictures(facesyn: Any, faces: Path, styles: Path, tmp_path: Path) -> None:
    arguments = ("transfer", faces, "--references", styles, "--steps", 1, "--batch-size", 1, "--per-identity")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert facesyn(*arguments, 2, "-o", whole).exit_code == 0
    assert facesyn(*arguments, 2, "-o", stopped).exit_code == 0
    kept = (stopped / "metadata.jsonl").read_text().splitlines(keepends=True)
    (stopped / "metadata.jsonl").write_text("".join(kept[:2]) + kept[2][:20])
    (stopped / "1" / "000.png").unlink()
    assert facesyn(*arguments, 2, "-o", stopped).exit_code == 0
    for path in whole.rglob("*.*"):
        assert (stopped / path.relative_to(whole)).read_bytes() == path.read_bytes()


def test_one_picture_and_eight_at_once_agree(facesyn: Any, faces: Path, styles: Path, tmp_path: Path) -> None:
    arguments = ("transfer", faces, "--references", styles, "--per-identity", 3, "--steps", 2)
    for size in (1, 8):
        assert facesyn(*arguments, "-o", tmp_path / str(size), "--batch-size", size).exit_code == 0
    plans = [[(r.file_name, r.reference, r.transfer_seed) for r in rows_of(tmp_path / n)] for n in ("1", "8")]
    assert plans[0] == plans[1]
    for name, _, _ in plans[0]:
        one, eight = (np.asarray(Image.open(tmp_path / n / name), float) for n in ("1", "8"))
        assert np.abs(one - eight).mean() <= 2


def test_a_corrupt_reference_is_named_before_any_work(facesyn: Any, faces: Path, styles: Path, tmp_path: Path) -> None:
    (styles / "s1.png").write_bytes((styles / "s1.png").read_bytes()[:200])
    result = facesyn("transfer", faces, "--references", styles, "-o", tmp_path / "out")
    assert result.exit_code == 1 and "s1.png" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"source": "faces/0.png", "reference": "styles/s0.png", "output": "../x.png"}', "output: must be a relative"),
        ('{"source": "faces/0.png", "reference": "styles/s0.png"}', "line 1: output"),
        ("{", "line 1: not valid JSON"),
    ],
)
def test_a_bad_pairs_file_is_refused(facesyn: Any, faces: Path, tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(line + "\n")
    result = facesyn("transfer", faces, "--pairs", tmp_path / "pairs.jsonl", "-o", tmp_path / "out")
    assert result.exit_code == 2 and says in result.stderr
    assert not (tmp_path / "out").exists()


def test_missing_folders_are_named(facesyn: Any, faces: Path, tmp_path: Path) -> None:
    assert "facesyn generate" in facesyn("transfer", tmp_path / "none", "-o", tmp_path / "out").stderr
    result = facesyn("transfer", faces, "--references", tmp_path / "none", "-o", tmp_path / "out")
    assert result.exit_code == 2 and "no folder" in result.stderr


def test_a_classifier_with_nothing_to_compare_is_refused(facesyn: Any, faces: Path, tmp_path: Path) -> None:
    result = facesyn("transfer", faces, "--classifier", "mini", "-o", tmp_path / "out")
    assert result.exit_code == 2 and "asked to be" in result.stderr and not (tmp_path / "out").exists()


def test_a_saved_model_of_ones_own_runs(facesyn: Any, faces: Path, styles: Path, tmp_path: Path) -> None:
    tiny.atd().save_pretrained(tmp_path / "model")
    out = tmp_path / "out"
    result = facesyn("transfer", faces, "--references", styles, "-o", out, "--model", tmp_path / "model", "--steps", 1)
    assert result.exit_code == 0, result.stderr
    assert {row.transfer["model"]["name"] for row in rows_of(out)} == {"model"}
    assert Image.open(out / "0" / "000.png").size == (64, 64)
