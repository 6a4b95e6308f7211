"""ONNX graphs and the runtimes that use them, on small models with random weights and on the embedded ones."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from facesyn.benchmark import PLAIN, Runtime, measure
from facesyn.errors import ModelError, UsageError
from facesyn.export import models as exporting
from facesyn.export.layout import GRAPHS, PARITY
from facesyn.records import PromptRow
from facesyn.registry import Role, create, load
from facesyn.stopwatch import watching
from facesyn.testing import drawn_edges, drawn_face

CPU = {"device": "cpu"}


def row(number: int) -> PromptRow:
    text = f"frontal portrait of a {20 + number} year old woman"
    return PromptRow(
        id=f"p{number}", ethnicity="x", gender="y", age_interval="18-29", prompt=text, negative_prompt="man", seed=1
    )


def drawn_faces(count: int) -> list[Image.Image]:
    return [drawn_face(number) for number in range(count)]


def difference(first: list[Image.Image], second: list[Image.Image]) -> float:
    """The mean difference of the pair that differs most, of 255."""
    pairs = zip(first, second, strict=True)
    return max(float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean()) for a, b in pairs)


def export(model: Path | str, output: Path, precision: str = "fp32") -> dict[str, Any]:
    return exporting.export_model(str(model), output, precision, None, lambda name: None)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A small SD 1.5-shaped model and a small ATD, exported; with the settings they are sampled with."""
    here = tmp_path_factory.mktemp("models")
    plain = tiny.sd15(here / "plain-ufg")
    (plain / "facesyn.json").write_text('{"steps": 3, "guidance_scale": 3.0, "conditioning_scale": 0.7}')
    (plain / "README.md").write_text("---\nlicense: mit\n---\n")
    tiny.atd(layout_channels=2).save_pretrained(here / "plain-atd")
    settings = {"steps": 3, "identity_scale": 2.0, "style_scale": 1.5, "identity_from": 1, "mirrored": True}
    (here / "plain-atd/facesyn.json").write_text(json.dumps(settings))
    parity = {part: export(here / f"plain-{part}", here / part) for part in ("ufg", "atd")}
    return SimpleNamespace(ufg=here / "ufg", atd=here / "atd", parity=parity)


def test_every_network_has_a_graph_that_says_what_torch_says(folders: SimpleNamespace) -> None:
    for part in ("ufg", "atd"):
        found = folders.parity[part]["networks"]
        assert set(found) == {f"{part}/{name}" for name in GRAPHS[part]}
        assert all(0 < max(errors.values()) <= 1e-3 for errors in found.values())
        folder = getattr(folders, part)
        assert json.loads((folder / PARITY).read_text()) == folders.parity[part]
        assert all((folder / file).is_file() for file in GRAPHS[part].values())
    assert "license: mit" in (folders.ufg / "README.md").read_text()
    assert sum(file.stat().st_size for file in folders.ufg.rglob("*.onnx")) < 500_000  # weights are in safetensors


def test_faces_are_those_of_torch_whatever_the_batch(folders: SimpleNamespace) -> None:
    rows, edges, seeds = [row(1), row(2), row(3)], [drawn_edges(1), drawn_edges(2), drawn_edges(3)], [4, 5, 6]
    options = {"model": str(folders.ufg)} | CPU
    onnx, pytorch = (create(Role.GENERATOR, name, options) for name in ("onnx", "diffusers"))
    made = onnx.generate(rows, edges, seeds)
    assert difference(made, pytorch.generate(rows, edges, seeds)) <= 2
    assert difference(made[1:2], onnx.generate(rows[1:2], edges[1:2], seeds[1:2])) <= 2
    assert difference(made[:1], onnx.generate(rows[:1], edges[1:2], seeds[:1])) > 0  # the ControlNet is heard
    assert onnx.facts()["provider"] == "cpu" and onnx.facts()["model"]["name"] == "ufg"
    assert onnx.facts()["conditioning_scale"] == pytorch.facts()["conditioning_scale"] == 0.7  # the model's own
    louder = create(Role.GENERATOR, "onnx", options | {"conditioning_scale": 2.0})
    assert difference(louder.generate(rows, edges, seeds), made) > 0


