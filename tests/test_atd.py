"""ATD's networks, sampling loop and folder format, on a small model with random weights."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image, ImageOps

from facesyn.atd import ATDPipeline, Style, StyleEncoder, sampling
from facesyn.atd.transfer import TransferSampler, transfer_settings
from facesyn.errors import ModelError, UsageError
from facesyn.tensors import to_pictures, to_tensor


@pytest.fixture(scope="module", params=[0, 4], ids=["tokens", "tokens and layout"])
def pipeline(request: pytest.FixtureRequest) -> ATDPipeline:
    return tiny.atd(layout_channels=request.param)


def faces(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_saved_folder_loads_to_the_same_pictures(pipeline: ATDPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    again = ATDPipeline.from_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["style_encoder"] == ["facesyn.atd", "StyleEncoder"]
    made = [p(faces(2), faces(2, 1), [1, 2], steps=3) for p in (pipeline, again)]
    assert torch.allclose(*made, atol=1e-4)  # loaded weights lie elsewhere in memory, and sums differ in the last bit
    assert made[0].shape == (2, 3, 64, 64) and made[0].abs().max() <= 1


def test_only_known_classes_are_loaded(pipeline: ATDPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"unet": ["subprocess", "Popen"]}))
    with pytest.raises(ModelError, match="subprocess"):
        ATDPipeline.from_pretrained(tmp_path)


def test_another_kind_of_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model_index.json"):
        ATDPipeline.from_pretrained(tmp_path)


def test_noise_does_not_depend_on_the_batch() -> None:
    together = sampling.noise([4, 5, 6], (4, 8, 8))
    assert torch.equal(together[1], sampling.noise([5], (4, 8, 8))[0])


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1.5, 1.0), (1.0, 2.0), (2.0, 1.5), (1.0, 0.0)])
def test_guidance_is_the_published_combination(scales: tuple[float, float]) -> None:
    calls = 0

    def network(joined: torch.Tensor, t: torch.Tensor, style: Style) -> torch.Tensor:
        nonlocal calls
        calls += 1
        z_t, z_id = joined.chunk(2, 1)
        return z_t + 10 * z_id + 100 * style.tokens.mean((1, 2)).view(-1, 1, 1, 1)

    z_t, z_id, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor(5)
    style, none = Style(torch.ones(2, 3, 6), None), Style(torch.zeros(2, 3, 6), None)
    identity, styled = scales
    result = sampling.guided(network, z_t, t, z_id, style, none, identity, styled)
    nothing, with_id = z_t, z_t + 10 * z_id
    expected = nothing + identity * (with_id - nothing) + styled * 100
    assert torch.allclose(result, expected, atol=1e-4)
    assert calls == 1


def test_without_a_reference_the_style_residual_is_zero() -> None:
    encoder = StyleEncoder(4, width=16, depth=1, grid=2, token_dim=8, vector_dim=4, layout_channels=2).eval()
    style = encoder(torch.randn(3, 4, 8, 8))
    assert style.tokens.shape == (3, 5, 8)
    absent = encoder.absent(style, torch.tensor([True, False, False]))
    assert torch.equal(absent.tokens[0], encoder.base) and torch.equal(absent.tokens[1:], style.tokens[1:])
    assert absent.vector is not None and style.vector is not None
    assert not absent.vector[0].any() and torch.equal(absent.vector[1:], style.vector[1:])
    assert absent.layout is not None and style.layout is not None and style.layout.shape == (3, 2, 8, 8)
    assert not absent.layout[0].any() and torch.equal(absent.layout[1:], style.layout[1:])


def test_the_style_reaches_the_picture(pipeline: ATDPipeline) -> None:
    made = [pipeline(faces(1), faces(1, seed), [1], steps=3) for seed in (1, 2)]
    assert not torch.equal(*made)
    ignored = [pipeline(faces(1), faces(1, seed), [1], steps=3, style_scale=0) for seed in (1, 2)]
    assert torch.allclose(*ignored, atol=1e-5)


def test_the_identity_scale_can_hold_from_a_later_step_on(pipeline: ATDPipeline) -> None:
    def made(**scales: float) -> torch.Tensor:
        return pipeline(faces(1), faces(1, 1), [1], steps=3, **scales)  # type: ignore[arg-type]

    always, later, never = (made(identity_scale=2.0, identity_from=step) for step in (0, 2, 3))
    assert torch.equal(never, made())
    assert not torch.equal(later, never) and not torch.equal(later, always)


def test_of_fewer_steps_than_a_model_was_made_for_the_last_is_guided() -> None:
    defaults = {"steps": 4, "identity_scale": 2.0, "identity_from": 3}
    found = [transfer_settings(defaults, steps).identity_from for steps in (None, 2, 1)]
    assert found == [3, 1, 0]
    assert transfer_settings(defaults, 2, identity_from=2).identity_from == 2  # asked for


def test_mirrored_it_is_the_mean_of_a_face_and_of_that_from_mirrored_pictures(pipeline: ATDPipeline) -> None:
    source, reference = to_pictures(faces(2))
    mirror = ImageOps.mirror

    def made(source: Image.Image, reference: Image.Image, mirrored: bool) -> np.ndarray:
        sampler = TransferSampler(pipeline, transfer_settings({"steps": 1, "mirrored": mirrored}))
        assert sampler.facts()["mirrored"] is mirrored
        return np.asarray(sampler([source], [reference], [1])[0], float)

    once, other = made(source, reference, False), made(mirror(source), mirror(reference), False)[:, ::-1]
    assert np.abs(once - other).mean() > 2
    assert np.abs(made(source, reference, True) - (once + other) / 2).max() <= 1
    tensors = (to_tensor([picture], pipeline.size) for picture in (source, reference))
    whole = to_pictures(pipeline(*tensors, [1], steps=1, mirrored=True))  # of tensors the same
    assert np.abs(made(source, reference, True) - np.asarray(whole[0], float)).max() <= 1
    assert transfer_settings({"mirrored": True}, mirrored=False).mirrored is False  # asked for


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": -2}, {"identity_scale": -1.0}, {"style_scale": math.nan}])
def test_what_cannot_be_sampled_with_is_refused(wrong: dict[str, float]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(UsageError, match=f"{name} is at least .*, not {value}"):
        transfer_settings({"steps": 4}, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=name):  # nor if a model's own file says so
        transfer_settings(wrong)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"mirrored": "no"}, "mirrored in the model's facesyn.json is true or false, not 'no'"),
        ({"mirrored": 1}, "mirrored in the model's facesyn.json is true or false, not 1"),
        ({"steps": "few"}, "steps in the model's facesyn.json is a number, not 'few'"),
        ({"style_scale": True}, "style_scale in the model's facesyn.json is a number, not True"),
    ],
)
def test_settings_of_a_model_that_make_no_sense_are_refused(said: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ModelError, match=wanted):
        transfer_settings(said)
    assert transfer_settings(said, steps=2, style_scale=1.0, mirrored=True).mirrored  # what is asked for goes first
