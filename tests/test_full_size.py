"""A full-size ATD's training, on a small Stable Diffusion of random weights in the same format."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import typer
from diffusers import UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from facesyn.atd import ATDPipeline, sampling
from facesyn.cli import app
from facesyn.errors import ModelError, UsageError
from facesyn.labelled import LabelledFaces, read_labelled
from facesyn.training import stable_diffusion
from facesyn.training.loop import Settings


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.sd15(tmp_path_factory.mktemp("sd15"))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one subfolder per person, three pictures each."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    for person in range(4):
        (folder / f"{person}").mkdir()
        for number in range(3):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((80, 70)).save(folder / f"{person}" / f"{number}.png")
    return folder


@pytest.mark.parametrize("layout", [False, True])
@torch.no_grad()
def test_the_first_step_is_stable_diffusion(base: Path, layout: bool) -> None:
    atd = stable_diffusion.begin(base, layout)
    z_t, z_id, z_ref = torch.randn(3, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    style, absent = atd.style(z_ref)
    t = torch.tensor([700, 20])
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    words = CLIPTokenizer.from_pretrained(base, subfolder="tokenizer")
    tokens = words(stable_diffusion.CAPTION, padding="max_length", max_length=26, truncation=True, return_tensors="pt")
    context = CLIPTextModel.from_pretrained(base, subfolder="text_encoder")(tokens.input_ids)[0]
    plain = unet(z_t, t, context.expand(2, -1, -1)).sample
    for each in (style, absent):
        assert torch.allclose(atd.network(sampling.join(z_t, z_id, each), t, each), plain, atol=1e-5)


def test_photographs_are_their_own_references_and_renders_are_not(people: Path) -> None:
    faces = read_labelled(people)
    pairs, exact = stable_diffusion.pair(faces)
    assert not exact and len(pairs) == 4 * 3 * 2
    for target, source, references in zip(pairs.target, pairs.source, pairs.references, strict=True):
        assert references == [target] and source != target
        assert faces.identities[source] == faces.identities[target]
    labels = [{"identity": name, "style": style} for name in "ab" for style in (-1, 7)]
    rendered = LabelledFaces(list("0123"), np.array(list("aabb")), labels, faces.open)
    pairs, exact = stable_diffusion.pair(rendered)
    assert exact and pairs.target == [1, 3] and pairs.source == [0, 2] and pairs.references == [[3], [1]]
    with pytest.raises(UsageError, match="two pictures"):
        stable_diffusion.pair(faces.subset([0, 3, 6]))


def test_it_begins_from_stable_diffusion_only(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no Stable Diffusion"):
        stable_diffusion.begin(tmp_path, False)
    with pytest.raises(ModelError, match="another kind"):
        stable_diffusion.begin(tiny.sdxl(tmp_path / "sdxl"), False)


def test_two_processes_train_it_and_go_on_where_they_stopped(base: Path, people: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def train(steps: int) -> None:
        options = f"--base {base} --dataset {people} -o {run} --steps {steps} --batch-size 2 --threads 1 --device cpu"
        launch = "-m torch.distributed.run --standalone --nproc_per_node 2"
        command = [sys.executable, *launch.split(), "-m", "facesyn", "train", "atd", *options.split()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr

    train(2)
    first = torch.load(run / "checkpoint.pt", weights_only=True)
    train(3)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3]
    assert lines[0]["samples"] == 8 and "held_out_ssim" in lines[-1]
    second = torch.load(run / "checkpoint.pt", weights_only=True)
    assert second["step"] == 3
    changed = [name for name, value in second["module"].items() if not torch.equal(value, first["module"][name])]
    assert "unet.conv_in.weight" in changed and "style_encoder.patch.1.weight" in changed
    made = ATDPipeline.from_pretrained(run / "model")
    assert made.unet.config["in_channels"] == 8 and made.size == 64
    assert Image.open(run / "samples-0000003.png").size == (4 * 64, 6 * 64)


def test_it_learns_to_sample_in_one_step_that_begins_at_pure_noise(base: Path, people: Path, tmp_path: Path) -> None:
    settings = Settings(1, 2, 1e-5, threads=1, report_every=1, validate_every=1, warmup=1)
    stable_diffusion.train_full_size(
        base, read_labelled(people), tmp_path, settings, lambda line: None, sampling_steps=1
    )
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert {"prediction", "held_out_ssim"} <= set(line)
    scheduler = ATDPipeline.from_pretrained(tmp_path / "model").scheduler
    scheduler.set_timesteps(1)
    assert scheduler.timesteps.tolist() == [999]


def test_the_command_wants_one_source_of_people(base: Path, people: Path, tmp_path: Path, facesyn: Any) -> None:
    for wrong in ("ufg --dataset", "atd --held-out", ""):
        what, *options = (wrong or "atd").split()
        given = [*options, str(people)] if options else []
        result = facesyn("train", what, "--base", str(base), *given, "-o", str(tmp_path / "run"))
        assert result.exit_code == 2 and "--base" in result.stderr and not (tmp_path / "run").exists()


def test_torchrun_takes_no_option_of_a_training_for_its_own() -> None:
    """It also reads what follows the module's name, and refuses what may be short for one of its options."""
    from torch.distributed.run import get_args_parser

    theirs = [option for action in get_args_parser()._actions for option in action.option_strings]
    parameters = typer.main.get_command(app).commands["train"].params
    ours = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
    assert "--begin-from" in ours and "--start-method" in theirs
    assert not [option for option in ours - {"--help"} if any(their.startswith(option) for their in theirs)]
