"""Signed copies: manifests that hold, the run folder untouched, the key nowhere."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

c2pa = pytest.importorskip("c2pa", reason="signing needs c2pa-python (the extra c2pa)")
pytest.importorskip("cryptography", reason="the test makes its own certificates")

from .certificates import make_chain  # noqa: E402
from .conftest import IMAGES  # noqa: E402


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def few(run_folder: Path) -> Path:
    """Three people are enough to sign."""
    import shutil

    for place in sorted((run_folder / "images").iterdir())[3:]:
        if place.is_dir():
            shutil.rmtree(place)
            (run_folder / "sources" / f"{place.name}.png").unlink()
    return run_folder


def test_every_copy_has_a_manifest_that_holds(facesyn: Callable[..., Any], few: Path, tmp_path: Path) -> None:
    chain, key = make_chain(tmp_path)
    before = contents(few)
    result = facesyn("dataset", "sign", few, "-o", tmp_path / "signed", "--certificate", chain, "--key", key)
    assert result.exit_code == 0, result.stderr
    assert contents(few) == before
    signed = sorted((tmp_path / "signed").rglob("*.png"))
    assert len(signed) == 3 + IMAGES * 2 + 31 and f"{len(signed)} signed pictures" in result.stdout
    assert (tmp_path / "signed" / "images" / "metadata.jsonl").read_bytes() == (
        few / "images" / "metadata.jsonl"
    ).read_bytes()
    secret = key.read_text().splitlines()[1]
    assert secret not in result.stdout + result.stderr
    assert not any(secret.encode() in file.read_bytes() for file in (tmp_path / "signed").rglob("*") if file.is_file())
    reader = c2pa.Reader(str(signed[0]))
    assert reader.get_validation_state() == "Valid"
    manifest = json.loads(reader.json())
    (actions,) = manifest["manifests"][manifest["active_manifest"]]["assertions"]
    (action,) = actions["data"]["actions"]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert action["parameters"]["facesyn.identity"] == signed[0].parent.name


def test_a_changed_pixel_is_found(facesyn: Callable[..., Any], few: Path, tmp_path: Path) -> None:
    chain, key = make_chain(tmp_path)
    facesyn("dataset", "sign", few, "-o", tmp_path / "signed", "--certificate", chain, "--key", key)
    picture = sorted((tmp_path / "signed" / "sources").glob("*.png"))[0]
    data = bytearray(picture.read_bytes())
    data[-20] ^= 1
    picture.write_bytes(data)
    assert c2pa.Reader(str(picture)).get_validation_state() == "Invalid"


def test_a_key_that_cannot_sign_is_refused_and_not_shown(
    facesyn: Callable[..., Any], few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, key = make_chain(tmp_path)
    key.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    monkeypatch.setenv("FACESYN_DEBUG", "1")
    result = facesyn("dataset", "sign", few, "-o", tmp_path / "signed", "--certificate", chain, "--key", key)
    assert result.exit_code == 2 and "cannot sign with es256" in result.stderr and "c2VjcmV0" not in result.stderr
    result = facesyn("dataset", "sign", few, "-o", few, "--certificate", chain, "--key", key)
    assert result.exit_code == 1 and "exists already" in result.stderr
    assert not (tmp_path / "signed").exists()
