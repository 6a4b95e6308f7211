"""Margin heads: embeddings and labels in, a loss out. Loads torch when imported."""

import math

import torch
import torch.nn.functional as F
from torch import nn

HEADS = ("arcface", "cosface", "adaface")


class MarginHead(nn.Module):
    """A classifier over people whose own class must win by a margin. `kind` is one of `HEADS`.

    ArcFace (Deng et al. 2019): cos(θ + m), beyond θ + m = π continued as cos θ − m·sin m. CosFace (Wang et al. 2018):
    cos θ − m. AdaFace (Kim et al. 2022): both margins, weighed by the embedding's norm, which stands for picture
    quality.
    """

    QUALITY_SPREAD = 0.333
    QUALITY_MOMENTUM = 0.01

    norm_mean: torch.Tensor
    norm_std: torch.Tensor

    def __init__(self, kind: str, dim: int, people: int, margin: float, scale: float):
        super().__init__()
        self.kind, self.margin, self.scale = kind, margin, scale
        self.weight = nn.Parameter(torch.empty(people, dim))
        nn.init.normal_(self.weight, std=0.01)
        self.register_buffer("norm_mean", torch.tensor(20.0))
        self.register_buffer("norm_std", torch.tensor(100.0))

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy; `embeddings` (b, dim) not normalised, `labels` (b,)."""
        return F.cross_entropy(self.logits(embeddings.float(), labels), labels)

    def logits(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(b, people) scaled cosines, the label's own reduced by the margin."""
        cosine = F.linear(F.normalize(embeddings), F.normalize(self.weight)).clamp(-1 + 1e-6, 1 - 1e-6)
        own = cosine.gather(1, labels[:, None])
        if self.kind == "arcface":
            reduced = _turned(own, self.margin)
        elif self.kind == "cosface":
            reduced = own - self.margin
        else:
            reduced = self._adaptive(own, embeddings)
        return self.scale * cosine.scatter(1, labels[:, None], reduced)

    def _adaptive(self, own: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        norm = embeddings.detach().norm(dim=1, keepdim=True).clamp(1e-3, 100)
        if self.training:
            with torch.no_grad():
                self.norm_mean.lerp_(norm.mean(), self.QUALITY_MOMENTUM)
                self.norm_std.lerp_(norm.std(), self.QUALITY_MOMENTUM)
        quality = ((norm - self.norm_mean) / (self.norm_std + 1e-3) * self.QUALITY_SPREAD).clamp(-1, 1)
        angle = (own.acos() - self.margin * quality).clamp(1e-3, math.pi - 1e-3)
        return angle.cos() - (self.margin + self.margin * quality)


def _turned(own: torch.Tensor, margin: float) -> torch.Tensor:
    sine = (1 - own.square()).clamp_min(0).sqrt()
    turned = own * math.cos(margin) - sine * math.sin(margin)
    return torch.where(own > math.cos(math.pi - margin), turned, own - margin * math.sin(margin))
