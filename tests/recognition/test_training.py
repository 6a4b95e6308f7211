"""Recogniser training: heads against their formulas, and a real run on a few drawn people, also when cut off."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from facesyn.errors import RunError, UsageError
from facesyn.identity.backbones import BACKBONES, IResNet, MobileFaceNet, new_backbone
from facesyn.identity.encoders import open_encoder
from facesyn.labelled import read_labelled
from facesyn.recognition.faces import augment, read_training_faces
from facesyn.recognition.heads import HEADS, MarginHead
from facesyn.recognition.recipes import PROTOCOLS, Augmentation, protocol
from facesyn.recognition.train import train_on_people
from facesyn.testing import drawn_face


@pytest.mark.parametrize("kind", HEADS)
def test_heads_are_their_formulas(kind: str) -> None:
    """Against numbers worked out one by one with `math`."""
    torch.manual_seed(0)
    head = MarginHead(kind, 6, 5, margin=0.4, scale=32.0).eval()
    head.norm_mean.fill_(2.5)
    head.norm_std.fill_(0.8)
    embeddings, labels = torch.randn(7, 6), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    embeddings[6] = (
        -3 * head.weight[1].detach() / head.weight[1].norm()
    )  # θ = π: beyond where ArcFace's turn would wrap
    found = head.logits(embeddings, labels).detach()
    for i, row in enumerate(embeddings.tolist()):
        norm = math.sqrt(sum(v * v for v in row))
        for j, weight in enumerate(head.weight.tolist()):
            dot = sum(a * b for a, b in zip(row, weight, strict=True))
            cosine = max(-1 + 1e-6, min(1 - 1e-6, dot / norm / math.sqrt(sum(v * v for v in weight))))
            expected = cosine
            if j == int(labels[i]):
                angle = math.acos(cosine)
                if kind == "arcface":
                    expected = math.cos(angle + 0.4) if angle + 0.4 < math.pi else cosine - 0.4 * math.sin(0.4)
                elif kind == "cosface":
                    expected = cosine - 0.4
                else:
                    quality = max(-1.0, min(1.0, (norm - 2.5) / (0.8 + 1e-3) * 0.333))
                    turned = max(1e-3, min(math.pi - 1e-3, angle - 0.4 * quality))
                    expected = math.cos(turned) - 0.4 - 0.4 * quality
            assert float(found[i, j]) == pytest.approx(32 * expected, abs=1e-3)


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_have_their_published_size(name: str) -> None:
    """Millions of parameters as published: 24, 34, 44 and 65 for IResNet, about 1 for MobileFaceNet."""
    millions = {
        "iresnet18": 24.0,
        "iresnet34": 34.1,
        "iresnet50": 43.6,
        "iresnet100": 65.2,
        "mobilefacenet": 1.0,
        "mini": 1.4,
    }
    with torch.device("meta"):
        model = new_backbone(name)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions[name], rel=0.03)


def test_backbones_embed() -> None:
    for model, dim in ((MobileFaceNet().eval(), 128), (IResNet(18, dim=32, width=4).eval(), 32)):
        with torch.no_grad():
            assert model(torch.zeros(2, 3, 112, 112)).shape == (2, dim)


def test_protocols_are_named_and_complete() -> None:
    assert set(PROTOCOLS) == {"atd", "dcface", "vec2face", "cemiface"}
    for each in PROTOCOLS.values():
        assert each.backbone in BACKBONES and each.head in HEADS
        assert [each.rate(e) for e in (0, each.milestones[0], each.epochs - 1)] == pytest.approx(
            [0.1, 0.01, 0.1 * 0.1 ** len(each.milestones)]
        )
    assert protocol("atd").adapted(epochs=16, head=None).milestones == (10, 14)
    with pytest.raises(UsageError, match="no protocol"):
        protocol("arcface")


def test_augmentation_depends_on_its_draw_alone() -> None:
    picture = torch.rand(3, 112, 112) * 2 - 1
    all_of_it = Augmentation(crop=1, jitter=1, low_resolution=1, erase=1)
    one, again, other = (augment(picture, all_of_it, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.shape == picture.shape and float(one.abs().max()) <= 1
    assert torch.equal(augment(picture, Augmentation(flip=1), np.random.default_rng(0)), picture.flip(2))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 drawn people × 4 pictures, noisy."""
    folder, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    for person in range(4):
        (folder / f"p{person}").mkdir()
        for number in range(4):
            noisy = np.asarray(drawn_face(person, size=64), int) + rng.integers(-15, 15, (64, 64, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"p{person}" / f"{number}.png")
    return folder


TINY = protocol("atd").adapted(backbone="mobilefacenet", epochs=4, batch_size=8, learning_rate=0.05, scale=16.0)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model" / "diffusion_pytorch_model.safetensors")


def test_a_run_that_was_cut_off_ends_as_a_whole_one(people: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    faces = read_labelled(people)
    assert train_on_people(faces, tmp_path / "whole", TINY, onnx=False)
    assert not train_on_people(faces, tmp_path / "parts", TINY, stop_after=3, onnx=False)
    assert not (tmp_path / "parts" / "model").exists()
    assert train_on_people(faces, tmp_path / "parts", TINY, onnx=False)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.allclose(whole[name], parts[name], atol=1e-6) for name in whole)
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [1, 2, 3, 4] and log[-1]["loss"] < log[0]["loss"]
    with pytest.raises(RunError, match="another protocol"):
        train_on_people(faces, tmp_path / "whole", TINY.adapted(margin=0.3), onnx=False)
    with pytest.raises(RunError, match="another people and images and data"):
        train_on_people(faces.subset(range(8)), tmp_path / "whole", TINY, onnx=False)


def test_two_processes_share_an_epoch(people: Path, tmp_path: Path) -> None:
    """They begin in the same new folder, and one of them writes what both learned."""
    options = f"--dataset {people} --backbone mini --epochs 2 --batch-size 8 --fp32 -o {tmp_path / 'run'}"
    launch = [sys.executable, *"-m torch.distributed.run --standalone --nproc_per_node 2".split()]
    command = [*launch, "-m", "facesyn", "train", "recogniser", *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [1, 2]
    encoder = open_encoder(f"recogniser:{tmp_path / 'run' / 'model'}", {"crop": "facesyn"})
    assert encoder.embed([drawn_face(0)]).shape == (1, 128)


def test_command_trains_and_exports_what_encoders_read(
    facesyn: Callable[..., Any], people: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    words = [
        "--backbone",
        "mobilefacenet",
        "--head",
        "adaface",
        "--epochs",
        1,
        "--batch-size",
        8,
        "--threads",
        1,
        "--fp32",
    ]
    output = tmp_path / "run"
    result = facesyn("train", "recogniser", "--dataset", people, "--protocol", "dcface", "-o", output, *words)
    assert result.exit_code == 0, result.stderr
    faces = [Image.open(people / "p0" / "0.png").resize((112, 112))]
    onnx = open_encoder(f"onnx:{output}/model.onnx,crop=aligned").embed(faces)
    folder = open_encoder(f"recogniser:{output}/model,crop=aligned").embed(faces)
    np.testing.assert_allclose(onnx, folder, atol=1e-4)
    for wrong, said in (
        (["--backbone", "resnet"], "no backbone"),
        (["--head", "softmax"], "no head"),
        (["--protocol", "x"], "no protocol"),
        (["--data", people], "without --data"),
    ):
        refused = facesyn("train", "recogniser", "--dataset", people, "-o", tmp_path / "no", *wrong)
        assert refused.exit_code == 2 and said in refused.stderr, refused.stderr


def test_sources_are_seen_as_often_as_the_protocol_says(people: Path, tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    (tmp_path / "images").mkdir()
    rows = []
    for person in range(4):
        Image.open(people / f"p{person}" / "0.png").save(tmp_path / "sources" / f"p{person}.png")
        for number in range(2):
            name = f"p{person}-{number}.png"
            Image.open(people / f"p{person}" / f"{number}.png").save(tmp_path / "images" / name)
            rows.append(json.dumps({"file_name": name, "identity": f"p{person}"}))
    (tmp_path / "images" / "metadata.jsonl").write_text("\n".join(rows))
    assert len(read_training_faces(tmp_path)) == 8
    repeated = read_training_faces(tmp_path, source_repeats=5)
    assert len(repeated) == 8 + 4 * 5 and {len(m) for m in repeated.members().values()} == {7}
