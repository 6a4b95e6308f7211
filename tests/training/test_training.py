"""The training loop, captions and measures. Whole trainings are too long for tests; a few steps of each are not."""

import json
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler
from safetensors.torch import save_file
from torch import nn

from facesyn.errors import FacesynError, ModelError, UsageError
from facesyn.evaluation.measures import psnr, ssim_map
from facesyn.evaluation.transfer import evaluate_transfer, face_boxes
from facesyn.evaluation.verification import genuine_impostor, threshold_at_fmr
from facesyn.models import resolve
from facesyn.prompting.formulation import load
from facesyn.rendered import RenderedFaces, StylePairs
from facesyn.training import augmentation, colour_path
from facesyn.training.autoencoder import new_autoencoder
from facesyn.training.captions import attributes_of, caption_of
from facesyn.training.latents import channel_weights, encode_faces
from facesyn.training.loop import Losses, Run, Settings
from facesyn.training.release import release_model
from facesyn.training.schedule import clean_estimate, draw_timesteps, new_scheduler, predicts_noise
from facesyn.training.tokenizer import train_tokenizer


def fit_line(folder: Path, steps: int, minutes: float | None = None) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    settings = Settings(
        steps, 8, 0.05, warmup=2, bf16=False, threads=1, report_every=2, validate_every=4, minutes=minutes
    )
    run = Run(folder, model, settings)

    def losses(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        x = torch.randn(8, 4, generator=generator)
        return {"square": (model(x) - x.sum(1, keepdim=True)).square().mean()}

    run.go(losses, lambda average, step: {"weight": float(average.weight.sum())}, lambda line: None)
    return run.module


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole = fit_line(tmp_path / "whole", 40)
    for _ in range(40):  # every sitting is over after one step
        parts = fit_line(tmp_path / "parts", 40, minutes=0)
    assert torch.equal(whole.weight, parts.weight)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["square"] < lines[0]["square"] / 10 and "held_out_weight" in lines[-1]


def test_a_run_begins_from_what_fits_of_another(tmp_path: Path) -> None:
    fit_line(tmp_path / "first", 4)
    settings = Settings(1, 1, 0.1, threads=1, start=tmp_path / "first")
    old = torch.load(tmp_path / "first" / "checkpoint.pt", weights_only=True)["average"]
    assert torch.equal(Run(tmp_path / "same", nn.Linear(4, 1), settings).average.weight, old["weight"])
    wider = nn.Linear(6, 1)
    before = wider.weight.clone()
    Run(tmp_path / "wider", wider, settings)
    assert torch.equal(wider.weight, before) and torch.equal(wider.bias, old["bias"])
    (tmp_path / "saved").mkdir()
    save_file(old, tmp_path / "saved" / "model.safetensors")
    from_model = Run(tmp_path / "from_model", nn.Linear(4, 1), replace(settings, start=tmp_path / "saved"))
    assert torch.equal(from_model.average.weight, old["weight"])
    with pytest.raises(UsageError, match="shares no tensor"):
        Run(tmp_path / "other", nn.Conv2d(2, 2, 1), settings)
    with pytest.raises(UsageError, match="no weights"):
        Run(tmp_path / "none", nn.Linear(4, 1), replace(settings, start=tmp_path))


def test_a_training_that_is_told_to_stop_ends_with_a_checkpoint(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    run = Run(tmp_path, model, Settings(50, 1, 0.1, bf16=False, threads=1))

    def losses(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        if run.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return {"square": model(torch.ones(1, 1)).square().mean()}

    assert not run.go(losses, lambda average, step: {}, lambda line: None)
    assert Run(tmp_path, nn.Linear(1, 1), run.settings).step == 4
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path, nn.Linear(1, 1), Settings(3, 1, 1.0, bf16=False))
    with pytest.raises(FacesynError, match="step 0 is not finite"):
        run.go(lambda rng, generator: {"x": run.module(torch.tensor([[float("nan")]])).sum()}, lambda m, s: {}, print)


LABEL: dict[str, Any] = {
    "identity": "1",
    "ethnicity": "Caucasian",
    "gender": "male",
    "age": 34,
    "skin": "fair skin",
    "hair_style": "short tousled",
    "hair_color": "greying brown",
    "facial_hair": "full beard",
    "eye_color": "blue",
    "lipstick": False,
    "targets": {"head/head-square": 0.4, "head/head-oval": 0.1, "nose/nose-scale-horiz-incr": 0.5},
    "freckle": 0.0,
    "brow_gain": 1.3,
}


def test_captions_say_what_the_label_knows() -> None:
    attributes = attributes_of(LABEL)
    assert attributes["face_shape"] == "square" and attributes["nose"] == "wide" and attributes["eyebrows"] == "heavy"
    caption = caption_of(LABEL, load(), random.Random(1))
    for words in ("34", "Caucasian man", "square face", "wide nose", "heavy eyebrows", "full beard", "fair skin"):
        assert words in caption
    unmeasured = attributes_of({key: value for key, value in LABEL.items() if key != "targets"})
    assert "nose" not in unmeasured and "freckles" not in unmeasured
    assert "hair_color" not in attributes_of(LABEL | {"hair_style": "bald"})


def test_every_caption_word_is_one_a_prompt_can_have() -> None:
    from facesyn.demographics import Demographics

    rng = random.Random(0)
    written: set[str] = set()
    for cell in Demographics().cells:
        for _ in range(60):
            written |= set(load().render_prompt(load().sample_attributes(cell, rng), rng).replace(",", "").split())
    said = set(caption_of(LABEL, load(), rng).replace(",", "").split())
    assert said <= written | {"34"}


def test_the_tokenizer_knows_every_text_and_starts_and_ends_like_clips(tmp_path: Path) -> None:
    words = train_tokenizer(["a woman with blue eyes"] * 4, vocabulary_size=560)
    words.save_pretrained(tmp_path)
    again = type(words).from_pretrained(tmp_path, local_files_only=True)
    for text in ("a woman with blue eyes", "Ünïcödé 123 ☃"):
        ids = again(text, padding="max_length", truncation=True).input_ids
        assert len(ids) == 77 and ids[0] == again.bos_token_id and again.eos_token_id in ids
    assert again("a woman").input_ids == again("A  WOMAN").input_ids


def test_ssim_and_psnr_agree_with_their_definitions() -> None:
    a = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ssim_map(a, a), torch.ones_like(a), atol=1e-4)
    assert ssim_map(a, 1 - a).mean() < 0
    assert torch.allclose(psnr(a, a + 0.1), torch.full((2,), 20.0), atol=1e-3)
    flat, flatter = torch.full((1, 1, 16, 16), 0.4), torch.full((1, 1, 16, 16), 0.6)
    expected = (2 * 0.24 + 1e-4) / (0.16 + 0.36 + 1e-4)  # variances are zero: the luminance term alone
    assert torch.allclose(ssim_map(flat, flatter), torch.tensor(expected), atol=1e-3)


def test_the_face_box_grows_by_half_its_longer_side() -> None:
    landmarks = np.array([[[50, 60], [80, 60], [65, 80], [55, 100], [75, 100]]], float)
    assert face_boxes(landmarks, 128) == [(30, 40, 100, 120)]


def test_thresholds_hold_their_rate_and_refuse_too_few_pairs() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 16))
    points = np.repeat(centres, 5, 0) + 0.1 * rng.normal(size=(200, 16))
    embeddings = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype("f4")
    genuine, impostor = genuine_impostor(embeddings, np.repeat(np.arange(40), 5))
    assert len(genuine) == 40 * 10 and len(impostor) == 200 * 199 // 2 - 400
    threshold = threshold_at_fmr(impostor, 0.01)
    assert abs((impostor > threshold).mean() - 0.01) < 1e-3 and (genuine > threshold).mean() > 0.99
    with pytest.raises(FacesynError, match="cannot support"):
        threshold_at_fmr(impostor, 1e-5)


