"""The face recognisers of the field: IResNet and MobileFaceNet, beside the embedded one. Loads torch when imported."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from facesyn.errors import ModelError
from facesyn.identity.networks import Recogniser

IRESNET_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}
BACKBONES = ("iresnet18", "iresnet34", "iresnet50", "iresnet100", "mobilefacenet", "mini")


class _ImprovedBlock(nn.Module):
    """The residual block of ArcFace's LResNet-IR: BN, conv, BN, PReLU, conv with the stride, BN."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.skip(x)


class IResNet(ModelMixin, ConfigMixin):
    """LResNetE-IR of ArcFace (Deng et al. 2019); depth 50 is LResNet50E-IR.

    Input (b, 3, 112, 112) in [-1, 1]; output (b, dim), not normalised. `width` is that of the first level, doubled at
    each next.
    """

    @register_to_config
    def __init__(self, depth: int = 50, dim: int = 512, dropout: float = 0.0, width: int = 64, size: int = 112):
        super().__init__()
        if depth not in IRESNET_BLOCKS:
            raise ModelError(f"There is no IResNet of depth {depth}; there are {', '.join(map(str, IRESNET_BLOCKS))}.")
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)]
        before, side = width, size
        for level, count in enumerate(IRESNET_BLOCKS[depth]):
            for index in range(count):
                layers.append(_ImprovedBlock(before, width * 2**level, 2 if index == 0 else 1))
                before = width * 2**level
            side = -(-side // 2)
        self.trunk = nn.Sequential(*layers, nn.BatchNorm2d(before), nn.Dropout(dropout))
        self.embed = nn.Linear(before * side * side, dim)
        self.normalise = nn.BatchNorm1d(dim)
        self.normalise.weight.requires_grad_(False)  # ArcFace fixes it: the scale of embeddings is the head's affair

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return self.normalise(self.embed(self.trunk(faces).flatten(1)))


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        inner = inputs * expansion
        self.body = nn.Sequential(
            *_conv(inputs, inner, 1),
            nn.PReLU(inner),
            *_conv(inner, inner, 3, stride, 1, inner),
            nn.PReLU(inner),
            *_conv(inner, outputs, 1),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + x if self.residual else self.body(x)


class MobileFaceNet(ModelMixin, ConfigMixin):
    """MobileFaceNet (Chen et al. 2018, table 1). Input (b, 3, 112, 112) in [-1, 1]; output (b, dim), not normalised."""

    @register_to_config
    def __init__(self, dim: int = 128, size: int = 112):
        super().__init__()
        layers: list[nn.Module] = [*_conv(3, 64, 3, 2, 1), nn.PReLU(64), *_conv(64, 64, 3, 1, 1, 64), nn.PReLU(64)]
        before = 64
        for expansion, width, count, stride in (
            (2, 64, 5, 2),
            (4, 128, 1, 2),
            (2, 128, 6, 1),
            (4, 128, 1, 2),
            (2, 128, 2, 1),
        ):
            for index in range(count):
                layers.append(_Bottleneck(before, width, stride if index == 0 else 1, expansion))
                before = width
        side = -(-size // 16)
        self.trunk = nn.Sequential(*layers, *_conv(before, 512, 1), nn.PReLU(512))
        self.embed = nn.Sequential(*_conv(512, 512, side, groups=512), *_conv(512, dim, 1), nn.Flatten())

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return self.embed(self.trunk(faces))


CLASSES: dict[str, type[Any]] = {each.__name__: each for each in (Recogniser, IResNet, MobileFaceNet)}


def new_backbone(name: str) -> IResNet | MobileFaceNet | Recogniser:
    """A fresh backbone of that name, of `BACKBONES`; `mini` is the embedded recogniser's, for processors."""
    if name == "mini":
        return Recogniser()
    return MobileFaceNet() if name == "mobilefacenet" else IResNet(int(name.removeprefix("iresnet")))


def load_recogniser(folder: Path) -> Recogniser | IResNet | MobileFaceNet:
    """The recogniser saved in `folder`, whichever of `CLASSES` it is; safetensors only. Raises ModelError."""
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
        found = CLASSES[named]
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f"{folder} holds none of {', '.join(CLASSES)}.") from None
    model: Recogniser | IResNet | MobileFaceNet = found.from_pretrained(
        folder, local_files_only=True, use_safetensors=True
    )
    return model


def export_onnx(model: nn.Module, file: Path, size: int = 112) -> None:
    """Write `model` as ONNX: input `faces` (b, 3, size, size) in [-1, 1], output `embeddings` (b, dim)."""
    model = model.eval().cpu()
    faces = torch.zeros(2, 3, size, size)
    axes = {0: torch.export.Dim("batch")}
    with torch.no_grad():
        program = torch.onnx.export(
            model,
            (faces,),
            input_names=["faces"],
            output_names=["embeddings"],
            dynamic_shapes=(axes,),
            opset_version=18,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(file), external_data=False)
