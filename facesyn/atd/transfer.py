"""Transfer of pictures over networks of any runtime. Remembers what it has encoded; loads no weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from PIL import Image, ImageOps

from facesyn.atd import sampling
from facesyn.atd.style_encoder import Style
from facesyn.model_folder import setting, switch
from facesyn.tensors import to_pictures, to_tensor

SOURCES, REFERENCES = 64, 1024
"""Faces and styles remembered: a source stays for the pictures of its person, a reference serves many people.

A mirrored one counts as another."""


class Networks(Protocol):
    """The networks of an ATD model, in some runtime. Tensors in and out are on `device`, in `dtype`."""

    scheduler: Any

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def size(self) -> int:
        """Side of the pictures, in pixels."""
        ...

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """(b, 3, size, size) in [-1, 1] → latents of unit variance."""
        ...

    def style(self, latents: torch.Tensor) -> tuple[Style, Style]:
        """Of references' latents: their style, and what stands for none."""
        ...

    def network(self, joined: torch.Tensor, t: torch.Tensor, style: Style) -> torch.Tensor:
        """One UNet call: (b, in_channels, h, w), timestep, style → (b, c, h, w)."""
        ...

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The inverse of `encode`."""
        ...


@dataclass(frozen=True)
class Settings:
    """How a model is sampled: see `facesyn.atd.sampling.denoise`.

    `mirrored` makes every face once more, from mirrored pictures, and gives the mean of both: twice the cost, and what
    only one of them gets wrong is wrong by half.
    """

    steps: int
    identity_scale: float
    style_scale: float
    identity_from: int
    mirrored: bool


def transfer_settings(
    defaults: Mapping[str, Any],
    steps: int | None = None,
    identity_scale: float | None = None,
    style_scale: float | None = None,
    identity_from: int | None = None,
    mirrored: bool | None = None,
) -> Settings:
    """What is asked for, else what the model was made for. Raises UsageError for what cannot be sampled with.

    Of fewer steps than the model was made for, the last is still guided.
    """
    steps = setting(defaults, "steps", steps, 20, least=1)
    first = setting(defaults, "identity_from", identity_from, 0, least=0)
    return Settings(
        steps,
        setting(defaults, "identity_scale", identity_scale, 1.0, least=0.0),
        setting(defaults, "style_scale", style_scale, 1.0, least=0.0),
        min(first, steps - 1) if identity_from is None else first,
        switch(defaults, "mirrored", mirrored),
    )


class TransferSampler:
    """Sources into the style of references, with the networks and settings it is given."""

    def __init__(self, networks: Networks, settings: Settings):
        self._networks, self._settings = networks, settings
        self._latents = _remembered(self._encode, SOURCES)
        self._styles = _remembered(lambda picture: networks.style(self._encode(picture)), REFERENCES)

    def facts(self) -> dict[str, Any]:
        """What the sampling adds to a row's facts, in whatever runtime."""
        return {
            "scheduler": type(self._networks.scheduler).__name__,
            **asdict(self._settings),
            "size": self._networks.size,
        }

    @torch.no_grad()
    def __call__(
        self, sources: Sequence[Image.Image], references: Sequence[Image.Image], seeds: Sequence[int]
    ) -> list[Image.Image]:
        """See `facesyn.protocols.AttributeTransfer.transfer`."""
        settings = asdict(self._settings)
        mirrored = settings.pop("mirrored")
        made = self._made(sources, references, seeds, **settings)
        if mirrored:
            made = (made + self._made(_mirrored(sources), _mirrored(references), seeds, **settings).flip(-1)) / 2
        return to_pictures(made)

    def _made(
        self, sources: Sequence[Image.Image], references: Sequence[Image.Image], seeds: Sequence[int], **settings: Any
    ) -> torch.Tensor:
        networks = self._networks
        z_id = torch.cat([self._latents(source) for source in sources])
        styles, absent = zip(*map(self._styles, references), strict=True)
        z = sampling.noise(seeds, tuple(z_id.shape[1:])).to(networks.device, networks.dtype)
        z = sampling.denoise(
            networks.network,
            networks.scheduler,
            z,
            z_id,
            sampling.stack(styles),
            sampling.stack(absent),
            **settings,
        )
        return networks.decode(z)

    def _encode(self, picture: Image.Image) -> torch.Tensor:
        pixels = to_tensor([picture], self._networks.size)
        return self._networks.encode(pixels.to(self._networks.device, self._networks.dtype))


def _mirrored(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    return [ImageOps.mirror(picture) for picture in pictures]


def _remembered(compute: Callable[[Image.Image], Any], size: int) -> Callable[[Image.Image], Any]:
    """`compute`, once per content of a picture, one at a time: nothing remembered depends on a batch."""

    @lru_cache(maxsize=size)
    def by_content(side: tuple[int, int], pixels: bytes) -> Any:
        return compute(Image.frombytes("RGB", side, pixels))

    def remembering(picture: Image.Image) -> Any:
        picture = picture.convert("RGB")
        return by_content(picture.size, picture.tobytes())

    return remembering