def test_pairs_share_a_style_and_never_a_person(renders: RenderedFaces) -> None:
    pairs = StylePairs.of(renders.labels)
    assert len(pairs) > 500
    for target, source, references in list(zip(pairs.target, pairs.source, pairs.references, strict=True))[::20]:
        wanted = renders.labels[target]
        assert renders.labels[source]["identity"] == wanted["identity"] and renders.labels[source]["style"] == -1
        for reference in references:
            assert renders.labels[reference]["style"] == wanted["style"]
            assert renders.labels[reference]["identity"] != wanted["identity"]


def test_the_autoencoder_trains_and_is_saved_with_standard_latents(renders: RenderedFaces, tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    from facesyn.atd import sampling
    from facesyn.training.autoencoder import train_autoencoder

    few = RenderedFaces(renders.images[:16], renders.labels[:16])
    settings = Settings(
        steps=4, batch_size=1, learning_rate=1e-3, threads=1, report_every=2, validate_every=4, warmup=1
    )
    train_autoencoder(few, few, tmp_path, settings, lambda line: None)
    saved = AutoencoderKL.from_pretrained(tmp_path / "vae", local_files_only=True)
    with torch.no_grad():
        latents = sampling.encode(saved, few.batch(range(16)))
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(latents.shape[1]), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(latents.shape[1]), atol=1e-3, rtol=0)