def test_transfers_are_those_of_torch_whatever_the_batch(folders: SimpleNamespace) -> None:
    sources, references, seeds = drawn_faces(3), drawn_faces(6)[3:], [4, 5, 6]
    options = {"model": str(folders.atd)} | CPU
    onnx, pytorch = (create(Role.TRANSFER, name, options) for name in ("onnx", "diffusers"))
    made = onnx.transfer(sources, references, seeds)
    assert difference(made, pytorch.transfer(sources, references, seeds)) <= 2
    assert difference(made[1:2], onnx.transfer(sources[1:2], references[1:2], seeds[1:2])) <= 2


@pytest.mark.parametrize("backend", ["onnx", "diffusers"])
def test_what_is_remembered_changes_no_byte(folders: SimpleNamespace, backend: str) -> None:
    faces = drawn_faces(4)
    fresh, used = (create(Role.TRANSFER, backend, {"model": str(folders.atd)} | CPU) for _ in range(2))
    used.transfer(faces[:1], faces[2:3], [1])
    first, second = (each.transfer(faces[:2], faces[2:], [1, 2]) for each in (fresh, used))
    assert [face.tobytes() for face in first] == [face.tobytes() for face in second]


def test_a_source_and_a_reference_are_encoded_once(folders: SimpleNamespace) -> None:
    from facesyn.atd import ATDPipeline
    from facesyn.atd.transfer import TransferSampler, transfer_settings

    pipeline = ATDPipeline.from_pretrained(folders.atd)
    calls = []
    encode = pipeline.encode
    pipeline.encode = lambda pictures: calls.append(len(pictures)) or encode(pictures)  # type: ignore[func-returns-value,method-assign]
    sampler = TransferSampler(pipeline, transfer_settings({}, steps=1))
    one, two, three = drawn_faces(3)
    sampler([one, one], [two, three], [1, 2])
    sampler([one], [three], [3])
    assert calls == [1, 1, 1]


@pytest.mark.parametrize("make", [tiny.sd15, tiny.sdxl], ids=["sd15", "sdxl"])
def test_the_loop_makes_what_the_pipeline_of_diffusers_makes(make: Any, tmp_path: Path) -> None:
    from facesyn_backends.diffusers.ufg import load_pipeline

    folder = make(tmp_path / "model")
    pipeline = load_pipeline(folder, folder / "controlnet")
    rows, edges, seeds = [row(1), row(2)], [drawn_edges(1), drawn_edges(2)], [8, 9]
    plain = pipeline(
        [each.prompt for each in rows],
        negative_prompt=[each.negative_prompt for each in rows],
        image=[edge.resize((64, 64), Image.Resampling.BICUBIC).convert("RGB") for edge in edges],
        num_inference_steps=4,
        guidance_scale=5.0,
        height=64,
        width=64,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
    ).images
    options = {"model": str(folder), "steps": 4, "guidance_scale": 5.0} | CPU
    assert difference(create(Role.GENERATOR, "diffusers", options).generate(rows, edges, seeds), plain) <= 1


def test_graphs_follow_weights_of_the_same_shape(folders: SimpleNamespace, tmp_path: Path) -> None:
    retrained = tmp_path / "model"
    shutil.copytree(folders.atd, retrained)
    for file in retrained.rglob("*.safetensors"):
        metadata = {"format": "pt"}
        save_file({name: tensor + 0.02 for name, tensor in load_file(file).items()}, file, metadata)
    faces = drawn_faces(2)
    pictures = [
        create(Role.TRANSFER, name, {"model": str(model)} | CPU).transfer(faces[:1], faces[1:], [1])
        for name, model in (("onnx", retrained), ("diffusers", retrained), ("onnx", folders.atd))
    ]
    assert difference(pictures[0], pictures[1]) <= 2 and difference(pictures[0], pictures[2]) > 2


