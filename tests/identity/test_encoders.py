"""Encoders by name, ONNX files, alignment and detectors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from facesyn.errors import FacesynError, ImageError, ModelError, UsageError
from facesyn.evaluation.verification import genuine_impostor, threshold_at_fmr
from facesyn.identity.alignment import TEMPLATE, align, align_all, similarity_to_template
from facesyn.identity.encoders import calibration_of, open_encoder, parse_encoder
from facesyn.labelled import LabelledFaces
from facesyn.registry import create
from facesyn.rendered import read_shards
from facesyn.testing import FaceDetectorContract, FaceEncoderContract, drawn_face


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small recogniser with random weights, as a folder `tiny` and exported as `tiny.onnx`."""
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    from facesyn.identity.backbones import export_onnx
    from facesyn.identity.networks import Recogniser

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("recogniser")
    model = Recogniser(size=112, dim=16, widths=(8, 8, 8, 8), blocks=(1, 1, 1, 1), reduced=8).eval()
    model.save_pretrained(folder / "tiny")
    export_onnx(model, folder / "tiny.onnx")
    return folder


class TestOnnxEncoder(FaceEncoderContract):
    @pytest.fixture(autouse=True)
    def _model(self, tiny: Path) -> None:
        self.path = tiny / "tiny.onnx"

    def make(self) -> Any:
        return open_encoder(f"onnx:{self.path}")


class TestFolderEncoder(FaceEncoderContract):
    @pytest.fixture(autouse=True)
    def _model(self, tiny: Path) -> None:
        self.path = tiny / "tiny"

    def make(self) -> Any:
        return open_encoder(f"recogniser:{self.path}")


class TestHaarDetector(FaceDetectorContract):
    def make(self) -> Any:
        return create("detector", "haar")


@pytest.mark.parametrize("options", [",crop=aligned", ",crop=aligned,flip=false"])
def test_onnx_and_torch_agree(tiny: Path, options: str) -> None:
    faces = [drawn_face(n, size=112) for n in range(3)]
    onnx, folder = open_encoder(f"onnx:{tiny}/tiny.onnx{options}"), open_encoder(f"recogniser:{tiny}/tiny{options}")
    np.testing.assert_allclose(onnx.embed(faces), folder.embed(faces), atol=1e-5)


