"""Networks that look on while another is trained: what they learn, and what they say."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facesyn.errors import ModelError
from facesyn.rendered import RenderedFaces, StylePairs
from facesyn.tensors import has_bf16
from facesyn.training import latent_recogniser
from facesyn.training.loop import Losses, Settings
from facesyn.training.schedule import new_scheduler


def test_atd_trains_with_a_judge_of_latents(renders: RenderedFaces, tmp_path: Path) -> None:
    from facesyn.atd import ATDPipeline
    from facesyn.models import resolve
    from facesyn.training.atd import train_atd
    from facesyn.training.latent_classifier import train_latent_classifier
    from facesyn.training.latent_recogniser import train_latent_recogniser

    vae = resolve("mini", "atd") / "vae"
    few = RenderedFaces(renders.images[:144], renders.labels[:144])
    brief = Settings(2, 16, 1e-3, threads=1, report_every=1, validate_every=2, warmup=1)
    train_latent_recogniser(few, few, vae, tmp_path / "judge", brief, lambda line: None)
    train_latent_classifier(few, few, vae, tmp_path / "looks", brief, lambda line: None)
    judges = tmp_path / "judge" / "model", tmp_path / "looks" / "model"
    train_atd(few, few, vae, tmp_path / "atd", brief, lambda line: None, *judges)
    lines = [json.loads(line) for line in (tmp_path / "atd" / "log.jsonl").read_text().splitlines()]
    assert {"prediction", "identity", "leakage", "age_interval"} <= set(lines[0]) and "held_out_face_ssim" in lines[-1]
    saved = ATDPipeline.from_pretrained(tmp_path / "atd" / "model")
    assert saved.unet.config["in_channels"] == 3 * saved.vae.config["latent_channels"]


def test_ufg_goes_on_from_the_released_one_with_judges_of_latents_and_of_pictures(
    renders: RenderedFaces, tmp_path: Path
) -> None:
    from diffusers import StableDiffusionControlNetPipeline

    from facesyn.models import resolve
    from facesyn.training.latent_classifier import train_latent_classifier
    from facesyn.training.ufg import train_ufg

    released = resolve("mini", "ufg")
    few = RenderedFaces(renders.images[:160], renders.labels[:160])
    alone = RenderedFaces(renders.images[:8], renders.labels[:8])
    brief = Settings(2, 16, 1e-5, threads=1, report_every=1, validate_every=2, warmup=1)
    train_latent_classifier(few, few, released / "vae", tmp_path / "looks", brief, lambda line: None)
    brief = replace(brief, start=released)
    judges = resolve("mini", "recogniser"), tmp_path / "looks" / "model"
    train_ufg(few, alone, released / "vae", tmp_path / "ufg", brief, lambda line: None, *judges)
    lines = [json.loads(line) for line in (tmp_path / "ufg" / "log.jsonl").read_text().splitlines()]
    assert set(lines[0]) >= {"v", "identity", "ethnicity", "gender", "age_interval"} and "structure" not in lines[0]
    assert lines[0]["v"] < 0.6  # untrained: above 1
    assert np.load(tmp_path / "ufg" / "latents.npz")["latents"].shape[1] == len(few.sources)
    before, after = (
        StableDiffusionControlNetPipeline.from_pretrained(each, local_files_only=True, safety_checker=None)
        for each in (released, tmp_path / "ufg" / "model")
    )
    assert before.tokenizer.get_vocab() == after.tokenizer.get_vocab()
    for part in ("text_encoder", "unet", "controlnet"):
        old, new = (getattr(each, part).state_dict() for each in (before, after))
        assert all(torch.allclose(old[name], new[name], atol=1e-3) for name in old)
        assert any(not torch.equal(old[name], new[name]) for name in old)


def test_a_recogniser_of_latents_comes_to_see_what_its_teacher_sees(renders: RenderedFaces, tmp_path: Path) -> None:
    from facesyn.identity.encoders import open_encoder
    from facesyn.models import resolve
    from facesyn.training.latent_recogniser import train_latent_recogniser

    few = RenderedFaces(renders.images[:160], renders.labels[:160])
    settings = Settings(40, 32, 2e-3, threads=1, report_every=10, validate_every=40, warmup=1)
    teacher = open_encoder("mini", {"device": "cpu"})
    train_latent_recogniser(few, few, resolve("mini", "atd") / "vae", tmp_path, settings, lambda line: None, teacher)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["teacher"] < 0.7 * lines[0]["teacher"]


@pytest.mark.parametrize("teacher", [None, "mini"])
def test_a_classifier_of_latents_learns_and_then_judges_transfers(
    renders: RenderedFaces, tmp_path: Path, teacher: str | None
) -> None:
    from facesyn.identity.encoders import open_classifier
    from facesyn.models import resolve
    from facesyn.training.judges import AttributeJudge
    from facesyn.training.latent_classifier import train_latent_classifier

    few = RenderedFaces(renders.images[:160], renders.labels[:160])
    settings = Settings(60, 32, 2e-3, threads=1, report_every=15, validate_every=60, warmup=1)
    taught_by = open_classifier(teacher, {}) if teacher else None
    train_latent_classifier(few, few, resolve("mini", "atd") / "vae", tmp_path, settings, lambda line: None, taught_by)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["gender"] < 0.8 * lines[0]["gender"]
    assert lines[-1]["held_out_gender"] > 0.6 and lines[-1]["held_out_gender_grey"] > 0.6
    latents = torch.from_numpy(np.load(tmp_path / "latents.npz")["latents"][0, :64]).float()
    judge = AttributeJudge(tmp_path / "model")
    others, noise = latents.roll(1, 0), torch.Generator().manual_seed(0)
    same, other = (judge(latents, target, noise, others) for target in (latents, others))
    assert set(same) == {"ethnicity", "gender", "age_interval"}
    assert all(same[name] < 0.5 * other[name] for name in same)


def test_latents_without_colour_are_those_of_the_grey_picture(
    renders: RenderedFaces, tmp_path: Path, autoencoder: Any
) -> None:
    from facesyn.atd import sampling
    from facesyn.training.classifier import grey
    from facesyn.training.latent_classifier import LatentAttributeNet

    pictures = renders.batch(range(0, 96, 2))
    with torch.no_grad():
        coloured, colourless = (sampling.encode(autoencoder, each) for each in (pictures, grey(pictures)))
    net = LatentAttributeNet({"gender": ["female", "male"]}, size=16, channels=12)
    net.fit_colourless(coloured[:32], colourless[:32])
    net.save_pretrained(tmp_path)
    found = LatentAttributeNet.from_pretrained(tmp_path, local_files_only=True).colourless(coloured[32:])
    assert (found - colourless[32:]).square().mean() < 0.1 * (coloured[32:] - colourless[32:]).square().mean()


def test_a_classifier_that_knows_no_grey_is_no_judge(tmp_path: Path) -> None:
    from facesyn.identity.networks import AttributeNet
    from facesyn.training.judges import AttributeJudge

    shape: dict[str, Any] = {"size": 16, "widths": (96, 192), "blocks": (2, 2), "channels": 12, "stem_stride": 1}
    AttributeNet({"gender": ["female", "male"]}, **shape).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="learned in grey"):
        AttributeJudge(tmp_path)


def test_a_batch_without_whole_samples_is_not_judged(autoencoder: Any) -> None:
    from facesyn.training.atd import Drops, TransferLosses, new_atd

    def judge(estimate: torch.Tensor, *rest: Any) -> Losses:
        return {"judged": estimate.square().mean()}

    pairs = StylePairs([0, 1], [2, 3], [[1], [0]])
    for drops, judged in ((Drops(1.0, 0.0, 0.0), False), (Drops(0.0, 0.0, 0.0), True)):
        losses = TransferLosses(
            new_atd(autoencoder),
            new_scheduler(),
            torch.randn(2, 4, 12, 16, 16),
            pairs,
            2,
            torch.device("cpu"),
            judges=[judge],
            drops=drops,
        )
        terms = losses(np.random.default_rng(0), torch.Generator().manual_seed(0))
        assert ("judged" in terms) == judged and all(term.isfinite() for term in terms.values())


@pytest.fixture
def judge(tmp_path: Path, autoencoder: Any) -> Any:
    from facesyn.identity.networks import Recogniser
    from facesyn.training.judges import judges

    torch.manual_seed(0)
    Recogniser(size=12, channels=8, stem_stride=1, widths=(16,), blocks=(1,)).save_pretrained(tmp_path)
    return judges(tmp_path, None, autoencoder, "cpu")[0]


def judgements(judge: Any) -> Iterator[Any]:
    """What it says of the target, then of the reference, as estimates of the target."""
    target, reference = torch.randn(4, 8, 16, 16), torch.randn(4, 8, 16, 16)
    for estimate in (target, reference):
        yield judge(estimate, target, torch.Generator().manual_seed(0), reference)


def test_the_identity_judge_prefers_the_target_to_the_reference(judge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent_recogniser, "NOISE", 0.0)
    right, wrong = judgements(judge)
    assert right["identity"] < 1e-4 and right["leakage"] == 0
    assert wrong["identity"] > 0.01 and wrong["leakage"] > 0.01


def test_a_recogniser_of_pictures_judges_identities_as_well(renders: RenderedFaces, autoencoder: Any) -> None:
    from facesyn.atd import sampling
    from facesyn.models import resolve
    from facesyn.training.judges import PictureJudge, judges

    (judge,) = judges(resolve("mini", "recogniser"), None, autoencoder, "cpu")
    assert isinstance(judge, PictureJudge)
    portraits = list(renders.sources.values())
    target, reference = (renders.batch(portraits[i : i + judge.DECODED]) for i in (0, judge.DECODED))
    with torch.no_grad():
        right, wrong = (sampling.encode(autoencoder, pictures) for pictures in (target, reference))
    right.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16(torch.device("cpu"))):  # as in a training
        same, other = (judge(each, right.detach(), torch.Generator().manual_seed(0), wrong) for each in (right, wrong))
    assert same["identity"] < 0.3 * other["identity"] and same["leakage"] < 0.1 * other["leakage"]
    assert same["structure"] < 1e-4 < 0.05 < other["structure"]
    same["identity"].backward()
    assert right.grad is not None and right.grad.abs().amax((1, 2, 3)).min() > 0


def test_a_classifier_of_pictures_judges_transfers_as_well(renders: RenderedFaces, autoencoder: Any) -> None:
    from facesyn.atd import sampling
    from facesyn.models import resolve
    from facesyn.training.judges import judges

    (judge,) = judges(None, resolve("mini", "classifier"), autoencoder, "cpu")
    young, old = (
        [i for i in renders.sources.values() if renders.labels[i]["age_interval"] == age][:4]
        for age in ("18-29", "60-80")
    )
    with torch.no_grad():
        target, other = (sampling.encode(autoencoder, renders.batch(part)) for part in (young, old))
    target.requires_grad_()
    same, changed = (judge(each, target.detach(), torch.Generator().manual_seed(0), other) for each in (target, other))
    assert set(same) == {"structure", "ethnicity", "gender", "age_interval"}
    assert same["age_interval"] < 0.5 * changed["age_interval"]
    same["age_interval"].backward()
    assert target.grad is not None and target.grad.abs().amax((1, 2, 3)).min() > 0


def test_the_identity_judge_prefers_it_under_noise_too(judge: Any) -> None:
    right, wrong = judgements(judge)
    assert right["identity"] < 0.2 * wrong["identity"] and right["leakage"] == 0
    assert wrong["identity"] > 0.01 and wrong["leakage"] > 0.01


@pytest.mark.parametrize(
    ("what", "option", "helped"),
    [
        ("recogniser", "--teacher", "latent-recogniser"),
        ("decoder", "--classifier", "ufg, atd"),
        ("landmarker", "--judge", "autoencoder, decoder, ufg, atd"),
        ("ufg", "--sampling-steps", "atd"),
    ],
)
def test_a_helper_that_would_not_be_asked_is_refused(
    facesyn: Any, tmp_path: Path, what: str, option: str, helped: str
) -> None:
    result = facesyn("train", what, option, "1", "-o", tmp_path / "run")
    assert result.exit_code == 2 and f"{option} is for {helped}" in result.stderr
    assert not (tmp_path / "run").exists()
