"""Learning to sample in few steps: which timesteps, and against whom."""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from facesyn.rendered import RenderedFaces
from facesyn.training.adversary import Adversary
from facesyn.training.loop import Settings
from facesyn.training.schedule import new_scheduler, visited_timesteps


def test_only_timesteps_that_sampling_visits_are_learned() -> None:
    scheduler = new_scheduler()
    assert visited_timesteps(scheduler, 1).tolist() == [999]
    assert visited_timesteps(scheduler, 2).tolist() == [999, 499]
    assert len(scheduler.timesteps) == 1000


def test_an_adversary_learns_what_blur_is_and_pushes_away_from_it(renders: RenderedFaces, autoencoder: Any) -> None:
    from facesyn.atd import sampling

    with torch.no_grad():
        true = sampling.encode(autoencoder, renders.batch(range(0, 96, 2)))
    blurred = F.interpolate(F.avg_pool2d(true, 2), scale_factor=2, mode="bilinear")
    torch.manual_seed(0)
    adversary = Adversary(true.shape[1], width=32)
    optimiser = torch.optim.AdamW(adversary.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        optimiser.zero_grad()
        estimate = blurred[:32].clone().requires_grad_()
        terms = adversary.terms(estimate, true[:32], generator)
        terms["told_apart"].backward()
        assert estimate.grad is None
        optimiser.step()
    optimiser.zero_grad()
    estimate = blurred[32:].clone().requires_grad_()
    terms = adversary.terms(estimate, true[32:], generator)
    terms["realism"].backward()
    assert all(parameter.grad is None for parameter in adversary.parameters())
    assert estimate.grad is not None
    with torch.no_grad():
        moved = estimate - 0.2 * estimate.grad / estimate.grad.square().mean().sqrt()
        false, pushed, right = (float(adversary(latents).mean()) for latents in (estimate, moved, true[32:]))
    assert false < -0.3 and right > 0.3 and pushed > false + 0.3


def test_atd_learns_to_sample_in_one_step_and_goes_on(renders: RenderedFaces, tmp_path: Path) -> None:
    from facesyn.atd import ATDPipeline
    from facesyn.models import resolve
    from facesyn.training.atd import train_atd

    released = resolve("mini", "atd")
    few = RenderedFaces(renders.images[:144], renders.labels[:144])
    judges = resolve("mini", "recogniser"), resolve("mini", "classifier")
    for steps in (1, 2):
        settings = Settings(steps, 4, 1e-5, threads=1, report_every=1, validate_every=2, warmup=1, start=released)
        train_atd(few, few, released / "vae", tmp_path, settings, lambda line: None, *judges, sampling_steps=1)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert {"prediction", "told_apart", "realism", "structure", "identity", "age_interval"} <= set(lines[0])
    assert lines[-1]["held_out_face_ssim"] > 0.68
    assert not hasattr(ATDPipeline.from_pretrained(tmp_path / "model"), "adversary")
    assert {name.split(".")[0] for name in torch.load(tmp_path / "checkpoint.pt", weights_only=True)["module"]} == {
        "unet",
        "style_encoder",
        "adversary",
    }
