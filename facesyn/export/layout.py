"""Which graphs a model's folder holds and where, for those who write and those who read them. Loads nothing."""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path

GRAPHS: Mapping[str, Mapping[str, str]] = {
    "ufg": {
        "text": "text_encoder/model.onnx",
        "condition": "controlnet/condition.onnx",
        "controlnet": "controlnet/model.onnx",
        "unet": "unet/model.onnx",
        "decoder": "vae/decoder.onnx",
        "encoder": "vae/encoder.onnx",
    },
    "atd": {
        "unet": "unet/model.onnx",
        "style": "style_encoder/model.onnx",
        "decoder": "vae/decoder.onnx",
        "encoder": "vae/encoder.onnx",
    },
    "recogniser": {"recogniser": "model.onnx"},
}
"""Part of a model → network → its graph. The weights are the safetensors file in the same folder."""

PARITY = "parity.json"
"""Beside the exported parts: how far each network was from PyTorch when it was exported."""

_INCIDENTAL = ("_", "transformers_version")
"""Keys of a configuration that say nothing of the network: library versions, where it once lay."""

PRECISIONS = ("fp32", "fp16", "int8")

SHAPE, PRECISION = "facesyn.shape", "facesyn.precision"
"""Keys of a graph's metadata: `shape_of` the folder it fits, where its weights lie beside it; one of `PRECISIONS`."""


def weights_file(folder: Path) -> Path:
    """The one safetensors file of a network's folder; one of that name that is not there, where there is none."""
    found = sorted(folder.glob("*.safetensors"))
    return found[0] if len(found) == 1 else folder / "diffusion_pytorch_model.safetensors"


def shape_of(folder: Path) -> str:
    """SHA-256 (hex) over the network's configuration and the header of its weights: names, types, shapes, offsets.

    A graph fits every folder of the same shape: it holds no values, only places in the file of weights.
    """
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    said = {key: value for key, value in said.items() if key == "_class_name" or not key.startswith(_INCIDENTAL)}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    with weights_file(folder).open("rb") as stream:
        length = stream.read(8)
        digest.update(length + stream.read(struct.unpack("<Q", length)[0]))
    return digest.hexdigest()


def has_graphs(folder: Path, part: str) -> bool:
    """Whether `folder` holds every graph of `part` that making pictures needs."""
    return all((folder / file).is_file() for name, file in GRAPHS[part].items() if part != "ufg" or name != "encoder")