def test_latents_are_encoded_once_per_set_of_faces(renders: RenderedFaces, tmp_path: Path) -> None:
    folder, notes = resolve("mini", "atd") / "vae", list[str]()
    sets = [RenderedFaces(renders.images[part], renders.labels[part]) for part in (slice(0, 4), slice(4, 8))]
    first, again, other = (
        encode_faces(folder, faces, tmp_path / "latents.npz", notes.append, flips=False)
        for faces in (sets[0], sets[0], sets[1])
    )
    assert torch.equal(first, again) and not torch.equal(first, other) and len(notes) == 2


def test_standard_latents_decode_to_the_same_picture(renders: RenderedFaces) -> None:
    from facesyn.training.autoencoder import standardised

    model = new_autoencoder(renders.images.shape[1], latent_channels=4)
    few = RenderedFaces(renders.images[:16], renders.labels[:16])
    standard = standardised(model, few, count=16)
    with torch.no_grad():
        pictures = few.batch(range(2))
        plain = model.decode(model.encode(pictures).latent_dist.mode()).sample
        torch.testing.assert_close(
            standard.decode(standard.encode(pictures).latent_dist.mode()).sample, plain, atol=1e-4, rtol=1e-3
        )


def test_the_embedded_landmarker_measures_yaw(renders: RenderedFaces) -> None:
    from facesyn.identity.networks import Landmarker
    from facesyn.training.landmarker import measure_landmarker

    model = Landmarker.from_pretrained(resolve("mini", "landmarker"), local_files_only=True).eval()
    few = RenderedFaces(renders.images[:200], renders.labels[:200])
    assert measure_landmarker(model, few)["yaw_correlation"] > 0.95


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_right_prediction_leads_to_the_truth(kind: str) -> None:
    scheduler = DDIMScheduler.from_config({**new_scheduler().config, "prediction_type": kind})
    z_0, noise = torch.randn(2, 3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([20, 500, 900])
    z_t = scheduler.add_noise(z_0, noise, t)
    right = noise if predicts_noise(scheduler) else scheduler.get_velocity(z_0, noise, t)
    assert torch.allclose(clean_estimate(scheduler, z_t, right, t), z_0, atol=1e-3)
    assert predicts_noise(scheduler) == (kind == "epsilon")


def test_other_predictions_are_refused() -> None:
    with pytest.raises(ModelError, match="'sample'"):
        predicts_noise(DDIMScheduler(prediction_type="sample"))


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_timesteps_are_drawn_by_a_power_of_them(power: float) -> None:
    """p(t) ∝ t^k on [0, 1) has the mean (k + 1) / (k + 2)."""
    t = draw_timesteps(20_000, torch.Generator().manual_seed(0), power)
    assert t.min() >= 0 and t.max() < 1000
    assert float(t.float().mean()) / 1000 == pytest.approx((power + 1) / (power + 2), abs=0.01)


@pytest.mark.parametrize("second", [False, True])
def test_a_classifier_learns_categories_and_says_how_often_it_is_right(
    renders: RenderedFaces, tmp_path: Path, second: bool
) -> None:
    from facesyn.identity.networks import AttributeNet
    from facesyn.training.classifier import JUDGE, grey, train_classifier

    few = RenderedFaces(renders.images[:64], renders.labels[:64])
    settings = Settings(
        steps=30, batch_size=16, learning_rate=2e-3, threads=1, report_every=10, validate_every=30, warmup=1
    )
    train_classifier(few, few, tmp_path, settings, lambda line: None, JUDGE if second else None)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["gender"] < lines[0]["gender"]
    model = AttributeNet.from_pretrained(tmp_path / "model", local_files_only=True).eval()
    assert set(model.config["categories"]) == {"ethnicity", "gender", "age_interval"}
    assert (model.config["size"] == JUDGE["size"]) == second
    pictures = grey(few.batch(range(2)))
    assert torch.equal(pictures[:, 0], pictures[:, 2])
    assert model(pictures)["gender"].shape == (2, len(model.config["categories"]["gender"]))


def test_a_colour_path_carries_green_through_an_autoencoder() -> None:
    """Into one latent channel and out again, in a network that would drop it."""
    torch.manual_seed(0)
    pictures = F.interpolate(torch.randn(8, 3, 8, 8) * 0.3, size=64, mode="bilinear")
    axis = F.avg_pool2d(torch.einsum("nchw,c->nhw", pictures, colour_path.AXIS)[:, None], 8).flatten()
    model = new_autoencoder(64)

    def correlations() -> tuple[float, float]:
        with torch.no_grad():
            latents = model.encode(pictures).latent_dist.mode()
            decoded = torch.einsum("nchw,c->nhw", model.decode(latents).sample, colour_path.AXIS)
        inside = max(abs(np.corrcoef(latents[:, c].flatten(), axis)[0, 1]) for c in range(latents.shape[1]))
        return float(inside), float(np.corrcoef(F.avg_pool2d(decoded[:, None], 8).flatten(), axis)[0, 1])

    before = correlations()
    colour_path.lay_colour_path(model, pictures)
    after = correlations()
    assert after[0] > max(0.6, before[0]) and after[1] > max(0.4, before[1])


def test_channels_weigh_what_they_change_in_decoded_pictures() -> None:
    torch.manual_seed(0)
    vae = new_autoencoder(32, latent_channels=3).requires_grad_(False)
    vae.post_quant_conv.weight[:, 1] = 0  # nobody hears this one
    weights = channel_weights(vae, torch.randn(4, 3, 4, 4)).flatten()
    assert weights[1] == 0 and weights[0] > 0 and float(weights.mean()) == pytest.approx(1)


def test_training_pictures_vary_within_range() -> None:
    pictures = torch.rand(6, 3, 32, 32) * 2 - 1
    for change in (augmentation.move, augmentation.relight, augmentation.lose_detail):
        first, again = (change(pictures, np.random.default_rng(3)) for _ in range(2))
        assert torch.equal(first, again) and first.shape == pictures.shape
        assert not torch.equal(first, pictures)
    assert augmentation.relight(pictures * 9, np.random.default_rng(0)).abs().max() <= 1


def test_renders_that_share_no_style_are_refused() -> None:
    labels = [{"identity": name, "style": style} for name, style in (("a", -1), ("a", 0), ("b", -1), ("b", 1))]
    faces = RenderedFaces(np.zeros((4, 8, 8, 3), np.uint8), labels)
    nobody: Any = None  # refused before anything is asked
    with pytest.raises(UsageError, match="same style"):
        evaluate_transfer(nobody, nobody, nobody, nobody, faces, count=2)


def test_a_released_model_is_half_as_large_and_says_nothing_of_its_maker(tmp_path: Path) -> None:
    vae = new_autoencoder(32)
    vae.register_to_config(_name_or_path="/home/somebody/runs/vae")
    vae.save_pretrained(tmp_path / "run")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "old.json").write_text("{}")
    release_model(tmp_path / "run", tmp_path / "bundle")
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    assert "somebody" in (tmp_path / "run" / "config.json").read_text()
    assert "somebody" not in (tmp_path / "bundle" / "config.json").read_text()
    released = AutoencoderKL.from_pretrained(tmp_path / "bundle", torch_dtype=torch.float16)
    for name, value in vae.state_dict().items():
        assert torch.equal(released.state_dict()[name], value.half())


