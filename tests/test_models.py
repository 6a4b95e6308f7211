"""Finding weights: bundles, folders, the hub's cache. Nothing here reaches the network."""

import json
from pathlib import Path
from typing import Any

import pytest

from facesyn.errors import ModelError
from facesyn.models import fingerprint, resolve

CARD = "---\ntags:\n- faces\nlicense: openrail\n---\n# A model\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face cache with one diffusers model, and one model of another kind."""
    folder = tmp_path / "hub"
    for name, files in {
        "someone--faces": {
            "model_index.json": '{"_class_name": "StableDiffusionPipeline"}',
            "README.md": CARD,
        },
        "someone--words": {"config.json": '{"model_type": "bert"}'},
    }.items():
        repository = folder / f"models--{name}"
        snapshot = repository / "snapshots" / ("a" * 40)
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("a" * 40, encoding="utf-8")
        for file, content in files.items():
            (snapshot / file).write_text(content, encoding="utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


def test_a_folder_is_found(tmp_path: Path) -> None:
    assert resolve(str(tmp_path), "ufg") == tmp_path


def test_a_missing_folder_suggests_a_near_one(tmp_path: Path) -> None:
    (tmp_path / "stable-diffusion").mkdir()
    with pytest.raises(ModelError, match="no model folder") as error:
        resolve(str(tmp_path / "stable-difusion"), "ufg")
    assert error.value.hint == "Did you mean 'stable-diffusion'? There: stable-diffusion."


def test_a_misspelt_bundle_suggests_the_bundle() -> None:
    with pytest.raises(ModelError) as error:
        resolve("minni", "ufg")
    assert error.value.hint and "Did you mean 'mini'?" in error.value.hint


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(ModelError, match="is a file"):
        resolve(str(tmp_path / "model.ckpt"), "ufg")


def test_a_hub_id_is_not_fetched_offline(cache: Path) -> None:
    with pytest.raises(ModelError, match="someone/else is not in the Hugging Face cache") as error:
        resolve("someone/else", "ufg")
    assert error.value.hint and "FACESYN_OFFLINE" in error.value.hint


def test_the_fingerprint_is_of_names_and_contents(tmp_path: Path) -> None:
    for folder, order in (("one", (0, 1)), ("two", (1, 0))):
        (tmp_path / folder / "unet").mkdir(parents=True)
        files = [("unet/model.safetensors", b"weights"), ("model_index.json", b"{}")]
        for name, content in (files[index] for index in order):
            (tmp_path / folder / name).write_bytes(content)
    one = fingerprint(tmp_path / "one")
    assert len(one) == 64 and one == fingerprint(tmp_path / "two")
    (tmp_path / "two" / "README.md").write_text("a card is no weight", encoding="utf-8")
    assert one == fingerprint(tmp_path / "two")
    (tmp_path / "two" / "unet" / "model.safetensors").rename(tmp_path / "two" / "unet" / "other.safetensors")
    assert one != fingerprint(tmp_path / "two")
    (tmp_path / "one" / "model_index.json").write_bytes(b"{ }")
    assert one != fingerprint(tmp_path / "one")


def test_models_lists_cached_diffusers_folders_with_size_and_licence(facesyn: Any, cache: Path) -> None:
    result = facesyn("models", "--json")
    found = {model["name"]: model for model in json.loads(result.stdout)}
    assert found["someone/faces"]["licence"] == "openrail"
    assert found["someone/faces"]["part"] == "StableDiffusionPipeline"
    assert found["someone/faces"]["bytes"] > len(CARD)
    assert "someone/words" not in found
    assert "someone/faces" in facesyn("models").stdout
    assert resolve("someone/faces", "ufg").is_dir()


def test_models_lists_the_embedded_parts(facesyn: Any) -> None:
    mini = {model["part"]: model for model in json.loads(facesyn("models", "--json").stdout) if model["name"] == "mini"}
    assert {"ufg", "atd", "recogniser", "edges", "references"} <= set(mini)
    assert sum(model["bytes"] for model in mini.values()) < 64 * 2**20
    assert all(model["licence"] != "unknown" for model in mini.values())
    assert resolve("mini", "atd").is_dir()
    with pytest.raises(ModelError, match="has no 'adt'") as error:
        resolve("mini", "adt")
    assert error.value.hint and "Did you mean 'atd'?" in error.value.hint
