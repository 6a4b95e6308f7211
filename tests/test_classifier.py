"""The CLIP classifier on a small random CLIP, and the embedded attribute network: what they say of categories."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig

from facesyn.errors import ModelError
from facesyn.identity.encoders import open_classifier
from facesyn.registry import create
from facesyn.rendered import read_shards
from facesyn.testing import AttributeClassifierContract, drawn_face


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder, words = tmp_path_factory.mktemp("clip"), tiny.tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    config = CLIPConfig(
        text_config=tiny.text_config(words).to_dict(), vision_config=vision.to_dict(), projection_dim=16
    )
    CLIPModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


class TestClipClassifier(AttributeClassifierContract):
    @pytest.fixture(autouse=True)
    def _model(self, clip: Path) -> None:
        self.path = clip

    def make(self) -> Any:
        return open_classifier(f"clip,model={self.path}", {"genders": ["female", "male"]})


def test_it_says_shares_of_the_plans_categories(clip: Path) -> None:
    classifier = create("classifier", "clip", {"model": str(clip), "ethnicities": ["A", "B", "C"]})
    faces = [drawn_face(1), drawn_face(2, size=90)]
    found = classifier.classify(faces)
    assert len(found) == 2 and set(found[0]) == {"ethnicity", "gender", "age_interval"}
    assert set(found[0]["ethnicity"]) == {"A", "B", "C"} and set(found[0]["gender"]) == {"female", "male"}
    for said in found:
        assert all(sum(shares.values()) == pytest.approx(1, abs=1e-5) for shares in said.values())
    assert classifier.classify(faces[:1])[0]["gender"]["male"] == pytest.approx(found[0]["gender"]["male"], abs=1e-5)


def test_it_agrees_with_the_library(clip: Path) -> None:
    from transformers import AutoTokenizer, CLIPImageProcessor

    classifier = create("classifier", "clip", {"model": str(clip)})
    face = drawn_face(3, size=32)
    model, words = CLIPModel.from_pretrained(clip).eval(), AutoTokenizer.from_pretrained(clip)
    sentences = [classifier.SENTENCES["gender"].format(word) for word in ("female", "male")]
    pixels = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)(face, return_tensors="pt")
    with torch.no_grad():
        logits = model(**words(sentences, padding=True, return_tensors="pt"), **pixels).logits_per_image
    expected = dict(zip(("female", "male"), logits.softmax(1)[0].tolist(), strict=True))
    assert classifier.classify([face])[0]["gender"] == pytest.approx(expected, abs=1e-3)


def test_another_kind_of_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no CLIP model"):
        create("classifier", "clip", {"model": str(tmp_path)})


class TestMiniClassifier(AttributeClassifierContract):
    def make(self) -> Any:
        return open_classifier("mini", {"genders": ["female", "male"]})


def test_the_embedded_classifier_knows_the_default_cells_of_unseen_renders(shared: Path) -> None:
    faces = read_shards(shared / "data" / "renders", limit=400)
    chosen = list(faces.sources.values())
    found = open_classifier("mini", {}).classify([Image.fromarray(faces.images[index]) for index in chosen])
    for attribute, least in (("ethnicity", 0.85), ("gender", 0.85), ("age_interval", 0.5)):
        hits = [
            max(each[attribute], key=each[attribute].__getitem__) == faces.labels[index][attribute]
            for each, index in zip(found, chosen, strict=True)
        ]
        assert sum(hits) / len(hits) > least


def test_a_folder_that_is_no_attribute_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        create("classifier", "mini", {"model": str(tmp_path)})