def test_graphs_of_other_weights_are_refused(folders: SimpleNamespace, tmp_path: Path) -> None:
    other = tmp_path / "model"
    shutil.copytree(folders.atd, other)
    tiny.atd(layout_channels=4).unet.save_pretrained(other / "unet")
    with pytest.raises(ModelError, match="made for weights of another shape") as error:
        create(Role.TRANSFER, "onnx", {"model": str(other)} | CPU)
    assert "facesyn export" in str(error.value.hint)
    (other / "unet/model.onnx").unlink()
    with pytest.raises(ModelError, match="no ONNX graph"):
        create(Role.TRANSFER, "onnx", {"model": str(other)} | CPU)


def test_weights_in_half_precision_are_read_as_they_are(tmp_path: Path) -> None:
    tiny.atd().save_pretrained(tmp_path / "half", torch.float16)
    found = export(tmp_path / "half", tmp_path / "half")  # in its own folder: only graphs are added
    assert max(max(errors.values()) for errors in found["networks"].values()) <= 1e-3
    faces = drawn_faces(2)
    first, second = (
        create(Role.TRANSFER, name, {"model": str(tmp_path / "half"), "steps": 2} | CPU)
        for name in ("onnx", "diffusers")
    )
    assert difference(first.transfer(faces[:1], faces[1:], [1]), second.transfer(faces[:1], faces[1:], [1])) <= 2


@pytest.mark.parametrize(("precision", "most"), [("fp16", 0.02), ("int8", 0.2)])
def test_lower_precision_says_how_far_off_it_is(facesyn: Any, tmp_path: Path, precision: str, most: float) -> None:
    from facesyn.models import resolve

    recogniser = resolve("mini", "recogniser")
    result = facesyn("export", recogniser, "-o", tmp_path / "out", "--precision", precision, "--json")
    assert result.exit_code == 0, result.stderr
    error = json.loads(result.stdout)["networks"]["recogniser/recogniser"]["embeddings"]
    assert 0 < error < most


def test_an_exported_recogniser_is_an_encoder(tmp_path: Path) -> None:
    from facesyn.models import resolve

    folder = resolve("mini", "recogniser")
    faces = drawn_faces(3)
    aligned = {"crop": "aligned"} | CPU
    onnx = create(Role.ENCODER, "onnx", {"path": str(folder / "model.onnx")} | aligned)
    pytorch = create(Role.ENCODER, "recogniser", {"path": str(folder)} | aligned)
    assert np.abs(onnx.embed(faces) - pytorch.embed(faces)).max() < 1e-4


def test_the_embedded_models_make_the_same_pictures_in_both_runtimes() -> None:
    rows, edges, faces = [row(1), row(2)], [drawn_edges(1), drawn_edges(2)], drawn_faces(2)
    generators = [create(Role.GENERATOR, name, {"steps": 3} | CPU) for name in ("auto", "diffusers")]
    assert [each.facts()["backend"] for each in generators] == ["onnx", "diffusers"]
    assert difference(*(each.generate(rows, edges, [1, 2]) for each in generators)) <= 2
    transfers = [create(Role.TRANSFER, name, CPU) for name in ("auto", "diffusers")]
    assert difference(*(each.transfer(faces, faces[::-1], [1, 2]) for each in transfers)) <= 2


