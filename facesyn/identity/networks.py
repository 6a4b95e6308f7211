"""Small networks that look at faces: recogniser, landmarker, attribute network. Loads torch when imported."""

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn


class _Block(nn.Module):
    """Residual block of the improved ResNet (Duta et al. 2020), with the stride on the first convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.skip(x)


def _trunk(channels: int, widths: tuple[int, ...], blocks: tuple[int, ...], stem_stride: int = 2) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(channels, widths[0], 3, stem_stride, 1, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.PReLU(widths[0]),
    ]
    before = widths[0]
    for width, count in zip(widths, blocks, strict=True):
        for index in range(count):
            layers.append(_Block(before, width, 2 if index == 0 else 1))
            before = width
    return nn.Sequential(*layers, nn.BatchNorm2d(before))


class Recogniser(ModelMixin, ConfigMixin):
    """Embeds faces. Input (b, channels, size, size), pictures in [-1, 1]; output (b, dim), not normalised."""

    @register_to_config
    def __init__(
        self,
        size: int = 112,
        dim: int = 128,
        widths: tuple[int, ...] = (32, 64, 128, 192),
        blocks: tuple[int, ...] = (1, 2, 2, 1),
        reduced: int = 64,
        channels: int = 3,
        stem_stride: int = 2,
    ):
        super().__init__()
        self.trunk = _trunk(channels, tuple(widths), tuple(blocks), stem_stride)
        side = size
        for stride in (stem_stride, *(2 for _ in widths)):
            side = -(-side // stride)
        self.reduce = nn.Sequential(nn.Conv2d(widths[-1], reduced, 1, bias=False), nn.BatchNorm2d(reduced))
        self.embed = nn.Linear(reduced * side * side, dim, bias=False)
        self.normalise = nn.BatchNorm1d(dim, affine=False)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return self.normalise(self.embed(self.reduce(self.trunk(faces)).flatten(1)))


class Landmarker(ModelMixin, ConfigMixin):
    """Five landmarks and head pose of the one face in a picture.

    Input (b, 3, h, w) in [-1, 1], resized to `size`. Output: landmarks (b, 5, 2), x and y in shares of the
    picture's side; pose (b, 3): yaw, pitch, roll in degrees (yaw > 0: the face turns to the right of the picture).
    """

    DEGREES = 45.0

    @register_to_config
    def __init__(self, size: int = 64, widths: tuple[int, ...] = (24, 48, 96), blocks: tuple[int, ...] = (1, 1, 1)):
        super().__init__()
        self.trunk = _trunk(3, tuple(widths), tuple(blocks))
        side = size // 2 ** (len(widths) + 1)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(widths[-1] * side * side, 64), nn.PReLU(64), nn.Linear(64, 13)
        )

    def forward(self, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        size = self.config["size"]
        small = F.interpolate(faces, (size, size), mode="bilinear", antialias=True, align_corners=False)
        out = self.head(self.trunk(small))
        return out[:, :10].view(-1, 5, 2) + 0.5, out[:, 10:] * self.DEGREES


def recognition_crop(faces: torch.Tensor, size: int = 112) -> torch.Tensor:
    """The part of facesyn's own pictures a recogniser looks at: (b, 3, n, n) → (b, 3, size, size).

    facesyn's pictures are already aligned (eyes at 47 % of the height, 23 % of the width apart), so a fixed crop of the
    inner 3/4 (eyes 31 % of its width apart, as in ArcFace's) stands in for the five-point alignment that pictures from
    elsewhere need.
    """
    side = faces.shape[-1]
    margin = side // 8
    inner = faces[:, :, margin : side - margin, margin : side - margin]
    if inner.shape[-1] == size:
        return inner
    return F.interpolate(inner, (size, size), mode="bilinear", antialias=True, align_corners=False)


class AttributeNet(ModelMixin, ConfigMixin):
    """How the one face in a picture looks: scores for the categories of every attribute.

    Input (b, channels, h, w), pictures in [-1, 1], resized to `size`; output: attribute → (b, number of categories),
    before the softmax. `categories` names them in order. The usual size is that of facesyn's pictures: wrinkles are
    fine.
    """

    @register_to_config
    def __init__(
        self,
        categories: dict[str, list[str]],
        size: int = 128,
        widths: tuple[int, ...] = (32, 64, 96, 128),
        blocks: tuple[int, ...] = (1, 1, 1, 1),
        channels: int = 3,
        stem_stride: int = 2,
    ):
        super().__init__()
        self.trunk = _trunk(channels, tuple(widths), tuple(blocks), stem_stride)
        side = size // stem_stride // 2 ** len(widths)
        self.reduce = nn.Sequential(nn.Conv2d(widths[-1], 48, 1, bias=False), nn.BatchNorm2d(48), nn.Flatten())
        self.heads = nn.ModuleDict({name: nn.Linear(48 * side * side, len(of)) for name, of in categories.items()})

    def forward(self, faces: torch.Tensor) -> dict[str, torch.Tensor]:
        size = self.config["size"]
        if faces.shape[-1] != size:
            faces = F.interpolate(faces, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        features = self.reduce(self.trunk(faces))
        return {name: head(features) for name, head in self.heads.items()}

    def flip_averaged(self, faces: torch.Tensor) -> dict[str, torch.Tensor]:
        """As a call; of a picture and its mirror image, whose scores are averaged."""
        seen, mirrored = self(faces), self(faces.flip(3))
        return {name: (scores + mirrored[name]) / 2 for name, scores in seen.items()}


def summed_embeddings(network: nn.Module, *views: torch.Tensor, flip: bool = True) -> torch.Tensor:
    """(b, dim) unit embeddings of b faces: the sum over views of each, (b, 3, n, n) a view, and their mirror images."""
    mirrored = [view.flip(3) for view in views] if flip else []
    return F.normalize(torch.stack([network(view) for view in (*views, *mirrored)]).sum(0).float())


def zoomed(crops: torch.Tensor, factor: float) -> torch.Tensor:
    """(b, 3, n, n) enlarged about the middle by `factor`; what a factor below 1 uncovers is mirrored from inside."""
    matrix = torch.tensor([[1 / factor, 0.0, 0.0], [0.0, 1 / factor, 0.0]]).to(crops).expand(len(crops), 2, 3)
    grid = F.affine_grid(matrix, list(crops.shape), align_corners=False)
    return F.grid_sample(crops, grid, padding_mode="reflection", align_corners=False)