def test_colour_order_and_normalisation_reach_the_model(tiny: Path) -> None:
    spec = f"onnx:{tiny}/tiny.onnx,crop=aligned,flip=false"
    face = drawn_face(1, size=112)
    swapped = Image.fromarray(np.ascontiguousarray(np.asarray(face)[:, :, ::-1]))
    np.testing.assert_allclose(
        open_encoder(f"{spec},colour=bgr").embed([face]), open_encoder(spec).embed([swapped]), atol=1e-6
    )
    darker = Image.fromarray((np.asarray(face) // 2 * 1).astype(np.uint8))
    doubled = Image.fromarray((np.asarray(darker).astype(int) * 2).clip(0, 255).astype(np.uint8))
    np.testing.assert_allclose(
        open_encoder(f"{spec},mean=63.75,std=63.75").embed([darker]), open_encoder(spec).embed([doubled]), atol=1e-5
    )


def test_flip_sum_is_blind_to_mirroring(tiny: Path) -> None:
    face = drawn_face(1, size=112)
    mirrored = face.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    encoder = open_encoder(f"onnx:{tiny}/tiny.onnx,crop=aligned")
    np.testing.assert_allclose(encoder.embed([face]), encoder.embed([mirrored]), atol=1e-5)
    plain = open_encoder(f"onnx:{tiny}/tiny.onnx,crop=aligned,flip=false")
    assert not np.allclose(plain.embed([face]), plain.embed([mirrored]), atol=1e-3)


def test_several_sizes_of_crop_make_the_size_of_a_face_matter_less(tiny: Path) -> None:
    faces = [drawn_face(n) for n in range(4)]
    larger = [
        face.resize((face.width + 8, face.height + 8)).crop((4, 4, face.width + 4, face.height + 4)) for face in faces
    ]

    def alike(options: str) -> float:
        encoder = open_encoder(f"recogniser:{tiny}/tiny{options}")
        return float((encoder.embed(faces) * encoder.embed(larger)).sum(1).mean())

    assert alike("") < alike(",zoom=0.04") < 1
    with pytest.raises(UsageError, match="zoom is a share"):
        open_encoder(f"recogniser:{tiny}/tiny,zoom=1.5")


def test_what_cannot_be_opened_is_named(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    (tmp_path / "empty").mkdir()
    for spec, error, words in (
        (f"onnx:{tmp_path}/none.onnx", ModelError, "no ONNX file"),
        (f"onnx:{tmp_path}/bad.onnx", ModelError, "cannot be loaded"),
        (f"onnx:{tiny}/tiny.onnx,colour=grb", UsageError, "no colour order"),
        (f"onnx:{tiny}/tiny.onnx,color=bgr", UsageError, "no option 'color'"),
        (f"recogniser:{tmp_path}/empty", ModelError, "holds none of"),
        ("onnx:", UsageError, "names no encoder"),
    ):
        with pytest.raises(error, match=words):
            open_encoder(spec)
    with pytest.raises(UsageError, match="has no calibration"):
        calibration_of(open_encoder(f"onnx:{tiny}/tiny.onnx"))


def test_a_spec_is_a_name_a_path_and_options() -> None:
    assert parse_encoder("mini") == ("mini", {})
    assert parse_encoder("onnx:a/b.onnx,colour=bgr,flip=false,std=128") == (
        "onnx",
        {"path": "a/b.onnx", "colour": "bgr", "flip": False, "std": 128},
    )


def test_alignment_is_the_least_squares_similarity() -> None:
    """Against the linear system written out: x' = a·x − b·y + s, y' = b·x + a·y + t."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        landmarks = TEMPLATE * rng.uniform(0.5, 3) + rng.normal(0, 6, (5, 2)) + rng.uniform(0, 200, 2)
        rows, target = [], []
        for (x, y), (u, v) in zip(landmarks, TEMPLATE, strict=True):
            rows += [[x, -y, 1, 0], [y, x, 0, 1]]
            target += [u, v]
        a, b, s, t = np.linalg.lstsq(np.array(rows), np.array(target), rcond=None)[0]
        np.testing.assert_allclose(similarity_to_template(landmarks), [[a, -b, s], [b, a, t]], atol=2e-3)


def test_aligned_landmarks_lie_on_the_template() -> None:
    image = Image.new("RGB", (400, 400))
    turn = np.array([[0.9, -0.3], [0.3, 0.9]]) * 2
    landmarks = TEMPLATE @ turn.T + (90, 60)
    for x, y in landmarks:
        ImageDraw.Draw(image).ellipse((x - 4, y - 4, x + 4, y + 4), fill="white")
    bright = np.asarray(align(image, landmarks).convert("L"), float)
    assert bright.shape == (112, 112)
    for x, y in TEMPLATE.round().astype(int):
        window = bright[y - 6 : y + 7, x - 6 : x + 7]
        ys, xs = np.mgrid[-6:7, -6:7]
        assert abs((window * xs).sum() / window.sum()) < 1 and abs((window * ys).sum() / window.sum()) < 1
    with pytest.raises(ImageError):
        align(image, np.full((5, 2), 7.0))


def test_haar_finds_rendered_faces_and_their_landmarks(shared: Path) -> None:
    from facesyn.rendered import read_shards

    faces = read_shards(shared / "data" / "renders", limit=200)
    detector = create("detector", "haar")
    frontal = [i for i, label in enumerate(faces.labels) if label["style"] == -1]
    found, errors = 0, []
    for index in frontal:
        face = faces.images[index]
        photo = np.full((400, 500, 3), 120, np.uint8)  # somewhere in a larger picture
        photo[100:356, 150:406] = np.asarray(Image.fromarray(face).resize((256, 256)))
        rows = detector.detect(Image.fromarray(photo))
        if len(rows) == 1:
            found += 1
            truth = np.array(faces.labels[index]["landmarks"]) * 2 + (150, 100)
            errors.append(np.abs(rows[0, 5:].reshape(5, 2) - truth).mean())
    assert found / len(frontal) > 0.8
    assert np.median(errors) < 256 * 0.05


def test_pictures_without_a_face_are_named_not_guessed() -> None:
    class Nothing:
        def detect(self, image: Image.Image) -> np.ndarray:
            return np.zeros((0, 15), np.float32)

    blank = LabelledFaces(["a.png"], np.array(["a"]), [{}], lambda i: Image.new("RGB", (64, 64)))
    kept, missed = align_all(blank, Nothing())
    assert len(kept) == 0 and missed == ["a.png"]


def test_yunet_wants_its_file(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no")
    for path in (tmp_path / "none.onnx", tmp_path / "x.onnx"):
        with pytest.raises(FacesynError, match="YuNet"):
            create("detector", "yunet", {"path": str(path)})


def test_the_embedded_recogniser_tells_unseen_people_apart(shared: Path) -> None:
    faces = read_shards(shared / "data" / "renders", "val-00023.tar")
    frontal = [index for index, label in enumerate(faces.labels) if abs(label["yaw"]) < 30]
    embeddings = open_encoder("mini").embed([Image.fromarray(faces.images[index]) for index in frontal])
    people = np.array([faces.labels[index]["identity"] for index in frontal])
    genuine, impostor = genuine_impostor(embeddings, people)
    assert (genuine > threshold_at_fmr(impostor, 0.01)).mean() > 0.98
