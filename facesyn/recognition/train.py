"""Trains a recogniser on a folder of people, by a protocol. Resumable at epochs.

Several processes share every batch; batch statistics are each one's own.

A run folder holds `protocol.json` (what is trained, on what), `checkpoint.pt`, `log.jsonl`, and at the end `model/`
(safetensors) and `model.onnx`.
"""

import json
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader

from facesyn.errors import FacesynError, RunError
from facesyn.identity.backbones import export_onnx, new_backbone
from facesyn.labelled import LabelledFaces
from facesyn.recognition.faces import EpochOrder, FaceBatches
from facesyn.recognition.heads import MarginHead
from facesyn.recognition.recipes import Protocol
from facesyn.records import write_bytes

MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def train_on_people(
    faces: LabelledFaces,
    folder: Path,
    protocol: Protocol,
    *,
    seed: int = 0,
    crop: str = "facesyn",
    dtype: str = "fp32",
    cpu: bool = False,
    workers: int = 0,
    stop_after: int | None = None,
    onnx: bool = True,
    report: Callable[[str], None] = lambda line: None,
) -> bool:
    """Train until the protocol's last epoch, or `stop_after` epochs of this sitting; returns whether it was the last.

    Raises RunError where `folder` holds a run of other faces or another protocol, FacesynError for a loss that is not
    finite.
    """
    accelerator = Accelerator(mixed_precision=MIXED[dtype], cpu=cpu or not torch.cuda.is_available())
    set_seed(seed)
    data = FaceBatches(faces, crop, protocol.augmentation, seed)
    facts = {"protocol": protocol.as_dict(), "people": data.people, "images": len(data), "seed": seed, "crop": crop}
    facts["data"] = faces.digest()
    with accelerator.main_process_first():  # the others find the folder claimed
        _claim(folder, json.loads(json.dumps(facts)))
    order = EpochOrder(len(data), seed)
    size = max(2, min(protocol.batch_size, len(data)) // accelerator.num_processes)
    loader = DataLoader(data, size, sampler=order, num_workers=workers, drop_last=len(data) > size)
    backbone = new_backbone(protocol.backbone)
    dim = int(backbone.config["dim"])
    head = MarginHead(protocol.head, dim, data.people, protocol.margin, protocol.scale)
    learner = _Learner(backbone, head)
    optimiser = torch.optim.SGD(
        [p for p in learner.parameters() if p.requires_grad],
        lr=protocol.learning_rate,
        momentum=0.9,
        weight_decay=protocol.weight_decay,
    )
    first = _resume(folder / "checkpoint.pt", learner, optimiser)
    learner, optimiser, loader = accelerator.prepare(learner, optimiser, loader)
    last = protocol.epochs if stop_after is None else min(protocol.epochs, first + stop_after)
    for epoch in range(first, last):
        order.epoch = epoch
        for group in optimiser.param_groups:
            group["lr"] = protocol.rate(epoch)
        line = _epoch(learner, optimiser, loader, accelerator) | {"epoch": epoch + 1, "rate": protocol.rate(epoch)}
        if accelerator.is_main_process:
            _save(folder / "checkpoint.pt", accelerator.unwrap_model(learner), optimiser, epoch + 1)
            with (folder / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            report(json.dumps(line))
        accelerator.wait_for_everyone()
    if last < protocol.epochs:
        return False
    if accelerator.is_main_process:
        trained = accelerator.unwrap_model(learner).backbone.float().cpu().eval()
        trained.save_pretrained(folder / "model")
        if onnx and find_spec("onnxscript"):
            export_onnx(trained, folder / "model.onnx")
        elif onnx:
            report("No ONNX file: pip install 'facesyn[onnx]'.")
    return True


class _Learner(nn.Module):
    """Backbone and head as one module, which is what is shared between processes."""

    def __init__(self, backbone: nn.Module, head: MarginHead):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, faces: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        embeddings = self.backbone(faces)
        with torch.autocast(faces.device.type, enabled=False):
            return self.head(embeddings, labels)


def _epoch(learner: nn.Module, optimiser: Any, loader: Any, accelerator: Accelerator) -> dict[str, float]:
    learner.train()
    began, total, count = time.monotonic(), 0.0, 0
    for faces, labels in loader:
        loss = learner(faces, labels)
        if not torch.isfinite(loss):
            raise FacesynError("The loss is not finite.", hint="Lower --learning-rate, or use --dtype fp32.")
        optimiser.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(learner.parameters(), 5.0)
        optimiser.step()
        total, count = total + float(loss.detach()) * len(faces), count + len(faces)
    seconds = max(time.monotonic() - began, 1e-9)
    return {"loss": round(total / max(count, 1), 5), "images_per_second": round(count / seconds, 1)}


def _claim(folder: Path, facts: dict[str, Any]) -> None:
    """Raises RunError where the folder is another run's; writes what this one is."""
    file = folder / "protocol.json"
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        changed = [key for key in facts if before.get(key) != facts[key]]
        if changed:
            raise RunError(
                f"{folder} holds a run with another {' and '.join(changed)}.", hint="Choose another output folder."
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise RunError(f"{folder} is not empty and holds no run.", hint="Choose an empty output folder.")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(file, (json.dumps(facts, indent=2) + "\n").encode())


def _resume(file: Path, learner: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Load what an earlier sitting left; returns the epoch to go on with."""
    if not file.is_file():
        return 0
    state = torch.load(file, weights_only=True, map_location="cpu")
    learner.load_state_dict(state["learner"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["epoch"])


def _save(file: Path, learner: nn.Module, optimiser: Any, epoch: int) -> None:
    """Write the checkpoint whole or not at all."""
    temporary = file.with_suffix(".tmp")
    torch.save({"learner": learner.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch}, temporary)
    os.replace(temporary, file)
