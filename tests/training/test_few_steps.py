"""Learning to sample in few steps: which timesteps, and how."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facesyn.rendered import RenderedFaces, StylePairs
from facesyn.training.loop import Settings
from facesyn.training.schedule import new_scheduler, visited_timesteps


def test_only_timesteps_that_sampling_visits_are_learned(autoencoder: Any) -> None:
    from facesyn.training.atd import TransferLosses, new_atd

    scheduler = new_scheduler()
    assert visited_timesteps(scheduler, 1).tolist() == [999]
    visited = visited_timesteps(scheduler, 2)
    assert visited.tolist() == [999, 499]
    assert len(scheduler.timesteps) == 1000
    networks, learned = new_atd(autoencoder), []
    networks.unet.register_forward_pre_hook(lambda unet, inputs: learned.extend(inputs[1].tolist()))
    latents, pairs = torch.randn(2, 4, 12, 16, 16), StylePairs([0, 1], [2, 3], [[1], [0]])
    losses = TransferLosses(networks, scheduler, latents, pairs, 16, torch.device("cpu"), visited=visited)
    losses(np.random.default_rng(0), torch.Generator().manual_seed(0))
    assert len(learned) == 16 and set(learned) == {999, 499}


def test_atd_learns_to_sample_in_one_step_and_goes_on(renders: RenderedFaces, tmp_path: Path) -> None:
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
    assert {"prediction", "structure", "identity", "age_interval"} <= set(lines[0])
    assert lines[-1]["held_out_face_ssim"] > 0.68