def test_the_mean_of_two_models_lies_between_them(tmp_path: Path) -> None:
    from facesyn.identity.networks import Landmarker
    from facesyn.training.soup import mean

    models = [Landmarker(widths=(8, 8, 8)) for _ in range(2)]
    for name, model in zip(("before", "after"), models, strict=True):
        model.save_pretrained(tmp_path / name)
    mean(tmp_path / "before", tmp_path / "after", 0.25, tmp_path / "mean")
    found = Landmarker.from_pretrained(tmp_path / "mean", local_files_only=True).state_dict()
    old, new = (model.state_dict() for model in models)
    name = "head.1.weight"
    torch.testing.assert_close(found[name], 0.75 * old[name] + 0.25 * new[name])
    Landmarker(widths=(8, 8, 16)).save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="is not that of"):
        mean(tmp_path / "before", tmp_path / "other", 0.5, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_mirrored_portrait_is_learned_from_mirrored_edges(renders: RenderedFaces) -> None:
    from facesyn.prompting.formulation import load
    from facesyn.training.ufg import Portraits, edge_maps

    faces = RenderedFaces(renders.images[:4], renders.labels[:4])
    edges = edge_maps(faces)
    mirrored = edge_maps(RenderedFaces(np.ascontiguousarray(faces.images[:, :, ::-1]), faces.labels))
    people = Portraits(torch.zeros(2, 4, 12, 16, 16), edges, np.ones_like(edges, bool), faces.labels, load())
    draws = [np.random.default_rng(seed) for seed in range(8)]
    learned = [people.condition(seed % 4, rng, flip=True) for seed, rng in enumerate(draws)]
    assert any(each.any() for each in learned)
    for seed, each in enumerate(learned):
        if each.any():  # Canny is not quite symmetrical
            assert (each != mirrored[seed % 4]).mean() < 0.02 < (each != edges[seed % 4]).mean()
