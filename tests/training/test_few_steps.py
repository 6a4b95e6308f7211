"""Learning to sample in few steps: which timesteps, and how."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from facesyn.errors import UsageError
from facesyn.labelled import CELL
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


def test_ufg_learns_from_the_faces_it_samples_and_goes_on(renders: RenderedFaces, tmp_path: Path) -> None:
    from facesyn.models import resolve
    from facesyn.training.ufg import train_ufg

    released = resolve("mini", "ufg")
    few, alone = (RenderedFaces(renders.images[:n], renders.labels[:n]) for n in (320, 8))
    judges = resolve("mini", "judge"), resolve("mini", "classifier")
    for steps in (1, 2):
        settings = Settings(steps, 4, 1e-5, threads=1, report_every=1, validate_every=2, warmup=1, start=released)
        train_ufg(few, alone, released / "vae", tmp_path, settings, lambda line: None, *judges, sampling_steps=2)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert {"v", "spread", "ethnicity", "gender", "age_interval"} <= set(lines[0]) and lines[0]["v"] < 0.6
    assert list(tmp_path.glob("samples-*.png")) and (tmp_path / "model" / "unet").is_dir()


class Onlooker:
    """A judge that keeps what it is shown."""

    def __call__(
        self, made: torch.Tensor, wanted: torch.Tensor, shapes: torch.Tensor, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        self.made, self.wanted, self.shapes = made, wanted, shapes
        return {"seen": made.square().mean()}


@pytest.fixture
def released() -> Any:
    """The embedded UFG as diffusers' own pipeline."""
    from diffusers import StableDiffusionControlNetPipeline

    from facesyn.models import resolve

    folder = resolve("mini", "ufg")
    found = StableDiffusionControlNetPipeline.from_pretrained(folder, local_files_only=True, safety_checker=None)
    found.set_progress_bar_config(disable=True)
    return found


def test_what_ufg_is_judged_by_is_what_it_samples(
    released: Any, renders: RenderedFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one cell, each from the prompt of one and the edges of another, as diffusers' own pipeline samples them."""
    from facesyn.prompting.formulation import load
    from facesyn.training.ufg import FaceLosses, Portraits, UFGNetworks

    labels = [renders.labels[index] for index in renders.sources.values()][:64]
    latents = torch.arange(len(labels))[:, None, None, None] + torch.zeros(1, 12, 16, 16)  # told apart by their values
    edges = np.zeros((len(labels), 128, 128), np.uint8)
    for number, each in enumerate(edges):
        each[40 : 50 + number] = 255
    monkeypatch.setattr(Portraits, "caption", lambda self, index, rng: f"person {index}")
    judge, device = Onlooker(), torch.device("cpu")
    losses = FaceLosses(
        UFGNetworks(released.text_encoder, released.unet, released.controlnet),
        released.tokenizer,
        released.scheduler,
        Portraits(latents, edges, np.ones_like(edges, bool), labels, load()),
        2,
        device,
        torch.ones(12, 1, 1),
        people=judge,  # type: ignore[arg-type]  # only called
        sampling_steps=3,
    )
    visited: list[tuple[torch.Tensor, ...]] = []
    released.unet.register_forward_pre_hook(lambda unet, inputs: visited.append(inputs))
    terms = losses(np.random.default_rng(0), torch.Generator().manual_seed(0))
    learned, *sampled = visited[:4]
    steps = [999, 666, 332]
    assert set(learned[1].tolist()) <= set(steps) and [int(t) for _, t, *_ in sampled] == steps

    asked, lenders = (part[:, 0, 0, 0].long().tolist() for part in (judge.wanted, judge.shapes))
    assert sorted(asked) == sorted(lenders) and all(a != b for a, b in zip(asked, lenders, strict=True))
    assert len({tuple(labels[i][key] for key in CELL) for i in asked}) == 1
    again = released(
        [f"person {i}" for i in asked],
        image=[Image.fromarray(edges[i]).convert("RGB") for i in lenders],
        latents=sampled[0][0],
        num_inference_steps=3,
        guidance_scale=1.0,
        output_type="latent",
    ).images
    assert torch.allclose(judge.made, again, atol=1e-4)
    terms["seen"].backward()
    assert all(each.grad is not None and each.grad.any() for each in released.unet.conv_in.parameters())


def test_judged_people_are_to_look_as_asked_and_be_as_unlike_as_people_are(
    renders: RenderedFaces, autoencoder: Any
) -> None:
    from facesyn.atd import sampling
    from facesyn.models import resolve
    from facesyn.training.judges import people_judge

    judge = people_judge(resolve("mini", "judge"), resolve("mini", "classifier"), autoencoder, "cpu")
    assert judge is not None
    young, old = (
        [i for i in renders.sources.values() if renders.labels[i]["age_interval"] == age][:6]
        for age in ("18-29", "60-80")
    )
    with torch.no_grad():
        people, others = (sampling.encode(autoencoder, renders.batch(part)) for part in (young, old))
        true, one, aged = (
            judge(made, people, people, torch.Generator().manual_seed(0))
            for made in (people, people[:1].expand(6, -1, -1, -1), others)
        )
    assert true["spread"] < 0.2 * one["spread"]
    assert true["age_interval"] < 0.5 * aged["age_interval"]


@pytest.mark.parametrize(
    ("helpers", "said"),
    [
        ({"classifier_folder": "classifier"}, "judge faces that UFG samples"),
        ({"recogniser_folder": "judge"}, "judge faces that UFG samples"),
        ({"recogniser_folder": "latent", "sampling_steps": 2}, "looks at latents"),
    ],
)
def test_networks_that_could_not_judge_what_ufg_samples_are_refused(
    renders: RenderedFaces, tmp_path: Path, helpers: dict[str, Any], said: str
) -> None:
    from facesyn.identity.networks import Recogniser
    from facesyn.models import resolve
    from facesyn.training.ufg import train_ufg

    Recogniser(size=12, channels=12, stem_stride=1, widths=(16,), blocks=(1,)).save_pretrained(tmp_path / "latent")
    folders = {"latent": tmp_path / "latent", "judge": resolve("mini", "judge")}
    folders["classifier"] = resolve("mini", "classifier")
    passed = {name: folders.get(value, value) for name, value in helpers.items()}
    with pytest.raises(UsageError, match=said):
        train_ufg(
            renders, renders, resolve("mini", "ufg") / "vae", tmp_path / "run", Settings(1, 2, 1e-5), print, **passed
        )
    assert not (tmp_path / "run").exists()