def test_without_onnxruntime_or_graphs_the_default_is_torch(
    folders: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import facesyn_backends.auto as auto

    ungraphed = tiny.sd15(tmp_path / "ungraphed")
    assert create(Role.GENERATOR, "auto", {"model": str(ungraphed)} | CPU).facts()["backend"] == "diffusers"
    half = {"model": str(folders.atd), "dtype": "bf16"} | CPU
    assert create(Role.TRANSFER, "auto", half).facts()["backend"] == "diffusers"
    monkeypatch.setattr(auto, "find_spec", lambda name: None)
    assert create(Role.TRANSFER, "auto", {"model": str(folders.atd)} | CPU).facts()["backend"] == "diffusers"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--provider", "tensorrt"), "has no TensorrtExecutionProvider; it has cpu"),
        (("--provider", "cuda"), "pip install onnxruntime-gpu"),
        (("--provider", "cdua"), "Did you mean 'cuda'?"),
    ],
)
def test_a_missing_provider_says_what_to_install(
    facesyn: Any, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(facesyn("prompts", "-n", 1).stdout)
    result = facesyn("generate", prompts, "-o", tmp_path / "faces", *arguments)
    assert result.exit_code == 2 and says in result.stderr and not (tmp_path / "faces").exists()


def test_providers_are_chosen_and_told_what_they_need(tmp_path: Path) -> None:
    from facesyn_backends.onnx.providers import PROVIDERS, choose_provider, provider_options

    everything = list(PROVIDERS.values())
    assert choose_provider("auto", "auto", everything) == "cuda"
    assert choose_provider("auto", "cpu", everything) == "cpu"
    assert choose_provider("auto", "auto", [PROVIDERS["cpu"]]) == "cpu"
    assert choose_provider("tensorrt", "auto", everything) == "tensorrt"
    with pytest.raises(UsageError, match="no CUDAExecutionProvider"):
        choose_provider("auto", "cuda:1", [PROVIDERS["cpu"]])
    assert provider_options("cpu", {}, tmp_path) == [(PROVIDERS["cpu"], {})]
    (first, options), (second, _), (third, _) = provider_options(
        "tensorrt", {"z": (4, 64, 64), "t": ()}, tmp_path, half=True, index=1
    )
    assert [first, second, third] == [PROVIDERS[name] for name in ("tensorrt", "cuda", "cpu")]
    assert options["trt_profile_min_shapes"] == "z:1x4x64x64,t:1"
    assert options["trt_profile_max_shapes"].startswith("z:64x4x64x64")
    assert options["trt_fp16_enable"] == "True" and options["trt_engine_cache_path"] == str(tmp_path)
    assert options["device_id"] == "1"


def test_export_without_its_extra_says_what_to_install(
    facesyn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxscript" else object())
    result = facesyn("export", "mini", "-o", tmp_path / "out")
    assert result.exit_code == 1 and "Export needs onnxscript." in result.stderr
    assert "pip install 'facesyn[onnx]'" in result.stderr and not (tmp_path / "out").exists()


def test_export_of_what_has_no_graphs_is_refused(facesyn: Any, tmp_path: Path) -> None:
    folder = tiny.sdxl(tmp_path / "model")
    result = facesyn("export", folder, "-o", tmp_path / "out")
    assert result.exit_code == 1 and "StableDiffusionXL" in result.stderr
    result = facesyn("export", folder, "-o", tmp_path / "out", "--precision", "fp8")
    assert result.exit_code == 2 and "precision called 'fp8'" in result.stderr


def test_the_benchmark_compares_everything_with_plain_diffusers(folders: SimpleNamespace) -> None:
    compared = [
        Runtime("onnx", "onnx", CPU, str(folders.ufg), str(folders.atd)),
        Runtime("torch", "diffusers", CPU, str(folders.ufg), str(folders.atd)),
    ]
    found = measure(compared, 1, lambda line: None)
    for stage in ("generate", "transfer"):
        assert set(found[stage]) == {PLAIN, "onnx", "torch", "networks alone"}
        assert all(speed > 0 for speeds in found[stage].values() for speed in speeds.values())
        assert found[stage]["networks alone"]["batch 8"] > found[stage]["onnx"]["batch 8"]
        for suffix in ("", "_batch_1", "_batch_8"):
            assert found["ratios"][f"{stage}_vs_diffusers{suffix}"] > 0
            assert found["cpu_ratios"][f"{stage}_vs_diffusers{suffix}"] > 0


def test_a_stopwatch_counts_nested_networks_once_and_leaves_no_trace() -> None:
    detector = load(Role.DETECTOR, "haar")
    before = detector.detect
    layers = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    with watching((detector, "detect")) as watch:
        assert detector.detect is not before
        layers(torch.zeros(1, 8))
    counted = watch.seconds
    assert counted > 0 and watch.depth == 0
    layers(torch.zeros(1, 8))
    assert watch.seconds == counted and detector.detect is before
